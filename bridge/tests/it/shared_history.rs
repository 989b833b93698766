//! What members share of before stays between them, in a bridged group too.

use causeway_bridge::{steps::Steps, storage::dead_letters};
use causeway_groups::machine::ShareError;
use causeway_protocol::{
    content::TextKind,
    ids::{ClientId, Timestamp},
    olm_plaintext::PastText,
};

use crate::world::World;

#[tokio::test]
async fn what_is_shared_in_a_bridged_group_is_neither_the_bridges_nor_the_rooms() {
    let mut world = World::new().await;
    let bridge = world.begin(Steps::default()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let group = alice.create_group("Walkers").await;
    alice.add(group, "bob:b.example").await;
    let stub = world.stub.clone();
    let member = |of: &crate::people::Person| of.client.me().record.member_id;
    let past = || PastText {
        device: alice.client.me().record.device_id,
        client_id: ClientId::new([7; 16]),
        sent_at: Timestamp(1_700_000_000_000),
        kind: TextKind::Text,
        mirror: None,
        body: "before the bridge came".to_owned(),
    };
    let story = async {
        alice.bridge(group, &["@al:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@al:x")).await;
        let roster = alice.client.roster(group).await.unwrap();
        let (bot, _) = roster.bridge().unwrap();
        let to_it = alice.client.share_history(group, bot, vec![past()]).await;
        assert!(matches!(to_it, Err(ShareError::Bridge)), "{to_it:?}");
        alice.client.share_history(group, &member(&bob), vec![past()]).await.unwrap();
        alice.client.chores().await.unwrap();
        alice.say(group, &["after".to_owned()]).await;
        bob.wait("after", |read| read.iter().any(|read| read.body == "after")).await;
        while !stub.said().iter().any(|(_, body)| body == "after") {
            stub.changed().await;
        }
    };
    world.during(&bridge, story).await;
    // It came before, and is no message of anybody's.
    let mut read = bob.client.db().read().await.unwrap();
    let heard: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM heard_shares WHERE lacking = 0")
        .fetch_one(read.conn())
        .await
        .unwrap();
    assert_eq!(heard, 1);
    let has_it = |body: &str| body.contains("before the bridge came");
    assert!(!bob.read().iter().any(|read| has_it(&read.body)));
    assert!(!stub.said().iter().any(|(_, body)| has_it(body)));
    let mut read = bridge.spine.db.read().await.unwrap();
    let heard: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM heard_shares")
        .fetch_one(read.conn())
        .await
        .unwrap();
    assert_eq!((heard, dead_letters::list(&mut read, 0, 100).await.unwrap().len()), (0, 0));
    drop(read);
    bridge.drop_dead().await;
}

//! Groups in which only admins write, and their rooms: who reads is said, who may not write is told.

use causeway_bridge::{steps::Steps, storage::dead_letters};
use causeway_protocol::roster::Scheme;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn who_reads_in_a_channel_is_said_also_beside_what_is_given_up() {
    for scheme in [Scheme::SenderKeys, Scheme::Pairwise, Scheme::SharedKey] {
        let mut world = World::new().await;
        let bridge = world.begin(Steps::default()).await;
        let alice = world.person("alice").await;
        let group = alice.create_channel("News", scheme).await;
        let stub = world.stub.clone();
        let invited = async {
            alice.bridge(group, &["@al:x"]).await;
            stub.wait(|rooms| rooms.room_that_invites("@al:x")).await
        };
        let room = world.during(&bridge, invited).await;
        // Both are handed over together.
        let text = json!({"msgtype": "m.text", "body": "may I?"});
        stub.change(|rooms| {
            rooms.membership(&room, "@al:x", "@al:x", "join").unwrap();
            rooms.event(&room, "@al:x", "m.room.message", None, text);
        });
        let told = async {
            alice.is_told_of("@al:x").await;
            let is_why = |body: &str| {
                body == "What @al:x said is not in the group: only admins post in this group."
            };
            while !stub.said().iter().any(|(_, body)| is_why(body)) {
                stub.changed().await;
            }
            alice.say(group, &["the news".to_owned()]).await;
            while !stub.said().iter().any(|(_, body)| body == "the news") {
                stub.changed().await;
            }
        };
        world.during(&bridge, told).await;
        assert!(alice.mirrored().is_empty(), "{scheme:?}");
        let mut read = bridge.spine.db.read().await.unwrap();
        let dead = dead_letters::list(&mut read, 0, 100).await.unwrap();
        // What the bridge itself has to say is not heard there either.
        let of_al = dead.iter().filter(|letter| letter.author == "@al:x").count();
        assert_eq!(of_al, 1, "{scheme:?}: {dead:?}");
        let why = "only admins post in this group";
        assert!(dead.iter().all(|letter| letter.reason == why), "{scheme:?}: {dead:?}");
        drop(read);
        bridge.drop_dead().await;
    }
}

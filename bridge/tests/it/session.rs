//! The bridge's session on the native side ends, and what comes of it.

use causeway_bridge::steps::Steps;
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

use crate::{people::Person, world::World};

const ALICE: &str = "@causeway_alice:b.example";

/// A bridged group with Alice, and the room that Al is in.
async fn begin(world: &mut World, bridge: &crate::world::Running) -> (Person, Group) {
    let alice = world.person("alice").await;
    let id = alice.create_group("Walkers").await;
    let stub = world.stub.clone();
    let invited = async {
        alice.bridge(id, &["@al:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@al:x")).await
    };
    let room = world.during(bridge, invited).await;
    world.stub.change(|rooms| rooms.membership(&room, "@al:x", "@al:x", "join").unwrap());
    (alice, Group { id, room })
}

struct Group {
    id: causeway_protocol::ids::GroupId,
    room: String,
}

/// Something is said on either side, and heard on the other.
async fn both_are_heard(
    world: &mut World,
    bridge: &crate::world::Running,
    alice: &Person,
    group: &Group,
    text: &str,
) {
    let stub = world.stub.clone();
    let heard = async {
        alice.say(group.id, &[text.to_owned()]).await;
        let of_alice =
            |event: &&Value| event["sender"] == ALICE && event["content"]["body"] == text;
        stub.wait(|rooms| rooms.events.iter().find(of_alice).cloned()).await;
        let said = json!({"msgtype": "m.text", "body": text});
        stub.change(|rooms| rooms.event(&group.room, "@al:x", "m.room.message", None, said));
        alice.wait(text, |read| read.iter().any(|r| r.mirror.is_some() && r.body == text)).await;
    };
    world.during(bridge, heard).await;
}

#[tokio::test]
async fn a_session_that_was_revoked_is_made_again() {
    let mut world = World::new().await;
    let bridge = world.begin(Steps::default()).await;
    let (alice, group) = begin(&mut world, &bridge).await;
    both_are_heard(&mut world, &bridge, &alice, &group, "before").await;
    bridge.spine.native.http().logout().await.unwrap();
    both_are_heard(&mut world, &bridge, &alice, &group, "after").await;
    assert_eq!(bridge.stats().await.dead_letters, 0);
    bridge.drop_dead().await;
    // The new session was kept.
    let bridge = world.begin(Steps::default()).await;
    bridge.spine.native.http().groups(None).await.unwrap();
    both_are_heard(&mut world, &bridge, &alice, &group, "later").await;
    assert_eq!(world.stub.said().iter().filter(|(who, _)| who == ALICE).count(), 3);
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_device_that_is_refused_waits_and_says_why() {
    let mut world = World::new().await;
    let bridge = world.begin(Steps::default()).await;
    let (alice, group) = begin(&mut world, &bridge).await;
    both_are_heard(&mut world, &bridge, &alice, &group, "before").await;
    let database = world.folder.path().join("server.db");
    let mut server = SqliteConnectOptions::new().filename(database).connect().await.unwrap();
    let me = bridge.spine.native.me().record.device_id;
    sqlx::query("UPDATE devices SET listed = 0 WHERE device_id = $1")
        .bind(me.as_bytes().as_slice())
        .execute(&mut server)
        .await
        .unwrap();
    bridge.spine.native.http().logout().await.unwrap();

    let text = json!({"msgtype": "m.text", "body": "held"});
    world.stub.change(|rooms| rooms.event(&group.room, "@al:x", "m.room.message", None, text));
    let mut why = bridge.spine.locked_out.subscribe();
    let told = async {
        let refused = |why: &Option<String>| {
            why.as_ref().is_some_and(|w| w.contains("DEV_CAUSEWAY_UNLISTED"))
        };
        why.wait_for(refused).await.unwrap().clone().unwrap()
    };
    let told = world.during(&bridge, told).await;
    let held = async {
        while bridge.stats().await.outbox == 0 {
            tokio::task::yield_now().await;
        }
    };
    world.during(&bridge, held).await;
    let ready = reqwest::get(format!("{}/ready", bridge.url)).await.unwrap();
    assert_eq!(ready.status(), 503);
    let report: Value = ready.json().await.unwrap();
    assert_eq!((&report["native"], &report["native_error"]), (&json!(false), &json!(told)));
    let stats = bridge.stats().await;
    assert_eq!((stats.outbox, stats.dead_letters), (1, 0));

    sqlx::query("UPDATE devices SET listed = 1 WHERE device_id = $1")
        .bind(me.as_bytes().as_slice())
        .execute(&mut server)
        .await
        .unwrap();
    both_are_heard(&mut world, &bridge, &alice, &group, "after").await;
    assert_eq!(alice.mirrored(), ["before", "held", "after"]);
    bridge.drop_dead().await;
}

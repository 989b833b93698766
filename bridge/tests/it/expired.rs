//! Who said something in a room is told that it was not read in time in the group.

use causeway_bridge::{
    services::expired::{Told, step},
    steps::Steps,
    storage::expired,
};
use causeway_protocol::{
    api::{DeliveryState, RecipientStatus},
    ids::EnvelopeId,
};
use serde_json::{Value, json};

use crate::{
    people::Person,
    stub::Rooms,
    world::{Running, World},
};

/// Longer than any message lives, and less than a day longer.
const LONG_MS: u64 = (30 * 24 + 1) * 60 * 60 * 1_000;

async fn noted(bridge: &Running) -> usize {
    let mut read = bridge.spine.db.read().await.unwrap();
    match expired::portals(&mut read).await.unwrap().first() {
        Some(portal) => expired::of(&mut read, *portal).await.unwrap().len(),
        None => 0,
    }
}

/// Waits until so many are noted.
async fn are_noted(bridge: &Running, count: usize) {
    while noted(bridge).await < count {
        tokio::task::yield_now().await;
    }
}

/// Waits until somebody's device has what an event said.
async fn is_acked(bridge: &Running, person: &Person, event: &str) {
    let (native, device) = (&bridge.spine.native, person.client.me().record.device_id);
    loop {
        let mut read = bridge.spine.db.read().await.unwrap();
        let found: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT message_id FROM links WHERE event_id = $1")
                .bind(event)
                .fetch_optional(read.conn())
                .await
                .unwrap();
        drop(read);
        if let Some(id) = found {
            let status = native.http().status(EnvelopeId::from_slice(&id).unwrap()).await.unwrap();
            let is_it =
                |to: &RecipientStatus| to.device == device && to.state == DeliveryState::Acked;
            if status.recipients.iter().any(is_it) {
                return;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// What the bot says in answer to an event.
fn answer_to(rooms: &Rooms, event: &str) -> Option<String> {
    let is_so = |said: &&Value| {
        said["sender"] == "@causewaybot:b.example"
            && said["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == event
    };
    let said = rooms.events.iter().find(is_so)?;
    Some(said["content"]["body"].as_str()?.to_owned())
}

#[tokio::test]
async fn a_burst_that_was_not_read_in_time_is_one_notice_and_one_an_hour() {
    let mut world = World::new().await;
    let bridge = world.begin(Steps::default()).await;
    let (alice, carol) = (world.person("alice").await, world.person("carol").await);
    let group = alice.create_group("Walkers").await;
    alice.add(group, "carol:b.example").await;
    let stub = world.stub.clone();
    let invited = async {
        alice.bridge(group, &["@al:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@al:x")).await
    };
    let room = world.during(&bridge, invited).await;
    stub.change(|rooms| rooms.membership(&room, "@al:x", "@al:x", "join").unwrap());
    let say = |body: &str| {
        let text = json!({"msgtype": "m.text", "body": body});
        stub.change(|rooms| rooms.event(&room, "@al:x", "m.room.message", None, text))
    };
    let zeroth = say("both read it");
    for person in [&alice, &carol] {
        world.during(&bridge, is_acked(&bridge, person, &zeroth)).await;
    }
    // Carol's device goes out.
    carol.reading.abort();
    let first = say("one");
    say("two");
    let third = say("three");
    world.during(&bridge, is_acked(&bridge, &alice, &third)).await;
    world.pass_on_server(LONG_MS).await;
    world.during(&bridge, are_noted(&bridge, 3)).await;

    let mut told = Told::new();
    assert!(step(&bridge.spine, &mut told).await.unwrap().is_some());
    let words =
        "This message and 2 more were not read in time by up to 1 of 2 members of the group.";
    let found = world.during(&bridge, stub.wait(|rooms| answer_to(rooms, &first))).await;
    assert!(found.starts_with(words), "{found}");
    assert_eq!(noted(&bridge).await, 0);

    // What comes within the hour waits, and is told then.
    let fourth = say("four");
    world.during(&bridge, is_acked(&bridge, &alice, &fourth)).await;
    world.pass_on_server(LONG_MS).await;
    world.during(&bridge, are_noted(&bridge, 1)).await;
    assert!(step(&bridge.spine, &mut told).await.unwrap().is_some());
    assert_eq!(noted(&bridge).await, 1);
    told.clear();
    step(&bridge.spine, &mut told).await.unwrap();
    let found = world.during(&bridge, stub.wait(|rooms| answer_to(rooms, &fourth))).await;
    assert!(found.starts_with("This message was not read in time by 1 of 2 members"), "{found}");
    let is_answer = |event: &&Value| !event["content"]["m.relates_to"].is_null();
    assert_eq!(stub.look(|rooms| rooms.events.iter().filter(is_answer).count()), 2);
    bridge.drop_dead().await;
}

//! What the homeserver never sent, or sent out of turn, is put at its place.

use causeway_bridge::{
    domain::{
        effect::InGroup,
        lane::Lane,
        portal::PortalId,
        said::{Relayed, Said},
    },
    services::{Step, from_matrix, repair},
    storage::{
        outbox::{self, Head},
        portals,
    },
};
use serde_json::{Value, json};

use crate::{harness::Bridge, stub::Fault};

/// A room with Al in it, pushed so far as transactions 1 and 2.
async fn room() -> (Bridge, PortalId, String) {
    let bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    let room = bridge.portal_now(portal).await.room.unwrap().to_string();
    let so_far: Vec<Value> = bridge.stub.look(|rooms| rooms.events.clone());
    bridge.push_as("1", &so_far).await;
    let said = say(&bridge, &room, 0);
    bridge.push_as("2", &[said]).await;
    while from_matrix::step(&bridge.spine).await.unwrap() == Step::Did {}
    (bridge, portal, room)
}

fn say(bridge: &Bridge, room: &str, n: usize) -> Value {
    bridge.stub.look(|rooms| {
        let text = json!({"msgtype": "m.text", "body": n.to_string()});
        rooms.event(room, "@al:x", "m.room.message", None, text);
        rooms.events.last().unwrap().clone()
    })
}

/// What is on its way into the group, in its order.
async fn relayed(bridge: &Bridge, portal: PortalId) -> Vec<String> {
    while from_matrix::step(&bridge.spine).await.unwrap() == Step::Did {}
    let mut tx = bridge.spine.db.begin().await.unwrap();
    let lane = Lane::ToNative(portal);
    let head = outbox::first(tx.conn(), &bridge.spine.sealer, lane).await.unwrap();
    let Head::Rows(rows) = head else { panic!("{head:?}") };
    rows.into_iter()
        .filter_map(|row| match row.entry.deed {
            InGroup::Say(Relayed { said: Said::Text(text, _), .. }) => Some(text.body),
            InGroup::Announce(..) | InGroup::Notice(_) => None,
        })
        .collect()
}

#[tokio::test]
async fn a_transaction_that_does_not_follow_waits_for_what_is_missing() {
    let (bridge, portal, room) = room().await;
    let [_, second, third] = [1, 2, 3].map(|n| say(&bridge, &room, n));
    bridge.push_as("4", &[third]).await;
    assert_eq!(relayed(&bridge, portal).await, ["0"]);
    bridge.push_as("5", &[second]).await;
    assert!(repair::step(&bridge.spine).await.unwrap());
    assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn what_was_sent_while_nobody_listened_is_fetched_at_the_start() {
    let (bridge, portal, room) = room().await;
    for n in 1..=250 {
        say(&bridge, &room, n);
    }
    bridge.spine.take_over().await.unwrap();
    assert!(repair::step(&bridge.spine).await.unwrap());
    assert_eq!(bridge.stats().await.inbox, 250);
    let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    assert!(expected.starts_with(&relayed(&bridge, portal).await));
    assert!(repair::step(&bridge.spine).await.unwrap());
    assert_eq!(bridge.stats().await.inbox, 0);
}

#[tokio::test]
async fn a_room_that_may_not_be_read_goes_on_with_what_came() {
    let (bridge, portal, room) = room().await;
    let [first, _, third] = [1, 2, 3].map(|n| say(&bridge, &room, n));
    bridge.push_as("9", &[third, first]).await;
    bridge.stub.fail("messages", Fault::Answer(502, json!({})));
    assert!(!repair::step(&bridge.spine).await.unwrap());
    assert_eq!(relayed(&bridge, portal).await, ["0"]);
    bridge.stub.fail("messages", Fault::Answer(403, json!({"errcode": "M_FORBIDDEN"})));
    assert!(repair::step(&bridge.spine).await.unwrap());
    assert_eq!(relayed(&bridge, portal).await, ["0", "3", "1"]);
}

#[tokio::test]
async fn a_room_suspected_again_meanwhile_stays_suspect() {
    let (bridge, portal, _) = room().await;
    bridge.spine.take_over().await.unwrap();
    let mut read = bridge.spine.db.read().await.unwrap();
    let suspect = portals::suspects(&mut read).await.unwrap().pop().unwrap();
    drop(read);
    let mut tx = bridge.spine.db.begin().await.unwrap();
    portals::suspect_all(&mut tx).await.unwrap();
    portals::trust(&mut tx, &suspect).await.unwrap();
    tx.commit().await.unwrap();
    let mut read = bridge.spine.db.read().await.unwrap();
    let still = portals::suspects(&mut read).await.unwrap();
    assert_eq!(still.first().map(|suspect| suspect.portal), Some(portal));
}

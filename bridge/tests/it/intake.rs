//! What the homeserver hands over is kept once, whatever it looks like.

use serde_json::{Value, json};

use crate::harness::Bridge;

fn message(number: usize) -> Value {
    json!({"event_id": format!("$m{number}"), "room_id": "!r:x", "sender": "@al:x",
           "type": "m.room.message", "origin_server_ts": 5,
           "content": {"msgtype": "m.text", "body": "hi"}})
}

#[tokio::test]
async fn an_event_is_kept_once_however_often_it_comes() {
    let bridge = Bridge::start().await;
    let first = bridge.push(&[message(1), message(2), message(1)]).await;
    assert_eq!((first.new, first.repeated), (2, 1));
    let again = bridge.push(&[message(2), message(3)]).await;
    assert_eq!((again.new, again.repeated), (1, 1));
    assert_eq!(bridge.stats().await.inbox, 3);
}

#[tokio::test]
async fn one_bad_event_stops_none_of_a_thousand_good_ones() {
    let bridge = Bridge::start().await;
    let mut events: Vec<Value> = (0..1_000).map(message).collect();
    let bad = [
        json!({"event_id": 5}),
        json!("not an object"),
        json!(null),
        json!({"event_id": "no sigil", "room_id": "!r:x", "sender": "@a:x", "type": "t"}),
        json!({"event_id": "$x", "room_id": "!r:x", "sender": "nobody", "type": "t"}),
        json!({"event_id": "$y", "room_id": "!r:x", "sender": "@a:x", "type": "t", "content": []}),
    ];
    for (place, event) in bad.iter().enumerate() {
        events.insert(place * 150, event.clone());
    }
    let accepted = bridge.push(&events).await;
    assert_eq!(accepted.new, 1_000);
    assert_eq!(accepted.quarantined, bad.len() as u64);
    let stats = bridge.stats().await;
    assert_eq!((stats.inbox, stats.quarantine), (1_000, i64::try_from(bad.len()).unwrap()));
    bridge.push(&events).await;
    assert_eq!(bridge.stats().await, stats);
}

#[tokio::test]
async fn events_of_nobodys_room_are_done_and_empty() {
    let bridge = Bridge::start().await;
    bridge.push(&[message(1)]).await;
    bridge.drain().await;
    assert_eq!(bridge.stats().await.inbox, 0);
}

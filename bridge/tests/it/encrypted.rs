//! Rooms that are encrypted get not one word in clear: whoever made them so, and whenever.

use axum::http::StatusCode;
use causeway_bridge::{
    domain::portal::PortalId,
    http::Connection,
    services::{Step, deliver, encryption::Encryption},
    storage::{dead_letters, stats},
};
use serde_json::{Value, json};

use crate::{
    appservice::Listener,
    harness::Bridge,
    stub::{Fault, Stub},
};

const BOT: &str = "@causewaybot:b.example";
/// Milliseconds of the longest that what is said lives here.
const LIFE: u64 = 40 * 24 * 60 * 60 * 1_000;

/// A portal in which bob has said "0".
async fn spoken_in(bridge: &mut Bridge) -> (PortalId, String) {
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "0").await;
    bridge.drain().await;
    let room = bridge.portal_now(portal).await.room.unwrap();
    (portal, room.to_string())
}

/// It turns encrypted, and no event of that comes.
fn turn(stub: &Stub, room: &str, by: &str) -> Value {
    stub.look(|rooms| {
        let content = json!({"algorithm": "m.megolm.v1.aes-sha2"});
        rooms.event(room, by, "m.room.encryption", Some(""), content);
        rooms.events.last().unwrap().clone()
    })
}

fn bodies(bridge: &Bridge) -> Vec<String> {
    bridge.stub.said().into_iter().map(|(_, body)| body).collect()
}

fn unread(n: usize, room: &str, sender: &str) -> Value {
    json!({"event_id": format!("$unread{n}"), "room_id": room, "sender": sender,
           "type": "m.room.encrypted", "origin_server_ts": 5, "content": {"ciphertext": "x"}})
}

/// What the bot marked, and with what.
fn marks(bridge: &Bridge) -> Vec<(String, String)> {
    bridge.stub.look(|rooms| {
        let marks = rooms.events.iter().filter(|e| e["type"] == "m.reaction" && e["sender"] == BOT);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let relates = marks.map(|event| event["content"]["m.relates_to"].clone());
        relates.map(|to| (text(&to["event_id"]), text(&to["key"]))).collect()
    })
}

#[tokio::test]
async fn a_room_that_is_encrypted_from_its_beginning_gets_nothing() {
    for by in [BOT, "@al:x"] {
        let mut bridge = Bridge::start().await;
        bridge.stub.look(|rooms| rooms.encrypts_all = Some(by.to_owned()));
        let portal = bridge.portal(1).await;
        bridge.say(portal, "bob:b.example", "in clear").await;
        bridge.drain().await;
        assert!(bridge.portal_now(portal).await.encrypted);
        assert_eq!(bodies(&bridge), Vec::<String>::new(), "{by}");
        let mut read = bridge.spine.db.read().await.unwrap();
        let portals = stats::portals(&mut read, 0, 1).await.unwrap();
        assert_eq!(portals[0].paused, Some("encrypted"));
    }
}

/// What a process knew of rooms is gone with it.
#[tokio::test]
async fn a_room_that_turned_while_nobody_listened_is_looked_at_before_the_first_word() {
    let mut bridge = Bridge::start().await;
    let (portal, room) = spoken_in(&mut bridge).await;
    turn(&bridge.stub, &room, "@al:x");
    bridge.spine.encryption = Encryption::default();
    // While it cannot be looked at, nothing goes.
    bridge.stub.fail("/state/m.room.encryption", Fault::Cut);
    bridge.say(portal, "bob:b.example", "in clear").await;
    bridge.drain().await;
    assert!(!bridge.portal_now(portal).await.encrypted);
    bridge.pass(130_000);
    bridge.drain().await;
    assert!(bridge.portal_now(portal).await.encrypted);
    assert_eq!(bodies(&bridge), ["0"]);
    let stats = bridge.stats().await;
    assert_eq!((stats.paused_lanes, stats.outbox), (1, 1));
}

#[tokio::test]
async fn a_room_is_looked_at_once_in_a_process() {
    let mut bridge = Bridge::start().await;
    let (portal, _) = spoken_in(&mut bridge).await;
    bridge.spine.encryption = Encryption::default();
    for body in ["1", "2"] {
        bridge.say(portal, "bob:b.example", body).await;
        bridge.drain().await;
    }
    // Whoever looks again meets this.
    bridge.stub.fail("/state/m.room.encryption", Fault::Cut);
    bridge.say(portal, "bob:b.example", "3").await;
    bridge.drain().await;
    assert_eq!(bodies(&bridge), ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_turn_counts_from_when_it_is_taken_in() {
    let mut listener = Listener::new().await;
    let (portal, room) = spoken_in(&mut listener.bridge).await;
    let turn = turn(&listener.bridge.stub, &room, BOT);
    listener.bridge.say(portal, "bob:b.example", "in clear").await;
    let body = json!({ "events": [turn] }).to_string();
    let token = Some("token of the homeserver");
    listener.call("PUT", "/_matrix/app/v1/transactions/1", token, body).await;
    // Nothing is judged yet.
    while deliver::step(&listener.bridge.spine).await.unwrap() == Step::Did {}
    assert!(!listener.bridge.portal_now(portal).await.encrypted);
    assert_eq!(bodies(&listener.bridge), ["0"]);
}

#[tokio::test]
async fn who_says_what_cannot_be_read_is_answered_though_the_turn_was_missed() {
    let mut bridge = Bridge::start().await;
    let (portal, room) = spoken_in(&mut bridge).await;
    turn(&bridge.stub, &room, "@al:x");
    let said = [unread(0, &room, "@al:x"), unread(1, &room, "@al:x"), unread(2, &room, "@bea:x")];
    bridge.push(&said).await;
    bridge.say(portal, "bob:b.example", "in clear").await;
    bridge.drain().await;
    let portal = bridge.portal_now(portal).await;
    assert!(portal.encrypted);
    let mark = "not bridged".to_owned();
    let expected = [("$unread0".to_owned(), mark.clone()), ("$unread2".to_owned(), mark)];
    assert_eq!(marks(&bridge), expected, "each once a day");
    assert_eq!(bodies(&bridge), ["0"]);
    assert_eq!(bridge.stats().await.quarantine, 3);
    let topic = bridge.stub.look(|rooms| {
        let mut topics = rooms.events.iter().filter(|event| event["type"] == "m.room.topic");
        topics.next_back().unwrap()["content"]["topic"].as_str().unwrap().to_owned()
    });
    assert!(topic.contains("this room is encrypted"), "{topic}");
}

#[tokio::test]
async fn what_alone_is_encrypted_stops_nothing() {
    let mut bridge = Bridge::start().await;
    let (portal, room) = spoken_in(&mut bridge).await;
    bridge.push(&[unread(0, &room, "@al:x")]).await;
    bridge.drain().await;
    bridge.say(portal, "bob:b.example", "1").await;
    bridge.drain().await;
    assert!(!bridge.portal_now(portal).await.encrypted);
    let said = bodies(&bridge);
    assert_eq!((said.len(), said[0].as_str(), said[2].as_str()), (3, "0", "1"));
    assert!(said[1].contains("cannot read it"), "{said:?}");
    assert_eq!(marks(&bridge), []);
}

#[tokio::test]
async fn what_waits_for_an_encrypted_room_lives_its_time() {
    let mut bridge = Bridge::start().await;
    let (portal, room) = spoken_in(&mut bridge).await;
    turn(&bridge.stub, &room, "@al:x");
    bridge.spine.encryption = Encryption::default();
    for body in ["1", "2"] {
        bridge.say(portal, "bob:b.example", body).await;
    }
    bridge.drain().await;
    assert_eq!(bridge.stats().await.outbox, 2, "they are counted");
    let now = bridge.spine.now();
    assert_eq!(deliver::end_in_paused(&bridge.spine, now).await.unwrap(), 0);
    let over = now.plus_ms(LIFE);
    assert_eq!(deliver::end_in_paused(&bridge.spine, over).await.unwrap(), 2);
    let mut read = bridge.spine.db.read().await.unwrap();
    let dead = dead_letters::list(&mut read, 0, 100).await.unwrap();
    let given_up: Vec<&str> = dead
        .iter()
        .filter(|letter| letter.author == "bob:b.example")
        .map(|letter| letter.reason.as_str())
        .collect();
    assert_eq!(given_up, ["the room is encrypted, and its time is over"; 2]);
    drop(read);
    // The group is told once.
    assert_eq!(bridge.stats().await.outbox, 1);
}

/// Found by an attack: a homeserver that died right after it had taken the event told nobody of it.
#[tokio::test]
async fn a_room_that_turned_before_the_homeserver_was_away_gets_nothing_in_clear() {
    for fault in [Fault::Cut, Fault::Answer(502, json!("<html>"))] {
        let mut bridge = Bridge::start().await;
        let (portal, room) = spoken_in(&mut bridge).await;
        turn(&bridge.stub, &room, "@al:x");
        bridge.stub.fail("/send/", fault);
        for body in ["1", "2"] {
            bridge.say(portal, "bob:b.example", body).await;
        }
        for _ in 0..3 {
            bridge.drain().await;
            bridge.pass(130_000);
        }
        assert_eq!(bodies(&bridge), ["0"]);
        assert!(bridge.portal_now(portal).await.encrypted);
    }
}

/// Found by an attack: it died over telling that the room had turned, while nothing was asked of it.
#[tokio::test]
async fn a_room_that_turned_before_the_homeservers_connection_ended_gets_nothing_in_clear() {
    let mut listener = Listener::new().await;
    let (portal, room) = spoken_in(&mut listener.bridge).await;
    let matrix = listener.bridge.spine.matrix.clone();
    for (token, status, breaks) in [
        ("of a stranger", StatusCode::FORBIDDEN, 0),
        ("token of the homeserver", StatusCode::OK, 1),
    ] {
        let before = matrix.breaks();
        let told = matrix.clone();
        let connection = Connection::new(move || told.broke_off());
        assert_eq!(listener.push_on(&connection, token).await, status);
        assert_eq!(matrix.breaks(), before, "it is still there");
        drop(connection);
        assert_eq!(matrix.breaks(), before + breaks, "{token}");
    }
    turn(&listener.bridge.stub, &room, "@al:x");
    listener.bridge.say(portal, "bob:b.example", "in clear").await;
    while deliver::step(&listener.bridge.spine).await.unwrap() == Step::Did {}
    assert_eq!(bodies(&listener.bridge), ["0"]);
}

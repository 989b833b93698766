//! What people say to the bot in a bridged room takes nobody's place, and has a measure.

use causeway_bridge::{
    domain::{
        command::Asked,
        effect::{Effect, Here, InRoom},
        lane::Lane,
        portal::PortalId,
    },
    services::{Step, from_matrix},
    storage::outbox::Head,
};
use serde_json::{Value, json};

use crate::harness::Bridge;

const BOT: &str = "@causewaybot:b.example";
const VIC: &str = "@vic:x";
const AL: &str = "@al:x";

/// A portal in whose room bob has spoken, and the people are.
async fn begin() -> (Bridge, PortalId) {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "hi").await;
    bridge.drain().await;
    (bridge, portal)
}

/// In the transaction of this number, which comes after the one before, `who` says these things; nothing is
/// done about them yet.
async fn says(bridge: &Bridge, portal: PortalId, txn: u32, who: &str, bodies: &[String]) {
    let room = bridge.portal_now(portal).await.room.unwrap().to_string();
    let events: Vec<Value> = bridge.stub.look(|rooms| {
        let event = |body: &String| {
            let content = json!({"msgtype": "m.text", "body": body});
            rooms.event(&room, who, "m.room.message", None, content);
            rooms.events.last().unwrap().clone()
        };
        bodies.iter().map(event).collect()
    });
    bridge.push_as(&txn.to_string(), &events).await;
    while from_matrix::step(&bridge.spine).await.unwrap() == Step::Did {}
}

fn invites(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("!causeway invite @a{number}:x")).collect()
}

/// What the bot has answered to somebody, without the rest that it says.
fn answers(bridge: &Bridge) -> Vec<String> {
    bridge.stub.look(|rooms| {
        let is_answer = |event: &&Value| {
            event["sender"] == BOT && !event["content"]["m.relates_to"]["m.in_reply_to"].is_null()
        };
        let answers = rooms.events.iter().filter(is_answer);
        answers.map(|event| event["content"]["body"].as_str().unwrap().to_owned()).collect()
    })
}

fn too_much(answers: &[String]) -> usize {
    answers.iter().filter(|answer| answer.contains("Too many commands")).count()
}

/// Found by an attack: each page of the members was an answer of its own, in front of what natives said.
#[tokio::test]
async fn who_asks_without_end_is_answered_a_few_times_and_others_go_on() {
    let (mut bridge, portal) = begin().await;
    says(&bridge, portal, 1, VIC, &invites(30)).await;
    let pages: Vec<String> = (0..30).map(|page| format!("!causeway members {page}")).collect();
    says(&bridge, portal, 2, VIC, &pages).await;
    bridge.say(portal, "bob:b.example", "now").await;
    // Nothing of it stands before what bob says.
    let mut read = bridge.spine.db.read().await.unwrap();
    let head = bridge.first::<InRoom>(read.conn(), &Lane::ToMatrix(portal)).await;
    drop(read);
    let Head::Rows(rows) = head else { panic!("{head:?}") };
    assert!(matches!(&rows[..], [row] if matches!(row.entry.deed, InRoom::Say(_))), "{rows:?}");
    bridge.drain().await;
    let answered = answers(&bridge);
    assert_eq!((answered.len(), too_much(&answered)), (6, 1), "{answered:?}");
    // Whoever else asks is answered, and so is he when he has let it be.
    says(&bridge, portal, 3, AL, &["!causeway version".to_owned()]).await;
    bridge.drain().await;
    bridge.pass(60_000);
    says(&bridge, portal, 4, VIC, &["!causeway version".to_owned()]).await;
    bridge.drain().await;
    let answered = answers(&bridge);
    assert_eq!((answered.len(), too_much(&answered)), (8, 1), "{answered:?}");
}

/// Found by an attack: four people who ask kept an admin of the room from taking the bridge out.
#[tokio::test]
async fn who_has_the_power_takes_the_bridge_out_however_much_others_ask() {
    let (bridge, portal) = begin().await;
    let room = bridge.portal_now(portal).await.room.unwrap();
    let levels = json!({"users": {AL: 100}, "events": {"m.room.tombstone": 100}});
    bridge.stub.change(|rooms| {
        rooms.event(room.as_str(), BOT, "m.room.power_levels", Some(""), levels);
    });
    for number in 1..=4 {
        says(&bridge, portal, number, &format!("@u{number}:x"), &invites(5)).await;
    }
    let version = ["!causeway version".to_owned()];
    says(&bridge, portal, 5, VIC, &version).await;
    bridge.drain().await;
    let before = answers(&bridge);
    assert!(before.iter().any(|answer| answer.contains("in this room")), "{before:?}");
    let unbridge = ["!causeway unbridge".to_owned()];
    says(&bridge, portal, 6, VIC, &unbridge).await;
    bridge.drain().await;
    let is_in = |who: &str| {
        let place = (room.to_string(), who.to_owned());
        bridge.stub.look(|rooms| rooms.members.get(&place).is_some_and(|to| to == "join"))
    };
    assert!(is_in(BOT) && is_in("@causeway_bob:b.example"));
    assert_eq!(answers(&bridge), before, "who may not is not told so now");
    says(&bridge, portal, 7, AL, &unbridge).await;
    bridge.drain().await;
    assert!(!is_in(BOT) && !is_in("@causeway_bob:b.example"));
}

#[tokio::test]
async fn a_room_that_takes_no_answers_has_no_more_than_a_hundred_waiting() {
    let (bridge, portal) = begin().await;
    for number in 1..=200 {
        let who = format!("@u{number}:x");
        says(&bridge, portal, number, &who, &["!causeway version".to_owned()]).await;
        bridge.pass(2_000);
    }
    let waits = bridge.stats().await.outbox;
    assert_eq!(waits, 100);
    bridge.drain().await;
    assert_eq!(bridge.stats().await.outbox, 0);
}

/// What is asked in a room that is given up is answered nowhere; behind it stands what makes the next.
#[tokio::test]
async fn what_is_asked_of_the_bot_does_not_stand_in_front_of_another_room() {
    let (bridge, portal) = begin().await;
    let old = bridge.portal_now(portal).await.room.unwrap();
    says(&bridge, portal, 1, VIC, &["!causeway status".into(), "!causeway members".into()]).await;
    let instead = InRoom::MakeInstead(old.clone());
    bridge.keep(portal, b"anew", vec![Effect::Here(Here::GivenUp), Effect::InRoom(instead)]).await;
    bridge.drain().await;
    let now = bridge.portal_now(portal).await;
    assert!(now.room.is_some() && now.room != Some(old), "{now:?}");
    assert_eq!((bridge.stats().await.outbox, answers(&bridge).len()), (0, 0));
}

#[tokio::test]
async fn what_is_asked_of_the_bot_does_not_stand_in_front_of_the_word_that_the_bridge_pauses() {
    let (bridge, portal) = begin().await;
    let event = "$e".try_into().unwrap();
    let asked = InRoom::Asked(event, VIC.try_into().unwrap(), Asked::Status);
    let effects = [Effect::InRoom(asked), Effect::Here(Here::Encrypted)];
    bridge.keep(portal, b"e", effects.into()).await;
    bridge.keep(portal, b"p", vec![Effect::InRoom(InRoom::Pause)]).await;
    bridge.drain().await;
    let topic = bridge.stub.look(|rooms| {
        let topics = rooms.events.iter().rev();
        topics.into_iter().find(|event| event["type"] == "m.room.topic").cloned()
    });
    assert!(topic.is_some_and(|topic| topic.to_string().contains("paused")));
    assert_eq!((answers(&bridge).len(), bridge.stats().await.outbox), (0, 0));
}

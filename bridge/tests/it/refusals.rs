//! What the homeserver refuses: at once where it is final, mended where it can be.

use causeway_bridge::{
    domain::{
        effect::{Effect, InRoom},
        portal::PortalId,
    },
    storage::dead_letters::{self, DeadLetter},
};
use ruma::UserId;
use serde_json::json;

use crate::{harness::Bridge, stub::Fault};

const BOB: &str = "@causeway_bob:b.example";

/// A portal in which bob and eve have spoken.
async fn spoken_in(bridge: &mut Bridge) -> PortalId {
    let portal = bridge.portal(1).await;
    for account in ["bob:b.example", "eve:b.example"] {
        bridge.say(portal, account, "hi").await;
    }
    bridge.drain().await;
    portal
}

fn bodies(bridge: &Bridge) -> Vec<String> {
    bridge.stub.said().into_iter().map(|(_, body)| body).filter(|body| body != "hi").collect()
}

/// What was given up on its way into the room.
async fn given_up(bridge: &Bridge) -> Vec<DeadLetter> {
    let mut read = bridge.spine.db.read().await.unwrap();
    let mut dead = dead_letters::list(&mut read, 0, 100).await.unwrap();
    dead.retain(|letter| !letter.lane.ends_with("to_native"));
    dead
}

#[tokio::test]
async fn what_a_room_does_not_let_somebody_say_holds_up_nobody() {
    let mut bridge = Bridge::start().await;
    let portal = spoken_in(&mut bridge).await;
    let muted = json!({"errcode": "M_FORBIDDEN", "error": "user_level (0) < send_level (50)"});
    bridge.stub.look(|rooms| rooms.refuses.insert(BOB.to_owned(), (403, muted)));
    for number in 0..5 {
        bridge.say(portal, "bob:b.example", &format!("b{number}")).await;
        bridge.say(portal, "eve:b.example", &format!("e{number}")).await;
    }
    // No time passes.
    bridge.drain().await;
    assert_eq!(bodies(&bridge), ["e0", "e1", "e2", "e3", "e4"]);
    let dead = given_up(&bridge).await;
    assert!(dead.len() == 5 && dead.iter().all(|letter| letter.author == "bob:b.example"));
    assert!(dead[0].reason.contains("send_level"), "{dead:?}");
}

#[tokio::test]
async fn what_is_too_large_or_by_nobody_is_tried_once() {
    for (status, errcode) in
        [(413, "M_TOO_LARGE"), (400, "M_BAD_JSON"), (403, "M_USER_DEACTIVATED")]
    {
        let mut bridge = Bridge::start().await;
        let portal = spoken_in(&mut bridge).await;
        let before = bridge.stub.look(|rooms| rooms.sends);
        bridge.stub.fail("/send/", Fault::Answer(status, json!({ "errcode": errcode })));
        bridge.say(portal, "bob:b.example", "never").await;
        bridge.drain().await;
        assert_eq!(bridge.stub.look(|rooms| rooms.sends), before + 1, "{errcode}");
        assert!(given_up(&bridge).await[0].reason.contains(errcode), "{errcode}");
    }
}

#[tokio::test]
async fn a_device_that_was_deleted_is_made_again() {
    let mut bridge = Bridge::start().await;
    let portal = spoken_in(&mut bridge).await;
    bridge.stub.look(|rooms| rooms.devices.clear());
    bridge.say(portal, "bob:b.example", "1").await;
    bridge.say(portal, "eve:b.example", "2").await;
    bridge.drain().await;
    assert_eq!(bodies(&bridge), ["1", "2"]);
    assert_eq!(bridge.stats().await.dead_letters, 0);
}

#[tokio::test]
async fn a_ghost_that_is_not_where_we_think_is_brought_back() {
    let mut bridge = Bridge::start().await;
    let portal = spoken_in(&mut bridge).await;
    let room = bridge.portal_now(portal).await.room.unwrap();
    bridge.stub.look(|rooms| rooms.membership(room.as_str(), BOB, BOB, "leave").unwrap());
    bridge.say(portal, "bob:b.example", "1").await;
    bridge.drain().await;
    assert_eq!((bodies(&bridge), bridge.stats().await.dead_letters), (vec!["1".to_owned()], 0));
}

#[tokio::test]
async fn what_a_gateway_says_is_waited_for() {
    let mut bridge = Bridge::start().await;
    let portal = spoken_in(&mut bridge).await;
    bridge.say(portal, "bob:b.example", "1").await;
    for _ in 0..9 {
        bridge.stub.fail("/send/", Fault::Answer(404, json!("404 page not found")));
        bridge.drain().await;
        bridge.pass(130_000);
    }
    bridge.drain().await;
    assert_eq!((bodies(&bridge), bridge.stats().await.dead_letters), (vec!["1".to_owned()], 0));
}

#[tokio::test]
async fn an_invite_that_cannot_be_delivered_holds_up_nothing_and_is_given_up_in_a_minute() {
    let mut bridge = Bridge::start().await;
    let portal = spoken_in(&mut bridge).await;
    let far = UserId::parse("@someone:typo.invalid").unwrap();
    let answer = json!({"errcode": "M_UNKNOWN", "error": "Failed to make invite"});
    bridge.stub.look(|rooms| rooms.refuses.insert(far.to_string(), (502, answer)));
    bridge.keep(portal, b"ask", vec![Effect::InRoom(InRoom::Invite(far))]).await;
    bridge.say(portal, "bob:b.example", "1").await;
    bridge.drain().await;
    assert_eq!(bodies(&bridge), ["1"]);
    for _ in 0..60 {
        bridge.pass(1_000);
        bridge.drain().await;
    }
    let dead = given_up(&bridge).await;
    assert!(dead.len() == 1 && dead[0].reason.contains("502"), "{dead:?}");
    assert_eq!(bridge.stats().await.outbox, 0);
}

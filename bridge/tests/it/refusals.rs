//! What the homeserver refuses: at once where it is final, mended where it can be.

use causeway_bridge::{
    domain::{
        effect::{Effect, Here, InRoom},
        portal::PortalId,
    },
    services::deliver,
    storage::{
        dead_letters::{self, DeadLetter},
        rows,
    },
};
use ruma::UserId;
use serde_json::json;

use crate::{
    harness::Bridge,
    stub::{Fault, Rooms},
};

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
async fn who_is_banned_by_no_event_is_known_by_the_first_refusal() {
    let mut bridge = Bridge::start().await;
    let portal = spoken_in(&mut bridge).await;
    let room = bridge.portal_now(portal).await.room.unwrap();
    bridge.stub.look(|rooms| {
        rooms.membership(room.as_str(), "@al:x", BOB, "ban").unwrap();
        let banned = json!({"errcode": "M_FORBIDDEN", "error": "not in room"});
        rooms.refuses.insert(BOB.to_owned(), (403, banned));
    });
    for number in 0..3 {
        bridge.say(portal, "bob:b.example", &format!("b{number}")).await;
        bridge.say(portal, "eve:b.example", &format!("e{number}")).await;
    }
    let sends = bridge.stub.look(|rooms| rooms.sends);
    bridge.drain().await;
    let removed = bridge.portal_now(portal).await.removed;
    assert_eq!(removed.get(&"bob:b.example".parse().unwrap()).unwrap(), "@al:x");
    assert_eq!(bodies(&bridge), ["e0", "e1", "e2"]);
    // Asked once.
    assert_eq!(bridge.stub.look(|rooms| rooms.sends) - sends, 4);
    let reasons: Vec<String> = given_up(&bridge).await.into_iter().map(|l| l.reason).collect();
    assert_eq!(reasons[1..], ["removed from the room by @al:x"; 2], "{reasons:?}");
}

/// Notices that wait for the group.
async fn notices(bridge: &Bridge, portal: PortalId) -> usize {
    let lane = format!("portal/{}/to_native", portal.0);
    let mut read = bridge.spine.db.read().await.unwrap();
    let waiting = rows::list(&mut read, &bridge.spine.sealer, &lane, 0, 100).await.unwrap();
    waiting.iter().filter(|row| row.kind == "notice").count()
}

#[tokio::test]
async fn who_speaks_in_vain_is_told_once_a_day() {
    let mut bridge = Bridge::start().await;
    let portal = spoken_in(&mut bridge).await;
    let before = notices(&bridge, portal).await;
    let in_vain = [("bob", 1, 1), ("bob", 0, 1), ("eve", 0, 2), ("bob", 25, 3), ("bob", 0, 3)];
    for (number, (name, hours, told)) in (0_u8..).zip(in_vain) {
        bridge.pass(hours * 60 * 60 * 1_000);
        let spoken = bridge.spoken(&format!("{name}:b.example"), "hi");
        let unsaid = Effect::Here(Here::Unsaid(spoken, "the room is gone".to_owned()));
        bridge.keep(portal, &[100, number], vec![unsaid]).await;
        assert_eq!(notices(&bridge, portal).await - before, told, "{number}");
    }
    assert_eq!(given_up(&bridge).await.len(), 5);
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

/// Each may take a request's whole time, and who asked is to hear of all of them within a minute.
#[tokio::test]
async fn invites_do_not_wait_for_each_other_once_one_is_not_answered() {
    let mut bridge = Bridge::start().await;
    let portal = spoken_in(&mut bridge).await;
    let user = |name: &str| UserId::parse(format!("@{name}:far")).unwrap();
    bridge.stub.look(|rooms| {
        for name in ["a", "b", "c"] {
            rooms.refuses.insert(user(name).to_string(), (502, json!({})));
        }
    });
    let invites = ["a", "b", "c", "d"].map(|name| Effect::InRoom(InRoom::Invite(user(name))));
    bridge.keep(portal, b"ask", invites.into()).await;
    deliver::step(&bridge.spine).await.unwrap();
    let mut read = bridge.spine.db.read().await.unwrap();
    let lanes: Vec<String> = sqlx::query_scalar("SELECT lane FROM portal_outbox ORDER BY lane")
        .fetch_all(read.conn())
        .await
        .unwrap();
    drop(read);
    let lane = |name: &str| format!("bot/{}/{}", portal.0, user(name));
    assert_eq!(lanes, ["a", "b", "c", "d"].map(lane));
    bridge.drain().await;
    let is_invited = |rooms: &mut Rooms| {
        rooms.members.iter().any(|((_, who), to)| *who == user("d") && to == "invite")
    };
    assert!(bridge.stub.look(is_invited));
    for _ in 0..60 {
        bridge.pass(1_000);
        bridge.drain().await;
    }
    assert_eq!((given_up(&bridge).await.len(), bridge.stats().await.outbox), (3, 0));
}

/// Found by an attack: the bot invited it again, and it spoke after the kick.
#[tokio::test]
async fn a_ghost_that_somebody_put_out_is_not_brought_back_before_that_was_heard() {
    for is_kicked in [true, false] {
        let mut bridge = Bridge::start().await;
        let portal = spoken_in(&mut bridge).await;
        let room = bridge.portal_now(portal).await.room.unwrap();
        let by = if is_kicked { "@al:x" } else { BOB };
        bridge.stub.look(|rooms| rooms.membership(room.as_str(), by, BOB, "leave").unwrap());
        for body in ["b1", "b2"] {
            bridge.say(portal, "bob:b.example", body).await;
        }
        bridge.say(portal, "eve:b.example", "e1").await;
        bridge.drain().await;
        let said = if is_kicked { vec!["e1"] } else { vec!["b1", "b2", "e1"] };
        assert_eq!(bodies(&bridge), said);
        let place = (room.to_string(), BOB.to_owned());
        let is_in = bridge.stub.look(|rooms| rooms.members[&place] == "join");
        let removed = bridge.portal_now(portal).await.removed;
        assert_eq!((is_in, removed.len()), (!is_kicked, usize::from(is_kicked)));
        assert_eq!(given_up(&bridge).await.len(), if is_kicked { 2 } else { 0 });
    }
}

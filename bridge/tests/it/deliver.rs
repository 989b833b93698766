//! What was decided is done in the room, once and in order, whatever the homeserver does.

use std::sync::Arc;

use causeway_bridge::{
    domain::{
        effect::{Effect, Here, InGroup, InRoom},
        ghost::Names,
        lane::Lane,
        portal::{PortalId, PortalState},
        said::{Said, Spoken, Text},
    },
    services::{Step, deliver, from_matrix},
    steps,
    storage::{
        dead_letters::{self, DeadLetter, Replayed},
        lanes,
        outbox::Head,
        stats,
    },
};
use causeway_protocol::ids::{EnvelopeId, GroupId};
use ruma::UserId;
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    harness::Bridge,
    stub::{Fault, Stub},
};

/// What a room that turns encrypted comes to.
fn encrypted() -> Vec<Effect> {
    vec![Effect::Here(Here::Encrypted), Effect::InRoom(InRoom::Pause)]
}

/// What the bridge's way out of the group comes to.
fn closed() -> Vec<Effect> {
    vec![Effect::Here(Here::Closed), Effect::InRoom(InRoom::Close)]
}

fn bodies(stub: &Stub) -> Vec<String> {
    stub.said().into_iter().map(|(_, body)| body).collect()
}

#[tokio::test]
async fn a_room_is_made_and_ghosts_come_at_their_first_word() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    let al = UserId::parse("@al:x").unwrap();
    bridge.keep(portal, b"ask", vec![Effect::InRoom(InRoom::Invite(al))]).await;
    bridge.drain().await;
    assert!(bridge.stub.look(|rooms| rooms.users.is_empty()));
    bridge.say(portal, "bob:b.example", "hi").await;
    bridge.drain().await;
    let ghost = "@causeway_bob:b.example".to_owned();
    assert_eq!(bridge.stub.said(), [(ghost.clone(), "hi".to_owned())]);
    bridge.stub.look(|rooms| {
        assert!(rooms.devices.contains(&format!("{ghost}/CAUSEWAY")));
        assert_eq!(rooms.names.get(&ghost).unwrap(), "bob (native)");
        let al = rooms.members.iter().find(|((_, user), _)| user == "@al:x").unwrap();
        assert_eq!(al.1, "invite");
    });
    assert!(bridge.portal_now(portal).await.room.is_some());
}

#[tokio::test]
async fn a_refused_name_or_topic_stops_nothing() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    let refused = || Fault::Answer(403, json!({"errcode": "M_FORBIDDEN", "error": "stub"}));
    bridge.stub.fail("/displayname", refused());
    bridge.say(portal, "bob:b.example", "hi").await;
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub), ["hi"]);
    bridge.stub.fail("/state/m.room.topic", refused());
    bridge.keep(portal, b"e", encrypted()).await;
    bridge.drain().await;
    let stats = bridge.stats().await;
    assert_eq!((stats.outbox, stats.dead_letters), (0, 0));
    assert!(bridge.stub.look(|rooms| rooms.faults.is_empty()));
}

#[tokio::test]
async fn order_is_kept_and_nothing_doubled_through_every_fault() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "0").await;
    bridge.drain().await;
    let faults = [
        Fault::Cut,
        Fault::Lost,
        Fault::Answer(500, json!({})),
        Fault::Answer(502, json!("<html>")),
        Fault::Answer(408, json!({})),
        Fault::Answer(429, json!({"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 700})),
        Fault::Answer(400, json!({"errcode": "M_UNKNOWN_DEVICE"})),
        Fault::Lost,
    ];
    for (number, fault) in (1..).zip(faults) {
        bridge.stub.fail("/send/", fault);
        bridge.say(portal, "bob:b.example", &number.to_string()).await;
        bridge.say(portal, "eve:b.example", &format!("{number}e")).await;
        while bridge.stats().await.outbox > 0 {
            bridge.drain().await;
            bridge.pass(130_000);
        }
    }
    let expected: Vec<String> = std::iter::once("0".to_owned())
        .chain((1..=8).flat_map(|n| [n.to_string(), format!("{n}e")]))
        .collect();
    assert_eq!(bodies(&bridge.stub), expected);
    assert_eq!(bridge.stats().await.dead_letters, 0);
}

#[tokio::test]
async fn a_rate_limit_is_obeyed() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "0").await;
    bridge.drain().await;
    let sends = || bridge.stub.look(|rooms| rooms.sends);
    let before = sends();
    bridge.stub.fail(
        "/send/",
        Fault::Answer(429, json!({"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 5_000})),
    );
    let mut bridge = bridge;
    bridge.say(portal, "bob:b.example", "1").await;
    for _ in 0..4 {
        bridge.drain().await;
        bridge.push(&[]).await;
        bridge.pass(1_000);
    }
    assert_eq!(bridge.stub.look(|rooms| rooms.sends), before + 1);
    bridge.pass(1_000);
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub), ["0", "1"]);
}

#[tokio::test]
async fn refusals_end_in_a_dead_letter_that_can_be_tried_again() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "0").await;
    bridge.drain().await;
    for _ in 0..3 {
        bridge.stub.fail("/send/", Fault::Answer(400, json!({"errcode": "M_ODD", "error": "no"})));
    }
    bridge.say(portal, "bob:b.example", "1").await;
    bridge.say(portal, "bob:b.example", "2").await;
    for _ in 0..4 {
        bridge.drain().await;
        bridge.pass(130_000);
    }
    assert_eq!(bodies(&bridge.stub), ["0", "2"]);
    let mut read = bridge.spine.db.read().await.unwrap();
    let mut dead = dead_letters::list(&mut read, 0, 10).await.unwrap();
    drop(read);
    // The notice into the group, which nobody here is in.
    dead.retain(|letter| letter.lane.ends_with("to_matrix"));
    assert_eq!(dead.len(), 1);
    assert!(dead[0].reason.contains("M_ODD") && dead[0].attempts == 3, "{dead:?}");
    let mut tx = bridge.spine.db.begin().await.unwrap();
    let until = bridge.spine.now().plus_ms(1_000_000);
    let replayed =
        dead_letters::replay(&mut tx, &bridge.spine.sealer, dead[0].id, until).await.unwrap();
    assert_eq!(replayed, Replayed::Yes);
    tx.commit().await.unwrap();
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub), ["0", "2", "1"]);
}

/// Failures of the portal's lane since something last went well.
async fn failures(bridge: &Bridge, portal: PortalId) -> u32 {
    let lane = Lane::ToMatrix(portal).to_string();
    let lanes = stats::lanes(&mut bridge.spine.db.read().await.unwrap()).await.unwrap();
    lanes.iter().find(|known| known.lane == lane).map_or(0, |known| known.failures)
}

#[tokio::test]
async fn waits_begin_anew_once_something_went_well() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "0").await;
    bridge.drain().await;
    for body in ["1", "2", "3"] {
        bridge.say(portal, "bob:b.example", body).await;
    }
    for tries in 1..=4 {
        bridge.stub.fail("/send/", Fault::Answer(502, json!({})));
        bridge.drain().await;
        assert_eq!(failures(&bridge, portal).await, tries);
        bridge.pass(130_000);
    }
    // The first is said, and the second fails for the first time.
    let answer = Arc::new(Notify::new());
    bridge.stub.fail("/send/", Fault::Held(Arc::clone(&answer)));
    bridge.stub.fail("/send/", Fault::Answer(502, json!({})));
    answer.notify_one();
    bridge.drain().await;
    assert_eq!((bodies(&bridge.stub).len(), failures(&bridge, portal).await), (2, 1));
    bridge.pass(130_000);
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub), ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_dead_letter_that_was_never_tried_is_not_looked_for() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    let spoken = bridge.say(portal, "bob:b.example", "0").await;
    bridge.drain().await;
    let Said::Text(text, _) = &spoken.said;
    let unsaid = Spoken {
        message_id: EnvelopeId::new([9; 16]),
        said: Said::Text(Text { body: "1".to_owned(), ..text.clone() }, None),
        ..spoken
    };
    let unsaid = Effect::Here(Here::Unsaid(unsaid, "put out".to_owned()));
    bridge.keep(portal, b"unsaid", vec![unsaid]).await;
    let letter = dead(&bridge).await.pop().unwrap();
    assert_eq!(replay(&bridge, letter.id).await, Replayed::Yes);
    // A search would fail.
    bridge.stub.fail("messages", Fault::Answer(502, json!({})));
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub), ["0", "1"]);
}

#[tokio::test]
async fn an_outcome_long_unknown_is_looked_up_before_it_is_tried_again() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "0").await;
    bridge.drain().await;
    bridge.stub.fail("/send/", Fault::Lost);
    bridge.say(portal, "bob:b.example", "1").await;
    bridge.drain().await;
    bridge.stub.forget_txns();
    bridge.pass(13 * 60 * 60 * 1_000);
    bridge.drain().await;
    assert_eq!(bridge.stats().await.outbox, 0);
    assert_eq!(bodies(&bridge.stub), ["0", "1"]);
}

/// When an event was sent is what its sender's server says.
#[tokio::test]
async fn an_event_that_says_it_is_old_hides_nothing() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "0").await;
    bridge.drain().await;
    let room = bridge.portal_now(portal).await.room.unwrap();
    bridge.stub.fail("/send/", Fault::Lost);
    bridge.say(portal, "bob:b.example", "1").await;
    bridge.drain().await;
    bridge.stub.look(|rooms| {
        rooms.event(room.as_str(), "@eve:far", "m.room.message", None, json!({"body": "old"}));
        rooms.events.last_mut().unwrap()["origin_server_ts"] = json!(1);
    });
    bridge.stub.forget_txns();
    bridge.pass(13 * 60 * 60 * 1_000);
    bridge.drain().await;
    assert_eq!(bridge.stats().await.outbox, 0);
    let said = bodies(&bridge.stub);
    assert_eq!(said.iter().filter(|body| *body == "1").count(), 1, "{said:?}");
}

/// Anybody in the room may write our marker, whose value is no secret.
#[tokio::test]
async fn a_marker_that_another_has_written_hides_nothing() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "0").await;
    bridge.drain().await;
    let room = bridge.portal_now(portal).await.room.unwrap();
    // Its outcome is unknown, and the room does not have it.
    bridge.stub.fail("/send/", Fault::Cut);
    bridge.say(portal, "bob:b.example", "1").await;
    bridge.drain().await;
    let lane = Lane::ToMatrix(portal);
    let mut read = bridge.spine.db.read().await.unwrap();
    let head: Head<InRoom> = bridge.first(read.conn(), &lane).await;
    drop(read);
    let Head::Rows(rows) = head else { panic!("it can be read") };
    let marked = json!({"msgtype": "m.text", "body": "x", "dev.causeway.txn": rows[0].entry.txn});
    bridge.stub.look(|rooms| rooms.event(room.as_str(), "@al:x", "m.room.message", None, marked));
    bridge.stub.forget_txns();
    bridge.pass(13 * 60 * 60 * 1_000);
    bridge.drain().await;
    assert_eq!(bridge.stats().await.outbox, 0);
    assert_eq!(bodies(&bridge.stub), ["0", "x", "1"]);
}

#[tokio::test]
async fn a_room_made_before_a_crash_is_adopted() {
    let bridge = Bridge::start().await;
    bridge.stub.fail("createRoom", Fault::Lost);
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    assert!(bridge.portal_now(portal).await.room.is_none());
    bridge.pass(130_000);
    bridge.drain().await;
    assert!(bridge.portal_now(portal).await.room.is_some());
    let rooms = bridge
        .stub
        .look(|rooms| rooms.events.iter().filter(|event| event["type"] == "m.room.create").count());
    assert_eq!(rooms, 1);
}

#[tokio::test]
async fn a_strangers_room_under_our_alias_is_not_adopted_and_the_group_is_told() {
    let bridge = Bridge::start().await;
    let alias = Names::alias_localpart(&GroupId::new([1; 32]));
    let theirs = json!({"room_alias_name": alias, "initial_state": []});
    bridge.stub.change(|rooms| rooms.create("@eve:b.example", &theirs).unwrap());
    let portal = bridge.portal(1).await;
    assert_eq!(given_up(&bridge, portal).await, ["The group has no room: #"]);
    assert!(bridge.portal_now(portal).await.room.is_none());
}

#[tokio::test]
async fn an_invite_that_is_refused_is_told_to_the_group() {
    let bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    let room = bridge.portal_now(portal).await.room.unwrap();
    for user in ["@al:x", "@eve:x"] {
        bridge.stub.change(|rooms| {
            rooms.membership(room.as_str(), "@causewaybot:b.example", user, "invite").unwrap();
            rooms.membership(room.as_str(), "@causewaybot:b.example", user, "ban").unwrap();
        });
        let invite = Effect::InRoom(InRoom::Invite(UserId::parse(user).unwrap()));
        bridge.keep(portal, user.as_bytes(), vec![invite]).await;
    }
    let told = given_up(&bridge, portal).await;
    assert_eq!(told, ["@al:x is not invited to ", "@eve:x is not invited to"]);
}

/// Tries until all is given up; how what the group is told of it begins.
async fn given_up(bridge: &Bridge, portal: PortalId) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..8 {
        while deliver::step(&bridge.spine).await.unwrap() == Step::Did {
            let mut tx = bridge.spine.db.begin().await.unwrap();
            let lane = Lane::ToNative(portal);
            let head = bridge.first(tx.conn(), &lane).await;
            let Head::Rows(rows) = head else { panic!("{head:?}") };
            told.extend(rows.into_iter().filter_map(|row| match row.entry.deed {
                InGroup::Notice(text) => Some(text.chars().take(24).collect::<String>()),
                InGroup::Say(_) | InGroup::Announce(..) => None,
            }));
        }
        bridge.pass(130_000);
    }
    told.sort();
    told.dedup();
    told
}

#[tokio::test]
async fn an_unknown_token_stops_all_lanes_until_it_is_taken() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "0").await;
    bridge.drain().await;
    let refusal = || Fault::Answer(401, json!({"errcode": "M_UNKNOWN_TOKEN"}));
    bridge.stub.fail("/send/", refusal());
    bridge.stub.fail("whoami", refusal());
    bridge.say(portal, "bob:b.example", "1").await;
    bridge.drain().await;
    assert!(!*bridge.spine.token_taken.borrow());
    assert_eq!(bodies(&bridge.stub), ["0"]);
    assert_eq!(bridge.stats().await.dead_letters, 0);
    bridge.drain().await;
    assert!(*bridge.spine.token_taken.borrow());
    assert_eq!(bodies(&bridge.stub), ["0", "1"]);
}

#[tokio::test]
async fn nothing_goes_into_an_encrypted_room() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "0").await;
    bridge.drain().await;
    bridge.keep(portal, b"enc", encrypted()).await;
    bridge.say(portal, "bob:b.example", "1").await;
    bridge
        .keep(
            portal,
            b"left",
            vec![Effect::InRoom(InRoom::Leave("bob:b.example".parse().unwrap()))],
        )
        .await;
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub), ["0"]);
    assert_eq!(bridge.stats().await.paused_lanes, 1);
    bridge.stub.look(|rooms| {
        let topic = rooms.events.iter().find(|event| event["type"] == "m.room.topic").unwrap();
        assert!(topic["content"]["topic"].as_str().unwrap().contains("paused"));
        let ghost = rooms.members.iter().find(|((_, user), _)| user == "@causeway_bob:b.example");
        assert_eq!(ghost.unwrap().1, "leave");
    });
    bridge.keep(portal, b"close", closed()).await;
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub), ["0"]);
}

#[tokio::test]
async fn what_is_on_its_way_when_the_room_turns_encrypted_stops() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "0").await;
    bridge.drain().await;
    for body in ["1", "2", "3"] {
        bridge.say(portal, "bob:b.example", body).await;
    }
    let answer = Arc::new(Notify::new());
    bridge.stub.fail("/send/", Fault::Held(Arc::clone(&answer)));
    let room = bridge.portal_now(portal).await.room.unwrap();
    let turns = async {
        bridge.stub.wait(|rooms| (rooms.sends == 2).then_some(())).await;
        let event = json!({"event_id": "$enc", "room_id": room, "sender": "@al:x",
            "type": "m.room.encryption", "state_key": "", "content": {}});
        bridge.push(&[event]).await;
        from_matrix::step(&bridge.spine).await.unwrap();
        answer.notify_one();
    };
    let (served, ()) = tokio::join!(deliver::step(&bridge.spine), turns);
    served.unwrap();
    bridge.drain().await;
    bridge.pass(130_000);
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub), ["0", "1"]);
    let stats = bridge.stats().await;
    assert_eq!((stats.paused_lanes, stats.outbox), (1, 2));
}

#[tokio::test]
async fn a_portal_closed_before_its_room_stands_gets_its_room() {
    let bridge = Bridge::start().await;
    let id = bridge.portal(1).await;
    bridge.keep(id, b"close", closed()).await;
    bridge.drain().await;
    let portal = bridge.portal_now(id).await;
    assert!(portal.room.is_some());
    assert_eq!(portal.state, PortalState::Closed);
}

#[tokio::test]
async fn a_closed_portal_says_so_and_its_ghosts_leave() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "0").await;
    bridge.say(portal, "eve:b.example", "1").await;
    bridge.keep(portal, b"close", closed()).await;
    bridge.drain().await;
    let said = bridge.stub.said();
    assert_eq!(said.last().unwrap().0, "@causewaybot:b.example");
    bridge.stub.look(|rooms| {
        let inside: Vec<&str> = rooms
            .members
            .iter()
            .filter(|(_, membership)| *membership == "join")
            .map(|((_, user), _)| user.as_str())
            .collect();
        assert_eq!(inside, ["@causewaybot:b.example"]);
    });
}

#[tokio::test]
async fn a_homeserver_that_comes_back_is_not_waited_for() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.say(portal, "bob:b.example", "0").await;
    bridge.drain().await;
    bridge.say(portal, "bob:b.example", "1").await;
    for _ in 0..12 {
        bridge.stub.fail("/send/", Fault::Cut);
        bridge.drain().await;
        bridge.pass(130_000);
    }
    bridge.stub.fail("/send/", Fault::Cut);
    bridge.drain().await;
    assert_eq!(bridge.stats().await.outbox, 1);
    bridge.push(&[]).await;
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub), ["0", "1"]);

    // A ping that goes well again says the same.
    bridge.say(portal, "bob:b.example", "2").await;
    bridge.stub.fail("/send/", Fault::Cut);
    bridge.drain().await;
    bridge.drain().await;
    assert_eq!(bridge.stats().await.outbox, 1, "it waits");
    let mut tx = bridge.spine.db.begin().await.unwrap();
    lanes::back(&mut tx);
    tx.commit().await.unwrap();
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub), ["0", "1", "2"]);
}

#[tokio::test]
async fn nothing_more_goes_into_a_room_that_is_encrypted_while_its_lane_is_served() {
    const SAID: usize = 250;
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    for number in 0..SAID {
        bridge.say(portal, "bob:b.example", &number.to_string()).await;
    }
    let served = deliver::step(&bridge.spine);
    let encrypted = async {
        bridge.stub.wait(|rooms| (rooms.sends > 0).then_some(())).await;
        bridge.keep(portal, b"enc", encrypted()).await;
    };
    let (step, ()) = tokio::join!(served, encrypted);
    assert_eq!(step.unwrap(), Step::Did);
    let said = bodies(&bridge.stub).len();
    assert!(said < SAID, "all of it was said");
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub).len(), said);
    assert_eq!(bridge.stats().await.outbox, i64::try_from(SAID - said).unwrap());
}

#[tokio::test]
async fn the_lane_of_a_worker_that_ends_in_the_middle_is_free_at_once() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    bridge.say(portal, "bob:b.example", "heard").await;
    let stopped = bridge.spine.steps.set(steps::Step::SentEvent, 0);
    tokio::select! {
        _ = deliver::step(&bridge.spine) => panic!("it ended"),
        stopped = stopped => stopped.unwrap(),
    }
    bridge.drain().await;
    assert_eq!((bodies(&bridge.stub), bridge.stats().await.outbox), (vec!["heard".to_owned()], 0));
}

#[tokio::test]
async fn a_lane_that_is_served_already_is_nobody_elses() {
    let mut bridge = Bridge::start().await;
    let (first, second) = (bridge.portal(1).await, bridge.portal(2).await);
    bridge.drain().await;
    bridge.say(first, "bob:b.example", "1").await;
    let stopped = bridge.spine.steps.set(steps::Step::Claimed, 0);
    let (own, others) = (bridge.spine.clone(), async {
        stopped.await.unwrap();
        bridge.say(first, "bob:b.example", "2").await;
        bridge.say(second, "eve:b.example", "3").await;
        bridge.drain().await;
        bodies(&bridge.stub)
    });
    let said = tokio::select! {
        _ = deliver::step(&own) => panic!("it ended"),
        said = others => said,
    };
    assert_eq!(said, ["3"]);
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub), ["3", "1", "2"]);
}

/// Makes whatever waits something else, as the bytes that are sealed or as the row.
async fn spoil(bridge: &Bridge, sealed: impl Fn(&str) -> Vec<u8>) {
    let mut tx = bridge.spine.db.begin().await.unwrap();
    let txns: Vec<String> = sqlx::query_scalar("SELECT txn FROM portal_outbox ORDER BY id")
        .fetch_all(tx.conn())
        .await
        .unwrap();
    for txn in txns {
        sqlx::query("UPDATE portal_outbox SET sealed = $2 WHERE txn = $1")
            .bind(txn.as_str())
            .bind(sealed(&txn))
            .execute(tx.conn())
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
}

async fn dead(bridge: &Bridge) -> Vec<DeadLetter> {
    dead_letters::list(&mut bridge.spine.db.read().await.unwrap(), 0, 10).await.unwrap()
}

async fn replay(bridge: &Bridge, id: i64) -> Replayed {
    let mut tx = bridge.spine.db.begin().await.unwrap();
    let until = bridge.spine.now().plus_ms(1_000);
    let replayed = dead_letters::replay(&mut tx, &bridge.spine.sealer, id, until).await.unwrap();
    tx.commit().await.unwrap();
    replayed
}

#[tokio::test]
async fn a_damaged_row_becomes_a_dead_letter_and_its_lane_goes_on() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    bridge.say(portal, "bob:b.example", "lost").await;
    spoil(&bridge, |_| vec![0; 64]).await;
    bridge.say(portal, "bob:b.example", "heard").await;
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub), ["heard"]);
    // The group is told; here nobody lets the word in, which buries it too.
    let dead = dead(&bridge).await;
    let [letter, word] = &dead[..] else { panic!("{dead:?}") };
    assert_eq!(letter.reason, "what was kept of it is damaged");
    assert_eq!(word.lane, Lane::ToNative(portal).to_string());
    assert_eq!(replay(&bridge, letter.id).await, Replayed::Damaged);
    assert_eq!(bridge.stats().await.dead_letters, 2);
}

#[tokio::test]
async fn what_another_version_kept_waits_as_a_dead_letter_for_the_one_that_can_read_it() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    bridge.say(portal, "bob:b.example", "later").await;
    let sealer = bridge.spine.sealer.clone();
    let newer = br#"{"v":99,"deed":{"InRoom":"Sing"}}"#;
    spoil(&bridge, |txn| sealer.seal("portal_outbox", txn.as_bytes(), newer).unwrap()).await;
    bridge.say(portal, "bob:b.example", "heard").await;
    bridge.drain().await;
    assert_eq!(bodies(&bridge.stub), ["heard"]);
    let dead = dead(&bridge).await;
    assert_eq!(dead[0].reason, "it was kept by another version of the bridge");
    // Tried again, it is where it was: the bytes are all there.
    assert_eq!(replay(&bridge, dead[0].id).await, Replayed::Yes);
    let mut tx = bridge.spine.db.begin().await.unwrap();
    let lane = Lane::ToMatrix(portal);
    let head = bridge.first::<InRoom>(tx.conn(), &lane).await;
    let Head::Unreadable(row) = head else { panic!("{head:?}") };
    assert_eq!(row.entry.deed.bytes.unwrap().as_slice(), newer);
}

#[tokio::test]
async fn what_the_version_before_kept_is_carried_out() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    let spoken = bridge.say(portal, "bob:b.example", "new").await;
    let old = json!({"ToMatrix": {
        "account": spoken.account, "reference": spoken.reference,
        "message_id": spoken.message_id, "expires_at": spoken.expires_at, "late": false,
        "text": {"kind": "text", "body": "old"}, "reply_to": null,
    }})
    .to_string();
    let sealer = bridge.spine.sealer.clone();
    spoil(&bridge, |txn| sealer.seal("portal_outbox", txn.as_bytes(), old.as_bytes()).unwrap())
        .await;
    bridge.drain().await;
    assert_eq!((bodies(&bridge.stub), bridge.stats().await.dead_letters), (vec!["old".into()], 0));
}

//! What the homeserver never sent, or sent out of turn, is put at its place.

use std::{sync::Arc, time::Duration};

use causeway_bridge::{
    domain::{
        effect::InGroup,
        lane::Lane,
        portal::PortalId,
        said::{Relayed, Said},
        suspicion::Came,
    },
    health::Kind,
    services::{Step, from_matrix, reconcile},
    storage::{
        inbox,
        outbox::Head,
        reading::{self, Gap},
    },
};
use causeway_store::Script;
use serde_json::{Value, json};
use tokio::sync::Notify;

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
    assert_eq!(reconcile(&bridge).await, 0);
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

async fn rows(bridge: &Bridge, portal: PortalId) -> Vec<InGroup> {
    while from_matrix::step(&bridge.spine).await.unwrap() == Step::Did {}
    let mut tx = bridge.spine.db.begin().await.unwrap();
    let lane = Lane::ToNative(portal);
    let head = bridge.first(tx.conn(), &lane).await;
    let Head::Rows(rows) = head else { panic!("{head:?}") };
    rows.into_iter().map(|row| row.entry.deed).collect()
}

/// What is on its way into the group, in its order.
async fn relayed(bridge: &Bridge, portal: PortalId) -> Vec<String> {
    rows(bridge, portal)
        .await
        .into_iter()
        .filter_map(|deed| match deed {
            InGroup::Say(Relayed { said: Said::Text(text, _), .. }) => Some(text.body),
            InGroup::Announce(..) | InGroup::Notice(_) => None,
        })
        .collect()
}

/// Reads on, and fills every gap that can be filled; rooms that cannot be read are left.
async fn reconcile(bridge: &Bridge) -> usize {
    reconcile::look(&bridge.spine).await.unwrap();
    let mut left = 0;
    for gap in gaps(bridge).await {
        left += usize::from(reconcile::fill(&bridge.spine, &gap.room).await.is_err());
    }
    left
}

async fn gaps(bridge: &Bridge) -> Vec<Gap> {
    reading::gaps(&mut bridge.spine.db.read().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_transaction_that_does_not_follow_waits_for_what_is_missing() {
    let (bridge, portal, room) = room().await;
    let [_, second, third] = [1, 2, 3].map(|n| say(&bridge, &room, n));
    bridge.push_as("4", &[third]).await;
    assert_eq!(relayed(&bridge, portal).await, ["0"]);
    bridge.push_as("5", &[second]).await;
    assert_eq!(reconcile(&bridge).await, 0);
    assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2", "3"]);
}

/// The smallest form of what a homeserver loses when it starts again: its numbers follow.
#[tokio::test]
async fn what_no_transaction_brought_is_fetched_before_what_a_new_connection_brings() {
    let (bridge, portal, room) = room().await;
    let [_, second] = [1, 2].map(|n| say(&bridge, &room, n));
    let came = Came { txn: "3", on_new_connection: true, whole: true };
    bridge.push_so(came, &[second]).await;
    assert_eq!(relayed(&bridge, portal).await, ["0"]);
    assert_eq!(reconcile(&bridge).await, 0);
    assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2"]);
}

#[tokio::test]
async fn what_never_came_is_fetched_without_any_doubt_too() {
    let (bridge, portal, room) = room().await;
    let [_, second] = [1, 2].map(|n| say(&bridge, &room, n));
    bridge.push_as("3", &[second]).await;
    assert_eq!(relayed(&bridge, portal).await, ["0", "2"]);
    assert_eq!(reconcile(&bridge).await, 0);
    assert_eq!(relayed(&bridge, portal).await, ["0", "2", "1"]);
}

#[tokio::test]
async fn what_was_sent_while_nobody_listened_is_fetched_at_the_start() {
    let (bridge, portal, room) = room().await;
    for n in 1..=250 {
        say(&bridge, &room, n);
    }
    bridge.spine.take_over().await.unwrap();
    assert_eq!(reconcile(&bridge).await, 0);
    assert_eq!(bridge.stats().await.inbox, 250);
    let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    assert!(expected.starts_with(&relayed(&bridge, portal).await));
    assert_eq!(bridge.stats().await.inbox, 0);
}

#[tokio::test]
async fn a_room_that_cannot_be_read_waits_alone() {
    let (bridge, portal, room) = room().await;
    let other = bridge.portal(2).await;
    // What was said so far is given up here, where no group takes it.
    bridge.drain().await;
    let elsewhere = bridge.portal_now(other).await.room.unwrap().to_string();
    for n in 1..=30 {
        say(&bridge, &room, n);
        say(&bridge, &elsewhere, n);
    }
    // A server error, and a gateway's word: neither is the homeserver's that it will not.
    for answer in [Fault::Answer(500, json!({})), Fault::Answer(404, json!({}))] {
        let turn = usize::from(matches!(answer, Fault::Answer(404, _)));
        bridge.stub.fail("room0:b.example/messages", answer);
        assert_eq!(reconcile(&bridge).await, 1, "{turn}");
        assert!(relayed(&bridge, portal).await.is_empty());
    }
    let expected: Vec<String> = (1..=30).map(|n| n.to_string()).collect();
    assert_eq!(relayed(&bridge, other).await, expected);
    let late = say(&bridge, &room, 31);
    bridge.push_as("3", &[late]).await;
    assert_eq!(reconcile(&bridge).await, 0);
    let expected: Vec<String> = (1..=31).map(|n| n.to_string()).collect();
    assert_eq!(relayed(&bridge, portal).await, expected);
}

/// More rooms than the database has readers: none holds one while it waits for the homeserver.
#[tokio::test]
async fn rooms_are_read_side_by_side() {
    let (bridge, ..) = room().await;
    for n in 2..=9 {
        bridge.portal(n).await;
    }
    bridge.drain().await;
    bridge.stub.fail("sync", Fault::Answer(400, json!({"errcode": "M_UNKNOWN"})));
    reconcile::look(&bridge.spine).await.unwrap();
    let gaps = gaps(&bridge).await;
    assert_eq!(gaps.len(), 9);
    let fills = gaps.iter().map(|gap| reconcile::fill(&bridge.spine, &gap.room));
    let filled = futures_util::future::try_join_all(fills);
    tokio::time::timeout(Duration::from_secs(10), filled).await.unwrap().unwrap();
}

/// As many as begin at once do not answer: what is wrong with them is no other room's affair.
#[tokio::test]
async fn rooms_that_hang_keep_no_other_waiting() {
    let (bridge, ..) = room().await;
    for n in 2..=17 {
        bridge.portal(n).await;
    }
    bridge.drain().await;
    bridge.stub.fail("sync", Fault::Answer(400, json!({"errcode": "M_UNKNOWN"})));
    reconcile::look(&bridge.spine).await.unwrap();
    assert_eq!(gaps(&bridge).await.len(), 17);
    for _ in 0..16 {
        bridge.stub.fail("messages", Fault::Held(Arc::new(Notify::new())));
    }
    let read = async {
        let mut woken = bridge.spine.db.listen(inbox::TOPIC);
        while gaps(&bridge).await.len() > 16 {
            woken.changed().await;
        }
    };
    // Half of what a request may take.
    let run = reconcile::run(&bridge.spine, read);
    tokio::time::timeout(Duration::from_secs(30), run).await.unwrap();
    assert_eq!(gaps(&bridge).await.len(), 16);
}

/// Who looks for the next room waits for a reader, and those at work have them all.
#[tokio::test]
async fn many_rooms_are_filled_though_readers_are_few() {
    let (bridge, ..) = room().await;
    for n in 2..=40 {
        bridge.portal(n).await;
    }
    bridge.drain().await;
    bridge.stub.fail("sync", Fault::Answer(400, json!({"errcode": "M_UNKNOWN"})));
    reconcile::look(&bridge.spine).await.unwrap();
    assert_eq!(gaps(&bridge).await.len(), 40);
    let read = async {
        let mut woken = bridge.spine.db.listen(inbox::TOPIC);
        while !gaps(&bridge).await.is_empty() {
            woken.changed().await;
        }
    };
    // Less than a reader is waited for.
    let run = reconcile::run(&bridge.spine, read);
    tokio::time::timeout(Duration::from_secs(25), run).await.unwrap();
}

/// Others than Synapse end with the page that they call the last: what came by itself meanwhile is
/// behind it.
#[tokio::test]
async fn what_came_while_the_last_page_was_asked_for_is_behind_it() {
    let (bridge, portal, room) = room().await;
    assert_eq!(reconcile(&bridge).await, 0);
    for n in 1..=30 {
        say(&bridge, &room, n);
    }
    reconcile::look(&bridge.spine).await.unwrap();
    let gap = gaps(&bridge).await.remove(0);
    let chunk: Vec<Value> =
        bridge.stub.look(|rooms| rooms.events[rooms.events.len() - 30..].to_vec());
    let answer = Arc::new(Notify::new());
    bridge.stub.fail("messages", Fault::Late(Arc::clone(&answer), json!({"chunk": chunk})));
    let meanwhile = async {
        bridge.stub.changed().await;
        let late = say(&bridge, &room, 31);
        bridge.push_as("3", &[late]).await;
        answer.notify_one();
    };
    let (filled, ()) = tokio::join!(reconcile::fill(&bridge.spine, &gap.room), meanwhile);
    filled.unwrap();
    let expected: Vec<String> = (0..=31).map(|n| n.to_string()).collect();
    assert_eq!(relayed(&bridge, portal).await, expected);
}

/// A place in the order of a room's graph may stand behind what comes later.
#[tokio::test]
async fn a_gap_that_is_opened_again_is_read_once_more_from_there() {
    let (bridge, ..) = room().await;
    let room = ruma::RoomId::parse("!gap:x").unwrap();
    let now =
        async || reading::gap(&mut bridge.spine.db.read().await.unwrap(), &room).await.unwrap();
    let mut tx = bridge.spine.db.begin().await.unwrap();
    reading::open_gap(&mut tx, &room, Some("s1")).await.unwrap();
    tx.commit().await.unwrap();
    let before = now().await.unwrap();
    let mut tx = bridge.spine.db.begin().await.unwrap();
    reading::filled_to(&mut tx, &room, Some("t5-9")).await.unwrap();
    for again in ["s3", "s4"] {
        reading::open_gap(&mut tx, &room, Some(again)).await.unwrap();
    }
    assert!(!reading::close_gap(&mut tx, &before).await.unwrap());
    tx.commit().await.unwrap();
    let again = now().await.unwrap();
    assert_eq!(again.behind.as_deref(), Some("s3"));
    let mut tx = bridge.spine.db.begin().await.unwrap();
    assert!(reading::close_gap(&mut tx, &again).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(now().await, None);
}

#[tokio::test]
async fn a_room_that_may_not_be_read_goes_on_with_what_came() {
    let (bridge, portal, room) = room().await;
    let said: Vec<Value> = (1..=30).map(|n| say(&bridge, &room, n)).collect();
    bridge.push_as("9", &said[29..]).await;
    let refusal = Fault::Answer(403, json!({"errcode": "M_FORBIDDEN"}));
    bridge.stub.fail("messages", refusal);
    assert_eq!(reconcile(&bridge).await, 0);
    assert_eq!(relayed(&bridge, portal).await, ["0", "30"]);
}

#[tokio::test]
async fn a_homeserver_without_an_account_has_each_room_read_back() {
    let refusal = Fault::Answer(404, json!({"errcode": "M_UNRECOGNIZED"}));
    for answer in [refusal, Fault::Answer(200, json!({}))] {
        let (bridge, portal, room) = room().await;
        let [_, second] = [1, 2].map(|n| say(&bridge, &room, n));
        bridge.push_as("9", &[second]).await;
        assert_eq!(relayed(&bridge, portal).await, ["0"]);
        bridge.stub.fail("sync", answer);
        assert_eq!(reconcile(&bridge).await, 0);
        assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2"]);
    }
}

/// What is held against our bot or our token says nothing of the rooms: it is shown, and waited for.
#[tokio::test]
async fn a_homeserver_that_refuses_our_bot_is_asked_again_and_loses_nothing() {
    let (bridge, portal, room) = room().await;
    let [_, second] = [1, 2].map(|n| say(&bridge, &room, n));
    bridge.push_as("9", &[second]).await;
    for (status, code) in [(401, "M_UNKNOWN_TOKEN"), (403, "M_USER_DEACTIVATED")] {
        bridge.stub.fail("sync", Fault::Answer(status, json!({"errcode": code})));
    }
    let answer = Arc::new(Notify::new());
    bridge.stub.fail("sync", Fault::Held(Arc::clone(&answer)));
    let troubles = &bridge.spine.troubles;
    let mut taken = bridge.spine.token_taken.subscribe();
    let seen = async {
        bridge.stub.wait(|rooms| rooms.faults.is_empty().then_some(())).await;
        let (_, why) = troubles.of(Kind::Account, "").unwrap();
        assert!(why.contains("M_USER_DEACTIVATED"), "{why}");
        assert!(!*taken.borrow_and_update());
        assert!(gaps(&bridge).await.is_empty());
        answer.notify_one();
        taken.wait_for(|taken| *taken).await.unwrap();
    };
    reconcile::run(&bridge.spine, seen).await;
    assert_eq!(troubles.of(Kind::Account, ""), None);
    assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2"]);
}

#[tokio::test]
async fn a_place_that_the_homeserver_does_not_know_is_looked_for_anew() {
    let (bridge, portal, room) = room().await;
    assert_eq!(reconcile(&bridge).await, 0);
    for n in 1..=30 {
        say(&bridge, &room, n);
    }
    let unknown = || Fault::Answer(400, json!({"errcode": "M_UNKNOWN"}));
    bridge.stub.fail("sync", unknown());
    bridge.stub.fail("messages", unknown());
    assert_eq!(reconcile(&bridge).await, 1);
    assert_eq!(reconcile(&bridge).await, 0);
    let expected: Vec<String> = (0..=30).map(|n| n.to_string()).collect();
    assert_eq!(relayed(&bridge, portal).await, expected);
}

/// Synapse takes a token of later for one of now, and says nothing about it.
#[tokio::test]
async fn what_a_homeserver_says_that_was_put_back_is_looked_for_anew() {
    let (bridge, portal, room) = room().await;
    let kept = bridge.stub.look(|rooms| rooms.events.len());
    let lost: Vec<Value> = (1..=5).map(|n| say(&bridge, &room, n)).collect();
    bridge.push_as("3", &lost).await;
    assert_eq!(reconcile(&bridge).await, 0);
    assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2", "3", "4", "5"]);
    bridge.stub.look(|rooms| rooms.events.truncate(kept));
    for n in 6..=7 {
        say(&bridge, &room, n);
        bridge.stub.look(|rooms| {
            rooms.events.last_mut().unwrap()["event_id"] = json!(format!("$anew{n}"));
        });
    }
    assert_eq!(reconcile(&bridge).await, 0);
    assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    // What natives said there since is gone too, and nobody else would tell them.
    let is_told =
        |deed: &InGroup| matches!(deed, InGroup::Notice(text) if text.contains("put back"));
    assert_eq!(rows(&bridge, portal).await.iter().filter(|deed| is_told(deed)).count(), 1);
}

/// What was found out counts as dealt with once it is kept.
#[tokio::test]
async fn a_homeserver_that_was_put_back_is_noticed_again_where_that_could_not_be_kept() {
    let (bridge, portal, room) = room().await;
    let kept = bridge.stub.look(|rooms| rooms.events.len());
    let lost: Vec<Value> = (1..=2).map(|n| say(&bridge, &room, n)).collect();
    bridge.push_as("3", &lost).await;
    assert_eq!(reconcile(&bridge).await, 0);
    assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2"]);
    bridge.stub.look(|rooms| rooms.events.truncate(kept));
    // Beyond our place in its rooms.
    for n in 3..=30 {
        say(&bridge, &room, n);
        bridge.stub.look(|rooms| {
            rooms.events.last_mut().unwrap()["event_id"] = json!(format!("$anew{n}"));
        });
    }
    let change = async |sql: &'static str| {
        let mut tx = bridge.spine.db.begin().await.unwrap();
        sqlx::query(sql).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    };
    change("CREATE TRIGGER refused BEFORE INSERT ON gaps BEGIN SELECT RAISE(ABORT, 'no'); END")
        .await;
    reconcile::look(&bridge.spine).await.unwrap_err();
    change("DROP TRIGGER refused").await;
    assert_eq!(reconcile(&bridge).await, 0);
    let expected: Vec<String> = (0..=30).map(|n| n.to_string()).collect();
    assert_eq!(relayed(&bridge, portal).await, expected);
}

/// Events that the bot may not see leave their page empty: there is more where an `end` is.
#[tokio::test]
async fn a_page_of_which_nothing_may_be_seen_is_not_the_last() {
    let (bridge, portal, room) = room().await;
    for n in 1..=30 {
        say(&bridge, &room, n);
    }
    let behind = bridge.stub.look(|rooms| rooms.events.len()) - 30;
    let empty = json!({"chunk": [], "end": format!("s{}", behind + 1)});
    bridge.stub.fail("messages", Fault::Answer(200, empty));
    assert_eq!(reconcile(&bridge).await, 0);
    let expected: Vec<String> =
        std::iter::once(0).chain(2..=30).map(|n: i32| n.to_string()).collect();
    assert_eq!(relayed(&bridge, portal).await, expected);
}

/// Anybody can write so much that it does not fit into one answer: less is asked for.
#[tokio::test]
async fn answers_that_are_too_long_are_had_in_parts() {
    let (bridge, portal, room) = room().await;
    for n in 1..=15 {
        say(&bridge, &room, n);
    }
    let long = |mib: usize| Fault::Answer(200, json!("x".repeat(mib * 1024 * 1024)));
    bridge.stub.fail("sync", long(64));
    bridge.stub.fail("messages", long(16));
    bridge.stub.fail("messages", long(16));
    assert_eq!(reconcile(&bridge).await, 0);
    let expected: Vec<String> = (0..=15).map(|n| n.to_string()).collect();
    assert_eq!(relayed(&bridge, portal).await, expected);
}

/// Whoever invites the bot writes as much of it as he likes: it would be in the answer each time.
#[tokio::test]
async fn an_answer_that_stays_too_long_is_passed_over_and_each_room_is_read_back() {
    let (bridge, portal, room) = room().await;
    for n in 1..=3 {
        say(&bridge, &room, n);
    }
    let next = format!("s{}", bridge.stub.look(|rooms| rooms.events.len()));
    for _ in 0..2 {
        let long = json!({"next_batch": next, "rooms": "x".repeat(64 << 20)});
        bridge.stub.fail("sync", Fault::Answer(200, long));
    }
    assert_eq!(reconcile(&bridge).await, 0);
    let place = reading::place(&mut bridge.spine.db.read().await.unwrap()).await.unwrap();
    assert_eq!(place.token, Some(next), "it goes on behind it");
    assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2", "3"]);
    say(&bridge, &room, 4);
    assert_eq!(reconcile(&bridge).await, 0);
    assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn what_is_doubted_while_it_is_read_still_is() {
    let (bridge, _, _) = room().await;
    let read = async || reading::place(&mut bridge.spine.db.read().await.unwrap()).await.unwrap();
    assert_eq!(reconcile(&bridge).await, 0);
    assert_eq!(read().await.doubts, 0);
    bridge.spine.take_over().await.unwrap();
    let before = read().await;
    let mut tx = bridge.spine.db.begin().await.unwrap();
    let mut script = Script::default();
    reading::doubt(&mut script);
    script.run(tx.conn()).await.unwrap();
    reading::read_to(&mut tx, &before, Some("s1"), 0).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(read().await.doubts, 1);
}

/// What the answer names keeps its order, though the newest row of all is among it.
#[tokio::test]
async fn what_comes_while_the_account_is_asked_for_that_names_it_keeps_its_place() {
    let (bridge, portal, room) = room().await;
    let [first, _] = [1, 2].map(|n| say(&bridge, &room, n));
    let answer = Arc::new(Notify::new());
    bridge.stub.fail("sync", Fault::Held(Arc::clone(&answer)));
    let meanwhile = async {
        bridge.stub.changed().await;
        bridge.push_as("3", &[first]).await;
        answer.notify_one();
    };
    let (looked, ()) = tokio::join!(reconcile::look(&bridge.spine), meanwhile);
    looked.unwrap();
    assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2"]);
}

/// A proxy may open a connection for each request: there is always doubt about what comes next.
#[tokio::test]
async fn what_was_read_goes_on_though_what_came_since_is_doubted() {
    let (bridge, portal, room) = room().await;
    let came = |txn| Came { txn, on_new_connection: true, whole: true };
    let [_, second] = [1, 2].map(|n| say(&bridge, &room, n));
    bridge.push_so(came("3"), &[second]).await;
    let answer = Arc::new(Notify::new());
    bridge.stub.fail("sync", Fault::Held(Arc::clone(&answer)));
    let since = async {
        bridge.stub.changed().await;
        let third = say(&bridge, &room, 3);
        bridge.push_so(came("4"), &[third]).await;
        answer.notify_one();
    };
    let (looked, ()) = tokio::join!(reconcile::look(&bridge.spine), since);
    looked.unwrap();
    assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2"]);
    assert_eq!(reconcile(&bridge).await, 0);
    assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2", "3"]);
}

/// Makes the row of the newest event one that does not open.
async fn damage(bridge: &Bridge) {
    let mut tx = bridge.spine.db.begin().await.unwrap();
    let newest = "UPDATE inbox SET sealed = zeroblob(64) WHERE seq = (SELECT MAX(seq) FROM inbox)";
    sqlx::query(newest).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_damaged_row_is_fetched_again_and_keeps_its_place() {
    let (bridge, portal, room) = room().await;
    let [first, second] = [1, 2].map(|n| say(&bridge, &room, n));
    bridge.push_as("3", &[first]).await;
    damage(&bridge).await;
    bridge.push_as("4", &[second]).await;
    assert_eq!(relayed(&bridge, portal).await, ["0"]);
    let id = room.as_str().try_into().unwrap();
    bridge.stub.fail("/event/", Fault::Answer(502, json!({})));
    assert!(reconcile::fill(&bridge.spine, id).await.is_err());
    assert_eq!(relayed(&bridge, portal).await, ["0"]);
    reconcile::fill(&bridge.spine, id).await.unwrap();
    assert_eq!(relayed(&bridge, portal).await, ["0", "1", "2"]);
}

#[tokio::test]
async fn a_damaged_row_that_cannot_be_had_again_is_told_and_the_rest_goes_on() {
    let (bridge, portal, room) = room().await;
    let [first, second] = [1, 2].map(|n| say(&bridge, &room, n));
    bridge.push_as("3", &[first]).await;
    damage(&bridge).await;
    bridge.push_as("4", &[second]).await;
    assert_eq!(relayed(&bridge, portal).await, ["0"]);
    let gone = Fault::Answer(404, json!({"errcode": "M_NOT_FOUND"}));
    bridge.stub.fail("/event/", gone);
    reconcile::fill(&bridge.spine, room.as_str().try_into().unwrap()).await.unwrap();
    assert_eq!(relayed(&bridge, portal).await, ["0", "2"]);
    let mut notices = rows(&bridge, portal).await.into_iter().filter_map(|deed| match deed {
        InGroup::Notice(text) => Some(text),
        InGroup::Say(_) | InGroup::Announce(..) => None,
    });
    assert!(notices.next_back().unwrap().contains("damaged"));
}

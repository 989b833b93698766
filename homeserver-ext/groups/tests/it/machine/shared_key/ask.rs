//! Whoever has no key yet says so and asks; whoever may give it answers.

use causeway_groups::machine::{NewGroup, SealError, What};
use causeway_protocol::{api::StreamRow, envelope::Kind, ids::Seq, roster::Role};

use super::{
    ALICE, BOB, CAROL, HOUR, MINUTE, garden, key, nothing_failed, refused, sent, shared, waiting,
};
use crate::world::World;

fn without(rows: Vec<StreamRow>, kind: Kind) -> Vec<StreamRow> {
    rows.into_iter().filter(|row| row.envelope.kind != kind).collect()
}

#[tokio::test]
async fn a_message_that_came_before_its_key_waits_for_it() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let carol = world.register("carol").await;
    world.add(ALICE, group, carol, Role::Member).await;
    world.send(ALICE, group, "one").await;
    let rows = world.waiting(BOB);
    let keys = waiting(&world, BOB, Kind::KeyDistribution);
    let before = world.devices[BOB].received.len();
    world.receive(BOB, &without(rows, Kind::KeyDistribution)).await;
    assert!(world.devices[BOB].texts().is_empty());
    let held = |w: &What| matches!(w, What::Held { .. });
    let since = &world.devices[BOB].received[before..];
    assert_eq!(since.iter().filter(|r| held(&r.what)).count(), 1);
    world.devices[BOB].restart().await;
    world.receive(BOB, &keys).await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM key_requests").await, 0);
    nothing_failed(&world);
}

#[tokio::test]
async fn a_key_that_was_lost_is_asked_for_and_given_again_for_all_senders_at_once() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let dave = world.register("dave").await;
    world.add(ALICE, group, dave, Role::Member).await;
    world.sync(ALICE).await;
    // The key never reaches Bob.
    let rows = without(world.waiting(BOB), Kind::KeyDistribution);
    world.receive(BOB, &rows).await;
    let bob = world.devices[BOB].id();
    world.devices[BOB].acked = world.mailboxes[&bob].last().unwrap().seq.0;
    world.sync(CAROL).await;
    world.send(ALICE, group, "one").await;
    world.send(CAROL, group, "two").await;
    let given = sent(&world, BOB, Kind::KeyDistribution);
    let asked = sent(&world, ALICE, Kind::KeyRequest);
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
    assert_eq!(sent(&world, BOB, Kind::KeyDistribution), given + 1, "once");
    let more = sent(&world, ALICE, Kind::KeyRequest) - asked;
    assert_eq!(more, 1, "asked for once, whoever sealed with it");
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM key_requests").await, 0);
    nothing_failed(&world);
}

#[tokio::test]
async fn a_newcomer_reads_people_of_whom_he_knows_nothing_yet() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let dave = world.register("dave").await;
    world.add(ALICE, group, dave, Role::Member).await;
    for who in [ALICE, BOB, CAROL] {
        world.sync(who).await;
    }
    for who in [BOB, CAROL] {
        world.send(who, group, &who.to_string()).await;
    }
    let rows = world.waiting(dave);
    world.receive(dave, &rows).await;
    world.sync_all().await;
    assert_eq!(world.devices[dave].texts(), ["1", "2"]);
    assert_eq!(world.count(dave, "SELECT COUNT(*) FROM key_requests").await, 0);
    nothing_failed(&world);
}

#[tokio::test]
async fn whoever_has_none_can_say_nothing_is_told_so_and_asks() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let dave = world.register("dave").await;
    world.add(ALICE, group, dave, Role::Member).await;
    world.sync(ALICE).await;
    let rows = without(world.waiting(BOB), Kind::KeyDistribution);
    world.receive(BOB, &rows).await;
    let bob = world.devices[BOB].id();
    world.devices[BOB].acked = world.mailboxes[&bob].last().unwrap().seq.0;
    let error = refused(&mut world, BOB, group).await;
    assert!(matches!(error, SealError::NoKey), "{error:?}");
    assert!(error.to_string().contains("key"), "{error}");
    // Not at once: it may be on its way.
    world.sync(BOB).await;
    assert_eq!(sent(&world, ALICE, Kind::KeyRequest), 0);
    world.now += 2 * MINUTE;
    world.sync_all().await;
    assert_eq!(sent(&world, ALICE, Kind::KeyRequest), 1);
    world.send(BOB, group, "now").await;
    world.sync_all().await;
    assert_eq!(world.devices[dave].texts(), ["now"]);
    nothing_failed(&world);
}

#[tokio::test]
async fn where_whoever_is_to_make_it_is_gone_an_admin_makes_another() {
    let mut world = World::with(&["alice", "bob", "carol", "dave"]).await;
    let new = NewGroup { members_may_add: true, ..shared(None) };
    let group = world.create_group_as(ALICE, new).await;
    for who in [BOB, CAROL] {
        world.add(ALICE, group, who, Role::Member).await;
    }
    world.sync_all().await;
    // Bob signs, and is never seen again.
    world.add(BOB, group, 3, Role::Member).await;
    let everybody_else = [ALICE, CAROL, 3];
    for who in everybody_else {
        world.sync(who).await;
    }
    for who in everybody_else {
        assert!(matches!(refused(&mut world, who, group).await, SealError::NoKey));
    }
    world.now += 3 * MINUTE;
    for _ in 0..2 {
        for who in everybody_else {
            world.sync(who).await;
        }
    }
    let batch = world.send(3, group, "hello").await;
    for who in everybody_else {
        world.sync(who).await;
    }
    assert_eq!(world.devices[ALICE].texts(), ["hello"]);
    assert_eq!(world.devices[CAROL].texts(), ["hello"]);
    // And Bob, when he is back, makes none that anybody would use.
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["hello"]);
    assert_eq!(key(&world.send(BOB, group, "back").await), key(&batch));
}

#[tokio::test]
async fn whoever_cannot_be_reached_holds_nobody_up_and_is_given_it_later() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let carol = world.register("carol").await;
    world.without_keys(carol);
    world.add(ALICE, group, carol, Role::Member).await;
    world.send(ALICE, group, "one").await;
    for who in [ALICE, BOB] {
        world.sync(who).await;
    }
    assert_eq!(world.devices[BOB].texts(), ["one"]);
    assert_eq!(sent(&world, carol, Kind::KeyDistribution), 0);
    // She leaves keys at the server when she looks, and is given that of the same window.
    world.sync(carol).await;
    world.now += 11 * MINUTE;
    world.sync_all().await;
    assert_eq!(world.devices[carol].texts(), ["one"]);
}

#[tokio::test]
async fn nobody_gives_a_key_that_he_may_not_give_and_nobody_gets_one_of_before_his_time() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.promote(ALICE, group, BOB).await;
    let old = world.send(ALICE, group, "old").await;
    world.sync_all().await;
    let carol = world.register("carol").await;
    world.add(ALICE, group, carol, Role::Member).await;
    world.sync_all().await;
    let given = sent(&world, carol, Kind::KeyDistribution);
    // She is handed what was said before she came, and asks everybody who may have the key.
    let envelope = old.submissions.last().unwrap().rows().next().unwrap();
    world.receive(carol, &[StreamRow { seq: Seq(900), envelope }]).await;
    for _ in 0..3 {
        world.now += 20 * MINUTE;
        world.sync_all().await;
    }
    let asked = sent(&world, ALICE, Kind::KeyRequest) + sent(&world, BOB, Kind::KeyRequest);
    assert!(asked >= 2, "{asked}");
    assert_eq!(sent(&world, carol, Kind::KeyDistribution), given);
    assert!(world.devices[carol].texts().is_empty());
}

#[tokio::test]
async fn a_device_is_answered_three_times_in_an_hour() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    let mut rows = Vec::new();
    for n in 0..5 {
        // Each time he has lost it again.
        let mut tx = world.devices[BOB].db.begin().await.unwrap();
        for lost in ["DELETE FROM shared_keys", "UPDATE shared_groups SET due_ms = 0"] {
            sqlx::query(lost).execute(tx.conn()).await.unwrap();
        }
        tx.commit().await.unwrap();
        let batch = world.send(ALICE, group, &n.to_string()).await;
        rows.push(batch);
        world.sync_all().await;
    }
    let given = sent(&world, BOB, Kind::KeyDistribution);
    assert_eq!(given, 1 + 3);
    world.now += HOUR;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "0", "1", "2", "3", "4"]);
}

//! What was said is readable for one key's window: then the key is gone everywhere.

use causeway_groups::machine::Age;
use causeway_protocol::{api::StreamRow, ids::Seq, roster::Role};

use super::{ALICE, BOB, CAROL, DAY, HOUR, KEYS, MINUTE, garden, nothing_failed};
use crate::world::{Device, World, text};

#[tokio::test]
async fn an_hour_after_another_is_used_it_is_gone_with_its_windows() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    let items = [world.outgoing(text("in time")), world.outgoing(text("too late"))];
    let [in_time, late] = items;
    let in_time = world.seal(ALICE, group, &[in_time]).await.unwrap();
    let late = world.seal(ALICE, group, &[late]).await.unwrap();
    world.sync_all().await;
    world.now += DAY;
    world.sync_all().await;
    world.now += 10 * MINUTE;
    world.send(ALICE, group, "two").await;
    world.sync_all().await;
    world.post(ALICE, &in_time).await.unwrap();
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two", "in time"]);
    world.now += HOUR + MINUTE;
    world.sync_all().await;
    for who in [ALICE, BOB] {
        assert_eq!(world.count(who, KEYS).await, 1);
        let of_gone = "SELECT (SELECT COUNT(*) FROM shared_windows WHERE key_id NOT IN
             (SELECT key_id FROM shared_keys)) + (SELECT COUNT(*) FROM shared_given WHERE key_id
             NOT IN (SELECT key_id FROM shared_keys))";
        assert_eq!(world.count(who, of_gone).await, 0);
    }
    world.post(ALICE, &late).await.unwrap();
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two", "in time"]);
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM holds").await, 1, "and that is seen");
}

#[tokio::test]
async fn what_was_sealed_and_could_not_go_is_sealed_anew_before_nobody_has_its_key() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let item = world.outgoing(text("one"));
    let kept = world.seal(BOB, group, std::slice::from_ref(&item)).await.unwrap();
    let is_outdated = async |world: &World| {
        let Device { machine, db, .. } = &world.devices[BOB];
        machine.age(db, world.time(), &kept).await.unwrap() == Age::Outdated
    };
    world.sync_all().await;
    assert!(!is_outdated(&world).await);
    world.now += DAY;
    world.sync_all().await;
    world.now += 10 * MINUTE;
    world.sync_all().await;
    assert!(is_outdated(&world).await, "retired");
    world.now += 2 * HOUR;
    world.sync_all().await;
    assert!(is_outdated(&world).await, "and erased");
    // It had come after all: sealed anew, it is read once.
    let again = world.seal(BOB, group, &[item]).await.unwrap();
    for batch in [&kept, &again] {
        world.post(BOB, batch).await.unwrap();
    }
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["one"]);
}

#[tokio::test]
async fn what_is_said_under_a_key_that_is_not_over_is_read_by_who_has_another() {
    for is_added in [true, false] {
        let (mut world, group) = garden(&["alice", "bob", "carol", "dan"]).await;
        if is_added {
            let eve = world.register("eve").await;
            world.add(ALICE, group, eve, Role::Member).await;
        } else {
            let mut tx = world.devices[ALICE].db.begin().await.unwrap();
            world.devices[ALICE].machine.rotate(&mut tx, group).await.unwrap();
            tx.commit().await.unwrap();
            world.send(ALICE, group, "under another").await;
        }
        for _ in 0..3 {
            world.sync(ALICE).await;
            world.now += 7 * HOUR;
        }
        world.sync(ALICE).await;
        // He has heard of nothing.
        world.send(BOB, group, "one").await;
        world.sync(ALICE).await;
        assert_eq!(world.devices[ALICE].texts(), ["one"], "{is_added}");
        world.now += DAY;
        world.sync_all().await;
        world.now += 2 * HOUR;
        world.sync_all().await;
        assert_eq!(world.count(ALICE, KEYS).await, 1);
        nothing_failed(&world);
    }
}

#[tokio::test]
async fn who_went_away_after_taking_somebody_out_reads_what_was_said_before() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(BOB, group, "one").await;
    world.remove(ALICE, group, CAROL).await;
    world.now += 5 * HOUR;
    while !world.chores(ALICE).await {}
    world.sync(ALICE).await;
    assert_eq!(world.devices[ALICE].texts(), ["one"]);
    assert_eq!(world.count(ALICE, KEYS).await, 1);
}

#[tokio::test]
async fn after_a_removal_only_what_stands_before_it_is_opened_and_then_the_key_goes() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(CAROL, group, "one").await;
    let item = world.outgoing(text("late"));
    let late = world.seal(CAROL, group, &[item]).await.unwrap();
    world.send(CAROL, group, "two").await;
    world.remove(ALICE, group, CAROL).await;
    // Before Bob has read a row of it the server lets one in after the op.
    world.sync(ALICE).await;
    world.sync(BOB).await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
    world.sync_all().await;
    for who in [ALICE, BOB] {
        assert_eq!(world.count(who, KEYS).await, 1, "at once");
    }
    let envelope = late.submissions.last().unwrap().rows().next().unwrap();
    world.receive(BOB, &[StreamRow { seq: Seq(900), envelope }]).await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
}

#[tokio::test]
async fn what_stands_after_a_removal_under_the_key_of_before_is_refused() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    // Of one who stays, so that nothing but the key is wrong with it.
    let item = world.outgoing(text("late"));
    let late = world.seal(BOB, group, &[item]).await.unwrap();
    world.remove(ALICE, group, CAROL).await;
    let rows = world.waiting(ALICE);
    let envelope = late.submissions.last().unwrap().rows().next().unwrap();
    world.receive(ALICE, &rows).await;
    world.receive(ALICE, &[StreamRow { seq: Seq(900), envelope }]).await;
    assert_eq!(world.devices[ALICE].reasons(), ["stale_key"]);
}

#[tokio::test]
async fn whoever_comes_back_after_days_reads_all_that_waited() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    for day in 0..6 {
        world.send(ALICE, group, &day.to_string()).await;
        for who in [ALICE, BOB] {
            world.sync(who).await;
        }
        world.now += DAY;
    }
    world.sync_all().await;
    let all: Vec<String> = (0..6).map(|day| day.to_string()).collect();
    assert_eq!(world.devices[CAROL].texts(), all);
    assert_eq!(world.devices[BOB].texts(), all);
    world.now += 2 * HOUR;
    world.sync_all().await;
    assert_eq!(world.count(CAROL, KEYS).await, 1);
}

#[tokio::test]
async fn whoever_is_out_keeps_no_key_and_forgets_the_rest_with_the_group() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    world.remove(ALICE, group, BOB).await;
    world.sync_all().await;
    world.now += 2 * HOUR;
    world.sync_all().await;
    assert_eq!(world.count(BOB, KEYS).await, 0);
    let mut tx = world.devices[BOB].db.begin().await.unwrap();
    world.devices[BOB].machine.forget(&mut tx, group).await.unwrap();
    tx.commit().await.unwrap();
    for left in ["SELECT COUNT(*) FROM shared_groups", "SELECT COUNT(*) FROM shared_windows"] {
        assert_eq!(world.count(BOB, left).await, 0);
    }
}

//! A key is over after a day, and admins' devices make the next before that.

use causeway_groups::machine::SealError;
use causeway_protocol::envelope::Kind;

use super::{
    ALICE, BOB, CAROL, DAY, HOUR, KEYS, MINUTE, garden, key, nothing_failed, refused, sent,
};

#[tokio::test]
async fn the_timer_makes_a_key_that_all_have_before_it_is_sent_under() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let first = world.send(BOB, group, "one").await;
    let given = sent(&world, BOB, Kind::KeyDistribution);
    world.now += DAY - 8 * MINUTE;
    world.sync_all().await;
    assert_eq!(sent(&world, BOB, Kind::KeyDistribution), given + 1, "it is given already");
    for who in [ALICE, BOB] {
        assert_eq!(key(&world.send(who, group, "two").await), key(&first), "and not used yet");
    }
    world.now += 9 * MINUTE;
    let second = world.send(BOB, group, "three").await;
    assert_ne!(key(&second), key(&first));
    assert_eq!(key(&world.send(ALICE, group, "four").await), key(&second));
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["one", "two", "three"]);
    assert_eq!(world.devices[BOB].texts(), ["two", "four"]);
    assert_eq!(sent(&world, BOB, Kind::KeyDistribution), given + 1);
    nothing_failed(&world);
}

#[tokio::test]
async fn a_key_goes_on_being_replaced_day_after_day() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let mut keys = Vec::new();
    for day in 0..5 {
        keys.push(key(&world.send(BOB, group, &day.to_string()).await));
        world.now += DAY - 5 * MINUTE;
        world.sync_all().await;
        world.now += 6 * MINUTE;
        world.sync_all().await;
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 5);
    assert_eq!(world.devices[ALICE].texts(), ["0", "1", "2", "3", "4"]);
    world.now += 2 * HOUR;
    world.sync_all().await;
    for who in [ALICE, BOB] {
        assert_eq!(world.count(who, KEYS).await, 1, "the others are erased");
    }
    nothing_failed(&world);
}

#[tokio::test]
async fn two_admins_make_one_at_once_and_nobody_loses_anything() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.promote(ALICE, group, BOB).await;
    world.sync_all().await;
    let first = world.send(CAROL, group, "first").await;
    world.sync_all().await;
    // Neither hears of the other.
    world.now += DAY + HOUR;
    let (alices, bobs) =
        (world.send(ALICE, group, "alice").await, world.send(BOB, group, "bob").await);
    assert!(key(&alices) != key(&bobs) && key(&alices) != key(&first));
    // Carol has only Bob's at first, and says something under it.
    let rows = world.waiting(CAROL);
    world.receive(CAROL, &rows).await;
    world.sync_all().await;
    let mut last = Vec::new();
    for who in [ALICE, BOB, CAROL] {
        last.push(key(&world.send(who, group, "last").await));
        world.sync_all().await;
    }
    last.dedup();
    assert_eq!(last, [key(&alices).min(key(&bobs))], "the lower id, for all");
    assert_eq!(world.devices[ALICE].texts(), ["first", "bob", "last", "last"]);
    assert_eq!(world.devices[BOB].texts(), ["first", "alice", "last", "last"]);
    assert_eq!(world.devices[CAROL].texts(), ["alice", "bob", "last", "last"]);
    nothing_failed(&world);
}

#[tokio::test]
async fn admins_devices_that_are_there_make_one_between_them() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.promote(ALICE, group, BOB).await;
    world.sync_all().await;
    world.now += DAY - 10 * MINUTE;
    for _ in 0..12 {
        world.now += MINUTE;
        world.sync_all().await;
    }
    for who in [ALICE, BOB, CAROL] {
        // The old one for an hour still.
        assert_eq!(world.count(who, KEYS).await, 2);
    }
    world.send(CAROL, group, "hello").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["hello"]);
}

#[tokio::test]
async fn while_no_admin_is_there_the_last_key_is_used_for_a_week_and_no_longer() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let first = world.send(BOB, group, "one").await;
    for _ in 0..6 {
        world.now += DAY;
        world.sync(BOB).await;
        world.sync(CAROL).await;
    }
    let late = world.send(BOB, group, "two").await;
    assert_eq!(key(&late), key(&first));
    world.now += 3 * DAY;
    world.sync(BOB).await;
    assert!(matches!(refused(&mut world, BOB, group).await, SealError::NoKey));
    // She comes back.
    world.sync_all().await;
    world.send(BOB, group, "three").await;
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["one", "two", "three"]);
    assert_eq!(world.devices[CAROL].texts(), ["one", "two", "three"]);
}

#[tokio::test]
async fn an_admin_who_was_away_changes_the_key_before_he_speaks() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let first = world.send(ALICE, group, "one").await;
    world.sync_all().await;
    world.now += 2 * DAY;
    let second = world.send(ALICE, group, "two").await;
    assert_ne!(key(&second), key(&first));
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
}

#[tokio::test]
async fn the_interval_is_what_was_set() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let first = world.send(ALICE, group, "one").await;
    let mut tx = world.devices[ALICE].db.begin().await.unwrap();
    world.devices[ALICE].machine.set_key_rotation_s(&mut tx, 3_600).await.unwrap();
    tx.commit().await.unwrap();
    world.now += HOUR + MINUTE;
    let second = world.send(ALICE, group, "two").await;
    assert_ne!(key(&second), key(&first));
}

#[tokio::test]
async fn whoever_is_asked_to_rotate_does_if_he_may() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let first = world.send(ALICE, group, "one").await;
    for who in [BOB, ALICE] {
        let mut tx = world.devices[who].db.begin().await.unwrap();
        world.devices[who].machine.rotate(&mut tx, group).await.unwrap();
        tx.commit().await.unwrap();
        let next = world.send(who, group, "two").await;
        assert_eq!(key(&next) == key(&first), who == BOB);
    }
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
}

#[tokio::test]
async fn who_has_not_read_his_mailbox_says_nothing_under_a_key_that_is_over() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let first = world.send(BOB, group, "one").await;
    world.now += DAY - 5 * MINUTE;
    for _ in 0..3 {
        world.sync(ALICE).await;
        world.now += HOUR + MINUTE;
    }
    world.sync(ALICE).await;
    assert_eq!(world.count(ALICE, KEYS).await, 1, "the old one is erased");
    assert!(matches!(refused(&mut world, BOB, group).await, SealError::NoKey));
    world.sync(BOB).await;
    let second = world.send(BOB, group, "two").await;
    assert_ne!(key(&second), key(&first));
    world.sync(ALICE).await;
    assert_eq!(world.devices[ALICE].texts(), ["one", "two"]);
}

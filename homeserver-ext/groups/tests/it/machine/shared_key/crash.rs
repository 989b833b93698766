//! Killed between any two steps, put back from a copy: no number of a key is used twice.

use std::{collections::BTreeMap, fs};

use causeway_protocol::roster::Role;
use proptest::prelude::*;

use super::{ALICE, BOB, CAROL, DAY, MINUTE, garden, key, nothing_failed, used};
use crate::{
    machine::crash::{back_up, put_back, run},
    world::{World, text},
};

#[tokio::test]
async fn killed_after_any_step_each_message_is_read_once() {
    for step in 0..60 {
        let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
        world.dies_in = Some(step);
        world.send(ALICE, group, "one").await;
        world.sync_all().await;
        world.remove(ALICE, group, CAROL).await;
        world.sync_all().await;
        let dave = world.register("dave").await;
        world.add(ALICE, group, dave, Role::Member).await;
        world.sync_all().await;
        world.send(BOB, group, "two").await;
        world.now += DAY;
        world.sync_all().await;
        world.now += 10 * MINUTE;
        world.send(dave, group, "three").await;
        world.sync_all().await;
        let is_over = world.dies_in.is_some();
        let (alice, bob) = (world.devices[ALICE].texts(), world.devices[BOB].texts());
        let dave = world.devices[dave].texts();
        // What was sealed and not posted by one who died is posted by nobody in this test.
        let is_of = |texts: &[String], all: &[&str]| {
            let mut left = all.iter();
            texts.iter().all(|text| left.any(|one| one == text))
        };
        assert!(is_of(&alice, &["two", "three"]), "{step}: {alice:?}");
        assert!(is_of(&bob, &["one", "three"]), "{step}: {bob:?}");
        assert!(is_of(&dave, &["two"]), "{step}: {dave:?}");
        let lost = 5 - alice.len() - bob.len() - dave.len();
        assert!(lost <= 2, "{step}: {lost}");
        nothing_failed(&world);
        if is_over {
            assert_eq!(lost, 0);
            return;
        }
    }
    panic!("it dies no more after sixty steps");
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// So many are sealed; whether that is committed.
    Seal(usize, bool),
    Backup,
    Restore,
    Day,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1_usize..4, any::<bool>()).prop_map(|(count, done)| Event::Seal(count, done)),
        1 => Just(Event::Backup),
        1 => Just(Event::Restore),
        1 => Just(Event::Day),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn no_number_of_a_key_is_used_twice(
        who in ALICE..=BOB,
        events in prop::collection::vec(event(), 4..20),
    ) {
        run(async {
            let (mut world, group) = garden(&["alice", "bob"]).await;
            let mut seen: BTreeMap<([u8; 4], u64), Vec<u8>> = BTreeMap::new();
            let mut backup = back_up(&mut world, who).await;
            for event in events {
                match event {
                    Event::Backup => backup = back_up(&mut world, who).await,
                    Event::Restore => put_back(&mut world, who, &backup).await,
                    Event::Day => {
                        world.now += DAY;
                        world.sync_all().await;
                    }
                    Event::Seal(count, done) => {
                        let items: Vec<_> = (0..count).map(|_| world.outgoing(text("x"))).collect();
                        world.prepare(who, group).await;
                        let now = world.time();
                        let device = &world.devices[who];
                        let mut tx = device.db.begin().await.unwrap();
                        let Ok(batch) = device.machine.seal(&mut tx, now, group, &items).await else {
                            continue;
                        };
                        if done {
                            tx.commit().await.unwrap();
                            let messages = batch.submissions.iter().rev().take(count).rev();
                            for (number, message) in used(&batch).into_iter().zip(messages) {
                                let bytes = message.payload.clone();
                                let before = seen.insert(number, bytes);
                                prop_assert!(before.is_none(), "{number:?} used twice");
                            }
                        } else {
                            drop(tx);
                        }
                        world.devices[who].restart().await;
                    }
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn one_copy_put_back_again_and_again_uses_other_numbers_each_time() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(BOB, group, "one").await;
    let backup = back_up(&mut world, BOB).await;
    let mut numbers = Vec::new();
    for _ in 0..3 {
        put_back(&mut world, BOB, &backup).await;
        let sent = world.send(BOB, group, "more").await;
        numbers.extend(used(&sent).into_iter().map(|(_, number)| number));
    }
    // The first time nothing was lost.
    assert_eq!(numbers, [1, 1 + 4_096, 1 + 2 * 4_096]);
}

async fn lose_the_count(world: &mut World, who: usize) {
    fs::remove_file(world.devices[who].dir.path().join("client.db.generation")).unwrap();
    world.devices[who].restart().await;
}

#[tokio::test]
async fn a_member_who_was_put_back_passes_over_numbers_and_an_admin_changes_the_key() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let alices = world.send(ALICE, group, "a1").await;
    let bobs = world.send(BOB, group, "b1").await;
    world.sync_all().await;
    for who in [ALICE, BOB] {
        lose_the_count(&mut world, who).await;
    }
    let again = world.send(BOB, group, "b2").await;
    assert_eq!(used(&again), [(key(&bobs), 1 + 4_096)]);
    let other = world.send(ALICE, group, "a2").await;
    assert_ne!(key(&other), key(&alices));
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["a1", "a2"]);
    assert_eq!(world.devices[ALICE].texts(), ["b1", "b2"]);
    let last = world.send(BOB, group, "b3").await;
    // He cannot tell that he never had that one.
    assert_eq!(used(&last), [(key(&other), 4_096)]);
    nothing_failed(&world);
}

#[tokio::test]
async fn a_maker_who_was_put_back_makes_another_and_all_go_on() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(BOB, group, "one").await;
    world.sync_all().await;
    let backup = back_up(&mut world, ALICE).await;
    fs::remove_file(world.devices[BOB].dir.path().join("client.db.generation")).ok();
    world.devices[BOB].restart().await;
    // The key of this window her copy does not know.
    world.remove(ALICE, group, CAROL).await;
    world.sync_all().await;
    world.send(BOB, group, "two").await;
    put_back(&mut world, ALICE, &backup).await;
    world.sync_all().await;
    world.now += 5 * MINUTE;
    world.sync_all().await;
    world.send(ALICE, group, "three").await;
    world.sync_all().await;
    // It may be under the one that she has lost: nobody may give her that, so she makes another.
    world.send(BOB, group, "four").await;
    for _ in 0..2 {
        world.now += MINUTE;
        world.sync_all().await;
    }
    world.send(BOB, group, "five").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["three"]);
    assert_eq!(world.devices[ALICE].texts().last().unwrap(), "five");
}

#[tokio::test]
async fn a_key_that_comes_once_more_after_a_copy_was_put_back_is_sealed_under_with_other_numbers() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let backup = back_up(&mut world, BOB).await;
    let mut tx = world.devices[ALICE].db.begin().await.unwrap();
    world.devices[ALICE].machine.rotate(&mut tx, group).await.unwrap();
    tx.commit().await.unwrap();
    world.sync_all().await;
    let before = world.send(BOB, group, "one").await;
    put_back(&mut world, BOB, &backup).await;
    world.send(ALICE, group, "a").await;
    for _ in 0..3 {
        world.now += MINUTE;
        world.sync_all().await;
    }
    let after = world.send(BOB, group, "two").await;
    assert_eq!(key(&before), key(&after));
    assert!(used(&after)[0].1 >= 4_096, "{:?}", used(&after));
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["one", "two"]);
}

#[tokio::test]
async fn a_maker_who_has_lost_a_key_is_given_it_back_and_reads_what_was_said_under_it() {
    // Whoever signed the op, alone as admin and beside another; and a key that he made since.
    for (is_alone, rotates) in [(true, false), (false, false), (true, true), (false, true)] {
        let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
        if !is_alone {
            world.promote(ALICE, group, BOB).await;
            world.sync_all().await;
        }
        let backup = back_up(&mut world, ALICE).await;
        if rotates {
            let mut tx = world.devices[ALICE].db.begin().await.unwrap();
            world.devices[ALICE].machine.rotate(&mut tx, group).await.unwrap();
            tx.commit().await.unwrap();
        } else {
            let dan = world.register("dan").await;
            world.add(ALICE, group, dan, Role::Member).await;
        }
        world.sync_all().await;
        world.send(ALICE, group, "mine").await;
        let lost = world.send(CAROL, group, "one").await;
        put_back(&mut world, ALICE, &backup).await;
        for _ in 0..10 {
            world.now += MINUTE;
            world.sync_all().await;
        }
        assert_eq!(world.devices[ALICE].texts(), ["one"], "{is_alone} {rotates}");
        let next = world.send(ALICE, group, "two").await;
        assert_ne!(key(&next), key(&lost));
        world.sync_all().await;
        assert_eq!(world.devices[CAROL].texts(), ["mine", "two"]);
        nothing_failed(&world);
    }
}

//! The fallback key goes by time and by use, and the one before it after a day.

use std::collections::BTreeSet;

use causeway_protocol::{
    ids::{GroupId, KeyId},
    roster::Role,
};

use super::{ALICE, BOB, CAROL, garden};
use crate::world::World;

const DAY_MS: u64 = 24 * 3_600_000;

/// Everybody reads, lets go of what is old, and does the chores.
async fn later(world: &mut World, ms: u64) {
    world.now += ms;
    for who in 0..world.devices.len() {
        let device = &world.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        device.machine.expire(&mut tx, world.time()).await.unwrap();
        tx.commit().await.unwrap();
    }
    world.sync_all().await;
}

/// The fallback key that the server gives out, and the others.
fn keys(world: &World, who: usize) -> (KeyId, BTreeSet<KeyId>) {
    let fallback = world.fallback(who);
    let mut all = world.key_ids(who);
    assert!(all.remove(&fallback.key_id) && fallback.fallback);
    (fallback.key_id, all)
}

/// Somebody new joins, says something, and can begin his session with a fallback key only.
async fn say_by_fallback(world: &mut World, group: GroupId, name: &str, text: &str) {
    let who = world.register(name).await;
    world.add(ALICE, group, who, Role::Member).await;
    world.sync(who).await;
    world.keep_fallback_only(BOB);
    world.send(who, group, text).await;
}

#[tokio::test]
async fn a_new_one_is_made_weekly_and_withdraws_no_other_key() {
    let (mut world, _) = garden(&["alice", "bob"]).await;
    let (first, others) = keys(&world, BOB);
    later(&mut world, 6 * DAY_MS).await;
    assert_eq!(keys(&world, BOB), (first, others.clone()));
    later(&mut world, DAY_MS).await;
    let (second, same) = keys(&world, BOB);
    assert!(second > first);
    assert_eq!(same, others);
    later(&mut world, 6 * DAY_MS).await;
    assert_eq!(keys(&world, BOB).0, second);
}

#[tokio::test]
async fn one_that_was_used_goes_and_opens_for_a_day_what_it_was_given_for() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    later(&mut world, 2 * DAY_MS).await;
    let (first, _) = keys(&world, BOB);
    // Carol claims it, and says nothing yet.
    world.keep_fallback_only(BOB);
    let batch = {
        let item = world.outgoing(crate::world::text("late"));
        world.seal(CAROL, group, std::slice::from_ref(&item)).await.unwrap()
    };
    say_by_fallback(&mut world, group, "dave", "by fallback").await;
    world.sync(BOB).await;
    let (second, _) = keys(&world, BOB);
    assert!(second > first);
    later(&mut world, DAY_MS / 2).await;
    world.post(CAROL, &batch).await.unwrap();
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["by fallback", "late"]);
}

#[tokio::test]
async fn a_day_after_its_successor_it_opens_nothing() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    later(&mut world, 2 * DAY_MS).await;
    world.keep_fallback_only(BOB);
    let old = world.fallback(BOB);
    say_by_fallback(&mut world, group, "dave", "by fallback").await;
    world.sync(BOB).await;
    assert_ne!(world.fallback(BOB), old);
    later(&mut world, 2 * DAY_MS).await;
    // A server that goes on giving it out.
    world.give_only(BOB, old);
    world.send(CAROL, group, "too late").await;
    let waiting = world.waiting(BOB);
    world.receive(BOB, &waiting).await;
    assert_eq!(world.devices[BOB].reasons(), ["olm"]);
}

#[tokio::test]
async fn whoever_uses_it_again_and_again_gets_one_a_day() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    later(&mut world, 2 * DAY_MS).await;
    let mut seen = BTreeSet::new();
    for n in 0..4 {
        say_by_fallback(&mut world, group, &format!("m{n}"), "again").await;
        world.sync(BOB).await;
        seen.insert(world.fallback(BOB).key_id);
    }
    assert_eq!(seen.len(), 1, "the first use made a new one, the others wait for its day");
    let last = world.fallback(BOB).key_id;
    later(&mut world, DAY_MS + 60_000).await;
    assert_ne!(world.fallback(BOB).key_id, last);
}

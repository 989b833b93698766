//! The machine on a server of a few maps: who reads what, and what nobody may.

use causeway_groups::machine::What;
use causeway_protocol::roster::Role;

use crate::world::World;

mod crash;
mod forks;
mod hostile;
mod invites;
mod keys;
mod order;

const ALICE: usize = 0;
const BOB: usize = 1;
const CAROL: usize = 2;

#[tokio::test]
async fn two_devices_talk() {
    let mut world = World::with(&["alice", "bob"]).await;
    let group = world.create_group(ALICE).await;
    world.add(ALICE, group, BOB, Role::Member).await;
    world.sync_all().await;
    world.send(ALICE, group, "hello").await;
    world.sync_all().await;
    world.send(BOB, group, "hi").await;
    world.send(ALICE, group, "how are you?").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["hello", "how are you?"]);
    assert_eq!(world.devices[ALICE].texts(), ["hi"]);
    assert!(world.devices.iter().all(|device| device.reasons().is_empty()));
}

#[tokio::test]
async fn a_removed_member_reads_nothing_that_follows() {
    let mut world = World::with(&["alice", "bob", "carol"]).await;
    let group = world.create_group(ALICE).await;
    world.add(ALICE, group, BOB, Role::Member).await;
    world.add(ALICE, group, CAROL, Role::Member).await;
    world.send(ALICE, group, "before").await;
    world.sync_all().await;
    world.remove(ALICE, group, CAROL).await;
    world.sync_all().await;
    let batch = world.send(ALICE, group, "after").await;
    let from_bob = world.send(BOB, group, "too").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["before", "after"]);
    assert_eq!(world.devices[CAROL].texts(), ["before"]);
    let left = world.devices[CAROL].received.iter().any(|r| match &r.what {
        What::Roster(change) => change.me_left,
        _ => false,
    });
    assert!(left);
    // Even with every later envelope in its hands.
    let mut seq = 1_000;
    for submission in batch.submissions.iter().chain(&from_bob.submissions) {
        for envelope in submission.rows() {
            seq += 1;
            let row = causeway_protocol::api::StreamRow {
                seq: causeway_protocol::ids::Seq(seq),
                envelope,
            };
            world.receive(CAROL, &[row]).await;
        }
    }
    assert_eq!(world.devices[CAROL].texts(), ["before"]);
}

/// Alice's group with everybody in it, and everything said.
async fn garden(names: &[&str]) -> (World, causeway_protocol::ids::GroupId) {
    let mut world = World::with(names).await;
    let group = world.create_group(ALICE).await;
    for who in 1..names.len() {
        world.add(ALICE, group, who, Role::Member).await;
    }
    world.sync_all().await;
    (world, group)
}

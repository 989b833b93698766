//! The machine on a server of a few maps: who reads what, and what nobody may.

use causeway_groups::{
    Vault,
    machine::{SealError, What},
    sender_keys::{HeldChain, Wire},
    vault::Class,
};
use causeway_protocol::{
    api::StreamRow,
    envelope::{Kind, Submission},
    ids::Seq,
    roster::{Role, Roster},
    sender_key::Context,
};

use crate::world::{World, text};

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

/// Group, sender, chain, sealed.
type Row = (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>);

/// Every chain that a device holds, out of its vault.
async fn chains(world: &World, who: usize) -> Vec<HeldChain> {
    let device = &world.devices[who];
    let key = device.dir.path().join("storage.key");
    let vault = Vault::open(&device.db, &key).await.unwrap();
    let mut tx = device.db.begin().await.unwrap();
    let rows: Vec<Row> =
        sqlx::query_as("SELECT group_id, sender, chain_id, sealed FROM held_chains")
            .fetch_all(tx.conn())
            .await
            .unwrap();
    let open = |(group, sender, chain, sealed): Row| {
        let place = [group, sender, chain].concat();
        let bytes = vault.unseal(Class::Ratchet, "held_chains", "sealed", &place, &sealed);
        HeldChain::decode(&bytes.unwrap()).unwrap()
    };
    rows.into_iter().map(open).collect()
}

#[tokio::test]
async fn a_removed_member_reads_nothing_that_follows() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    for who in [ALICE, BOB] {
        world.send(who, group, "before").await;
    }
    world.sync_all().await;
    world.remove(ALICE, group, CAROL).await;
    world.sync_all().await;
    let mut later = Vec::new();
    for round in 0..4 {
        for who in [ALICE, BOB] {
            let batch = world.send(who, group, &format!("after {round}")).await;
            later.extend(batch.submissions.iter().flat_map(Submission::rows));
        }
        let dave = world.register(&format!("dave{round}")).await;
        world.add(ALICE, group, dave, Role::Member).await;
        world.sync_all().await;
    }
    assert_eq!(world.devices[BOB].texts().len(), 5);
    let left = world.devices[CAROL].received.iter();
    assert_eq!(left.filter(|r| matches!(&r.what, What::Roster(c) if c.me_left)).count(), 1);
    // Every later envelope, distributions too, into her hands: through her machine …
    for (seq, envelope) in (1_000..).zip(&later) {
        let row = StreamRow { seq: Seq(seq), envelope: envelope.clone() };
        world.receive(CAROL, &[row]).await;
    }
    assert_eq!(world.devices[CAROL].texts(), ["before", "before"]);
    // … and past every rule of it, with whatever she kept, under any roster of the group.
    let mut kept = chains(&world, CAROL).await;
    assert_eq!(kept.len(), 2);
    let rosters: Vec<_> = world.rosters(group).iter().map(Roster::hash).collect();
    for envelope in later.iter().filter(|envelope| envelope.kind == Kind::Message) {
        let wire = Wire::parse(&envelope.payload).unwrap();
        for chain in &mut kept {
            for roster in &rosters {
                let context =
                    Context { group, sender: chain.sender(), chain: chain.id(), roster: *roster };
                assert!(wire.verify(chain, &context).is_err());
            }
        }
    }
}

#[tokio::test]
async fn after_close_nothing_follows() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(BOB, group, "one").await;
    world.sync_all().await;
    let item = world.outgoing(text("two"));
    let items = std::slice::from_ref(&item);
    let late = world.seal(BOB, group, items).await.unwrap();
    let now = world.time();
    let device = &world.devices[ALICE];
    let mut tx = device.db.begin().await.unwrap();
    let op = device.machine.close(&mut tx, now, group).await.unwrap();
    drop(tx);
    world.post_op(ALICE, op).await;
    let ops = world.post(BOB, &late).await.expect_err("stale");
    world.install(BOB, group, &ops).await;
    assert!(matches!(world.seal_now(BOB, group, items).await, Err(SealError::Closed)));
    // A server that passes it on all the same.
    let envelope = late.submissions.last().unwrap().rows().next().unwrap();
    world.sync_all().await;
    world.receive(ALICE, &[StreamRow { seq: Seq(500), envelope }]).await;
    assert_eq!(world.devices[ALICE].texts(), ["one"]);
    assert_eq!(world.devices[ALICE].reasons(), ["failed_closed"]);
}

#[tokio::test]
async fn a_message_sent_before_a_removal_was_seen_is_marked() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(BOB, group, "one").await;
    world.sync_all().await;
    let item = world.outgoing(text("two"));
    let batch = world.seal(BOB, group, std::slice::from_ref(&item)).await.unwrap();
    world.remove(ALICE, group, CAROL).await;
    world.sync(ALICE).await;
    // A server that does not refuse the stale epoch.
    let envelope = batch.submissions.last().unwrap().rows().next().unwrap();
    world.receive(ALICE, &[StreamRow { seq: Seq(500), envelope }]).await;
    let late: Vec<_> = world.devices[ALICE].messages().iter().map(|m| m.late).collect();
    assert_eq!(late, [false, true]);
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

//! The machine on a server of a few maps: who reads what, and what nobody may.

use causeway_groups::{
    Vault,
    machine::{SealError, What},
    schemes::sender_keys::{HeldChain, OpenError, Wire},
    vault::Class,
};
use causeway_protocol::{
    api::StreamRow,
    envelope::{Envelope, Kind, Submission},
    ids::{GroupId, Seq},
    roster::{Role, Roster},
    sender_key::Context,
};
use proptest::prelude::*;

use crate::world::{World, text};

mod crash;
mod fallback;
mod forks;
mod hostile;
mod identities;
mod invites;
mod keys;
mod legacy;
mod link_words;
mod long_life;
mod model;
mod offers;
mod order;
mod pairwise;
mod pairwise_again;
mod parked;
mod requests;
mod rosters;
mod shared_key;
mod shares;
mod stranger;

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
async fn what_was_opened_cannot_be_opened_again_with_what_is_kept() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let mut said = Vec::new();
    for n in 0..3 {
        let batch = world.send(ALICE, group, &n.to_string()).await;
        said.extend(batch.submissions.iter().flat_map(Submission::rows));
    }
    world.sync_all().await;
    let mut kept = chains(&world, BOB).await;
    let [chain] = kept.as_mut_slice() else { panic!("one chain") };
    let roster = world.head(group).hash();
    for envelope in said.iter().filter(|envelope| envelope.kind == Kind::Message) {
        let wire = Wire::parse(&envelope.payload).unwrap();
        let context = Context { group, sender: chain.sender(), chain: chain.id(), roster };
        assert_eq!(wire.verify(chain, &context).err(), Some(OpenError::Spent));
    }
}

/// What the others do.
#[derive(Debug, Clone, Copy)]
enum Act {
    Send(usize),
    Add,
    Rotate(usize),
    /// Everybody reads, and does what is owed.
    Read,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (ALICE..=BOB).prop_map(Act::Send),
        1 => Just(Act::Add),
        1 => (ALICE..=BOB).prop_map(Act::Rotate),
        2 => Just(Act::Read),
    ]
}

/// Does it; every envelope that came of it.
async fn play(world: &mut World, group: GroupId, act: Act) -> Vec<Envelope> {
    match act {
        Act::Send(who) => {
            let batch = world.send(who, group, "said").await;
            return batch.submissions.iter().flat_map(Submission::rows).collect();
        }
        Act::Add => {
            let name = format!("m{}", world.devices.len());
            let newcomer = world.register(&name).await;
            world.add(ALICE, group, newcomer, Role::Member).await;
        }
        Act::Rotate(who) => {
            let device = &world.devices[who];
            let mut tx = device.db.begin().await.unwrap();
            device.machine.rotate(&mut tx, group).await.unwrap();
            tx.commit().await.unwrap();
        }
        Act::Read => {
            for who in (0..world.devices.len()).filter(|who| *who != CAROL) {
                world.sync(who).await;
            }
        }
    }
    Vec::new()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn whatever_a_removed_member_holds_opens_nothing_sealed_from_the_removal_on(
        before in prop::collection::vec(act(), 0..8),
        reads in any::<bool>(),
        leaves in any::<bool>(),
        after in prop::collection::vec(act(), 2..10),
    ) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.unwrap().block_on(async {
            let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
            for act in [Act::Send(ALICE), Act::Send(BOB)].into_iter().chain(before) {
                play(&mut world, group, act).await;
            }
            if reads {
                world.sync_all().await;
            }
            if leaves {
                world.sync(CAROL).await;
                let (device, now) = (&world.devices[CAROL], world.time());
                let mut tx = device.db.begin().await.unwrap();
                let op = device.machine.leave(&mut tx, now, group).await.unwrap();
                drop(tx);
                world.post_op(CAROL, op).await;
            } else {
                world.remove(ALICE, group, CAROL).await;
            }
            let mut later = Vec::new();
            for act in [Act::Send(ALICE), Act::Send(BOB)].into_iter().chain(after) {
                later.extend(play(&mut world, group, act).await);
            }
            // She reads what waits for her, then has every later envelope, keys too, in her hands:
            // through her machine …
            world.sync_all().await;
            let told = world.devices[CAROL].received.iter();
            let told = told.filter(|r| matches!(&r.what, What::Roster(c) if c.me_left)).count();
            prop_assert_eq!(told, 1);
            let read = world.devices[CAROL].texts().len();
            for (seq, envelope) in (100_000..).zip(&later) {
                let row = StreamRow { seq: Seq(seq), envelope: envelope.clone() };
                world.receive(CAROL, &[row]).await;
            }
            prop_assert_eq!(world.devices[CAROL].texts().len(), read);
            // … and past every rule of it, with whatever she kept, under any roster of the group.
            let mut kept = chains(&world, CAROL).await;
            prop_assert!(kept.len() >= 2);
            let rosters: Vec<_> = world.rosters(group).iter().map(Roster::hash).collect();
            let messages = later.iter().filter(|envelope| envelope.kind == Kind::Message);
            for envelope in messages {
                let wire = Wire::parse(&envelope.payload).unwrap();
                for chain in &mut kept {
                    for roster in &rosters {
                        let (sender, chain_id) = (chain.sender(), chain.id());
                        let context = Context { group, sender, chain: chain_id, roster: *roster };
                        prop_assert!(wire.verify(chain, &context).is_err());
                    }
                }
            }
            Ok(())
        })?;
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
async fn garden(names: &[&str]) -> (World, GroupId) {
    let mut world = World::with(names).await;
    let group = world.create_group(ALICE).await;
    for who in 1..names.len() {
        world.add(ALICE, group, who, Role::Member).await;
    }
    world.sync_all().await;
    (world, group)
}

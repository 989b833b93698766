//! Groups that share a key: for one window of time, and opened by whoever was there in it.

mod ask;
mod crash;
mod crowd;
mod erased;
mod hostile;
mod rotate;

use causeway_groups::{
    machine::{Batch, NewGroup, SealError},
    schemes::shared_key::Wire,
};
use causeway_protocol::{
    api::StreamRow,
    envelope::{Kind, Submission},
    ids::{GroupId, Seq},
    roster::{Role, Scheme},
};

use super::{ALICE, BOB, CAROL};
use crate::world::{Device, World, text};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KEYS: &str = "SELECT COUNT(*) FROM shared_keys";

fn shared(suite: Option<u8>) -> NewGroup {
    let month = 30 * 86_400;
    NewGroup { scheme: Scheme::SharedKey, suite, ttl_s: month, ..super::pairwise::pairwise() }
}

/// Alice's group with everybody in it.
async fn garden(names: &[&str]) -> (World, GroupId) {
    let mut world = World::with(names).await;
    let group = world.create_group_as(ALICE, shared(None)).await;
    for who in 1..names.len() {
        world.add(ALICE, group, who, Role::Member).await;
    }
    world.sync_all().await;
    (world, group)
}

/// Tag and counter of each message of a batch.
fn used(batch: &Batch) -> Vec<([u8; 4], u64)> {
    let messages = batch.submissions.iter().filter(|s| s.kind == Kind::Message);
    let headers = messages.map(|s| *Wire::parse(&s.payload).unwrap().header());
    headers.map(|header| (header.tag, header.counter)).collect()
}

/// The one key that a batch is sealed under.
fn key(batch: &Batch) -> [u8; 4] {
    used(batch)[0].0
}

/// Envelopes of this kind that wait for somebody.
fn waiting(world: &World, who: usize, kind: Kind) -> Vec<StreamRow> {
    world.waiting(who).into_iter().filter(|row| row.envelope.kind == kind).collect()
}

/// Envelopes of this kind that somebody was ever sent.
fn sent(world: &World, who: usize, kind: Kind) -> usize {
    let mailbox = world.mailboxes.get(&world.devices[who].id()).map_or(&[][..], Vec::as_slice);
    mailbox.iter().filter(|row| row.envelope.kind == kind).count()
}

async fn refused(world: &mut World, who: usize, group: GroupId) -> SealError {
    let item = world.outgoing(text("in vain"));
    world.seal(who, group, &[item]).await.unwrap_err()
}

fn nothing_failed(world: &World) {
    let said: Vec<_> = world.devices.iter().flat_map(Device::reasons).collect();
    assert!(said.is_empty(), "{said:?}");
}

#[tokio::test]
async fn everybody_reads_everybody_in_order_under_one_key() {
    for suite in 1..=3 {
        let mut world = World::with(&["alice", "bob", "carol"]).await;
        let group = world.create_group_as(ALICE, shared(Some(suite))).await;
        for who in [BOB, CAROL] {
            world.add(ALICE, group, who, Role::Member).await;
        }
        world.sync_all().await;
        let mut keys = Vec::new();
        for n in 0..3 {
            for who in [ALICE, BOB, CAROL] {
                let batch = world.send(who, group, &format!("{who}{n}")).await;
                assert_eq!(batch.submissions.last().unwrap().payload[0], 0x30 | suite);
                keys.push(key(&batch));
            }
            world.sync_all().await;
        }
        keys.dedup();
        assert_eq!(keys.len(), 1, "one for all");
        let of = |others: [usize; 2]| {
            (0..3).flat_map(move |n| others.map(|who| format!("{who}{n}"))).collect::<Vec<_>>()
        };
        assert_eq!(world.devices[ALICE].texts(), of([BOB, CAROL]));
        assert_eq!(world.devices[BOB].texts(), of([ALICE, CAROL]));
        assert_eq!(world.devices[CAROL].texts(), of([ALICE, BOB]));
        nothing_failed(&world);
    }
}

#[tokio::test]
async fn sixty_four_messages_in_one_commit_have_a_counter_each() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let items: Vec<_> = (0..64).map(|n| world.outgoing(text(&n.to_string()))).collect();
    let batch = world.seal(ALICE, group, &items).await.unwrap();
    world.post(ALICE, &batch).await.unwrap();
    let more = world.send(ALICE, group, "64").await;
    let counters: Vec<u64> = used(&batch).into_iter().chain(used(&more)).map(|(_, n)| n).collect();
    assert!(counters.into_iter().eq(0..65));
    world.sync_all().await;
    assert!(world.devices[BOB].texts().into_iter().eq((0..65).map(|n| n.to_string())));
    nothing_failed(&world);
}

#[tokio::test]
async fn whoever_comes_reads_nothing_of_before_and_all_from_then_on() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let before = world.send(ALICE, group, "before").await;
    world.sync_all().await;
    let carol = world.register("carol").await;
    world.add(ALICE, group, carol, Role::Member).await;
    // In one go: the key goes out before the message.
    let after = world.send(ALICE, group, "after").await;
    assert_ne!(key(&after), key(&before));
    world.sync_all().await;
    assert_eq!(world.devices[carol].texts(), ["after"]);
    assert_eq!(world.devices[BOB].texts(), ["before", "after"]);
    // A server that gives her what was said before gives her nothing.
    let row = before.submissions.iter().flat_map(Submission::rows).last().unwrap();
    let row = StreamRow { seq: Seq(900), envelope: row };
    world.receive(carol, &[row]).await;
    world.sync_all().await;
    assert_eq!(world.devices[carol].texts(), ["after"]);
}

#[tokio::test]
async fn whoever_was_taken_out_has_no_key_of_what_follows() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let before = world.send(BOB, group, "before").await;
    world.sync_all().await;
    world.remove(ALICE, group, CAROL).await;
    let given = sent(&world, CAROL, Kind::KeyDistribution);
    world.sync_all().await;
    let after = world.send(BOB, group, "after").await;
    assert_ne!(key(&after), key(&before));
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["before", "after"]);
    assert_eq!(sent(&world, CAROL, Kind::KeyDistribution), given);
    // With all that is said from then on in her hands she reads nothing.
    let rows = after.submissions.iter().flat_map(Submission::rows);
    for (seq, envelope) in (900..).zip(rows) {
        let row = StreamRow { seq: Seq(seq), envelope };
        world.receive(CAROL, &[row]).await;
    }
    assert_eq!(world.devices[CAROL].texts(), ["before"]);
}

#[tokio::test]
async fn whoever_does_not_know_yet_seals_under_no_key_of_before() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(BOB, group, "one").await;
    world.sync_all().await;
    world.remove(ALICE, group, CAROL).await;
    // Bob has neither op nor key: the server tells him of the op, and then he has no key.
    let item = world.outgoing(text("two"));
    let stale = world.seal(BOB, group, std::slice::from_ref(&item)).await.unwrap();
    let ops = world.post(BOB, &stale).await.unwrap_err();
    world.install(BOB, group, &ops).await;
    let refused = world.seal(BOB, group, std::slice::from_ref(&item)).await;
    assert!(matches!(refused, Err(SealError::NoKey)), "{refused:?}");
    world.sync_all().await;
    let batch = world.seal(BOB, group, &[item]).await.unwrap();
    world.post(BOB, &batch).await.unwrap();
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["one", "two"]);
}

#[tokio::test]
async fn after_somebody_left_an_admin_makes_the_key() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let before = world.send(BOB, group, "before").await;
    world.sync_all().await;
    let (device, now) = (&world.devices[CAROL], world.time());
    let mut tx = device.db.begin().await.unwrap();
    let op = device.machine.leave(&mut tx, now, group).await.unwrap();
    drop(tx);
    world.post_op(CAROL, op).await;
    world.sync_all().await;
    let after = world.send(BOB, group, "after").await;
    assert_ne!(key(&after), key(&before));
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["before", "after"]);
    assert_eq!(world.devices[CAROL].texts(), ["before"]);
}

#[tokio::test]
async fn a_member_who_lets_somebody_in_makes_the_key() {
    let mut world = World::with(&["alice", "bob", "carol"]).await;
    let new = NewGroup { members_may_add: true, ..shared(None) };
    let group = world.create_group_as(ALICE, new).await;
    world.add(ALICE, group, BOB, Role::Member).await;
    world.sync_all().await;
    let before = world.send(BOB, group, "before").await;
    world.add(BOB, group, CAROL, Role::Member).await;
    let after = world.send(BOB, group, "after").await;
    assert_ne!(key(&after), key(&before));
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["before", "after"]);
    assert_eq!(world.devices[CAROL].texts(), ["after"]);
    nothing_failed(&world);
}

#[tokio::test]
async fn a_role_or_a_name_changes_no_key() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let before = world.send(ALICE, group, "before").await;
    world.promote(ALICE, group, BOB).await;
    world.sync_all().await;
    let after = world.send(BOB, group, "after").await;
    assert_eq!(key(&after), key(&before));
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["after"]);
}

#[tokio::test]
async fn a_message_under_a_shared_key_is_nothing_in_another_group() {
    let mut world = World::with(&["alice", "bob"]).await;
    let mut rows = Vec::new();
    for new in [shared(None), NewGroup { scheme: Scheme::SenderKeys, ..shared(None) }] {
        let group = world.create_group_as(ALICE, new).await;
        world.add(ALICE, group, BOB, Role::Member).await;
        world.sync_all().await;
        world.send(ALICE, group, "one").await;
        rows.extend(waiting(&world, BOB, Kind::Message).pop());
        world.sync_all().await;
    }
    let [under_key, chained] = rows.as_slice() else { panic!("two rows") };
    for (row, group) in [(under_key, chained), (chained, under_key)] {
        let mut row = row.clone();
        row.envelope.group = group.envelope.group;
        row.envelope.id = row.envelope.compute_id();
        row.seq.0 += 900;
        world.receive(BOB, &[row]).await;
    }
    assert_eq!(world.devices[BOB].reasons(), ["wrong_scheme"; 2]);
}

//! Distributions, acknowledgements, requests for keys, Olm sessions and one-time keys.

use causeway_groups::machine::{Batch, SealError, What};
use causeway_protocol::{
    api::StreamRow,
    envelope::{Kind, Recipient, Submission},
    ids::Seq,
    roster::Role,
    sender_key::Message,
};

use super::{ALICE, BOB, CAROL, garden};
use crate::world::text;

const CHAINS: &str = "SELECT COUNT(*) FROM held_chains";

/// The kinds of these rows.
fn kinds(rows: &[StreamRow]) -> Vec<Kind> {
    rows.iter().map(|row| row.envelope.kind).collect()
}

#[tokio::test]
async fn a_lost_distribution_is_asked_for_and_given_again() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    let rows = world.waiting(BOB);
    assert_eq!(kinds(&rows), [Kind::KeyDistribution, Kind::Message]);
    // The server lost the first row.
    world.receive(BOB, &rows[1..]).await;
    let waits = world.devices[BOB].received.iter().any(|r| matches!(r.what, What::Held { .. }));
    assert!(waits);
    // Bob claims a key of Alice and asks; Alice answers with what she keeps for Bob.
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
    world.send(ALICE, group, "two").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
}

#[tokio::test]
async fn an_acknowledged_distribution_is_not_given_again() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    let mailbox = world.mailboxes[&world.devices[ALICE].id()].clone();
    assert_eq!(kinds(&mailbox).iter().filter(|kind| **kind == Kind::KeyAck).count(), 1);
    let first = world.mailboxes[&world.devices[BOB].id()].clone();
    // Bob forgets the chain, and asks for it with the next message.
    let device = &world.devices[BOB];
    let mut tx = device.db.begin().await.unwrap();
    sqlx::query("DELETE FROM held_chains").execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    world.send(ALICE, group, "two").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
    let requests = world.mailboxes[&world.devices[ALICE].id()].clone();
    assert!(kinds(&requests).contains(&Kind::KeyRequest));
    let given = world.mailboxes[&world.devices[BOB].id()].clone();
    let count = |rows: &[StreamRow]| {
        kinds(rows).iter().filter(|kind| **kind == Kind::KeyDistribution).count()
    };
    assert_eq!(count(&given), count(&first));
}

/// The bridge's database is put back from copies; there a key that came over Olm since does not open.
#[tokio::test]
async fn an_acknowledged_distribution_is_given_again_to_the_bridge_for_a_week() {
    for (role, heard) in [(Role::Bridge, true), (Role::Member, false)] {
        let (mut world, group) = garden(&["alice"]).await;
        let bridge = world.register("bot").await;
        world.add(ALICE, group, bridge, role).await;
        world.sync_all().await;
        world.send(ALICE, group, "one").await;
        world.sync_all().await;
        let forget = async |world: &crate::world::World| {
            let mut tx = world.devices[bridge].db.begin().await.unwrap();
            for sql in ["DELETE FROM held_chains", "DELETE FROM key_requests"] {
                sqlx::query(sql).execute(tx.conn()).await.unwrap();
            }
            tx.commit().await.unwrap();
        };
        forget(&world).await;
        world.send(ALICE, group, "two").await;
        world.sync_all().await;
        world.sync_all().await;
        let has_heard = world.devices[bridge].texts().contains(&"two".to_owned());
        assert_eq!(has_heard, heard, "{role:?}");
        world.now += 7 * 86_400_000 + 1;
        let (device, now) = (&world.devices[ALICE], world.time());
        let mut tx = device.db.begin().await.unwrap();
        device.machine.expire(&mut tx, now).await.unwrap();
        tx.commit().await.unwrap();
        let kept = "SELECT COUNT(*) FROM given WHERE sealed IS NOT NULL";
        assert_eq!(world.count(ALICE, kept).await, 0);
    }
}

#[tokio::test]
async fn a_chain_is_given_to_each_device_once_and_rotates_after_a_hundred() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let items: Vec<_> = (0..64).map(|n| n.to_string()).map(|n| world.outgoing(text(&n))).collect();
    let mut with_keys = Vec::new();
    for _ in 0..4 {
        let fresh: Vec<_> = items.iter().map(|item| world.outgoing(item.content.clone())).collect();
        let batch = world.seal(ALICE, group, &fresh).await.unwrap();
        with_keys.push(batch.has_keys());
        world.post(ALICE, &batch).await.unwrap();
    }
    assert_eq!(with_keys, [true, false, true, false]);
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts().len(), 256);
}

#[tokio::test]
async fn no_chain_carries_more_than_a_thousand() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let mut batch_of = async |count: usize| {
        let items: Vec<_> = (0..count).map(|_| world.outgoing(text("x"))).collect();
        let batch = world.seal(ALICE, group, &items).await?;
        world.post(ALICE, &batch).await.unwrap();
        Ok(batch.has_keys())
    };
    assert!(batch_of(60).await.unwrap());
    assert!(!batch_of(940 - 1).await.unwrap());
    assert!(batch_of(60).await.unwrap(), "999 are more than a hundred");
    assert!(batch_of(941).await.unwrap(), "1,001");
    assert!(batch_of(1_000).await.unwrap());
    assert!(matches!(batch_of(1_001).await, Err(SealError::TooMany(1_001, 1_000))));
}

#[tokio::test]
async fn a_chain_rotates_when_it_is_a_day_old() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    assert!(world.send(ALICE, group, "one").await.has_keys());
    assert!(!world.send(ALICE, group, "two").await.has_keys());
    world.now += 24 * 3_600_000 + 1;
    assert!(world.send(ALICE, group, "three").await.has_keys());
}

#[tokio::test]
async fn an_add_rotates_nothing_and_a_removal_everything() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(ALICE, group, "one").await;
    let dave = world.register("dave").await;
    world.add(ALICE, group, dave, Role::Member).await;
    let batch = world.send(ALICE, group, "two").await;
    assert_eq!(batch.submissions.len(), 2, "just Dave is given the chain");
    world.remove(ALICE, group, CAROL).await;
    let batch = world.send(ALICE, group, "three").await;
    assert_eq!(batch.submissions.len(), 3, "Bob and Dave are given a new one");
}

/// The tag of the chain that a batch's message was sealed with.
fn tag(batch: &Batch) -> [u8; 4] {
    Message::parse(&batch.submissions.last().unwrap().payload).unwrap().header.tag
}

#[tokio::test]
async fn a_rotation_is_not_forgotten_over_a_roster_sync_that_cannot_be_said_yet() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    world.now += 1_800_000;
    let before = tag(&world.send(ALICE, group, "half an hour later").await);
    world.now += 1_800_000;
    let dave = world.register("dave").await;
    world.add(ALICE, group, dave, Role::Member).await;
    let (device, now) = (&world.devices[ALICE], world.time());
    let mut tx = device.db.begin().await.unwrap();
    device.machine.rotate(&mut tx, group).await.unwrap();
    // The sync is due, and for Dave a key is to be claimed first.
    let chores = device.machine.chores(&mut tx, now).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(chores.needs.claims, [world.devices[dave].id()]);
    assert!(chores.batches.is_empty(), "nothing was begun that may never be used");
    let batch = world.send(ALICE, group, "two").await;
    assert_ne!(tag(&batch), before);
    assert_eq!(batch.submissions.len(), 3, "Bob and Dave are given the new chain");
}

#[tokio::test]
async fn keys_of_a_refused_batch_go_with_the_next() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let item = world.outgoing(text("one"));
    let lost = world.seal(ALICE, group, std::slice::from_ref(&item)).await.unwrap();
    assert!(lost.has_keys());
    // The server refused it for a reason that is over now; nothing of it arrived.
    let next = world.seal(ALICE, group, &[item]).await.unwrap();
    assert!(next.has_keys());
    world.post(ALICE, &next).await.unwrap();
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
    assert!(!world.send(ALICE, group, "two").await.has_keys());
}

#[tokio::test]
async fn what_is_finished_goes_out_whatever_its_kind() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let (bob, item) = (world.devices[BOB].id(), world.outgoing(text("one")));
    world.seal(ALICE, group, &[item]).await.unwrap();
    for kind in (0..=u8::MAX).filter_map(Kind::from_number) {
        let device = &world.devices[ALICE];
        let mut tx = device.db.begin().await.unwrap();
        let change = sqlx::query("UPDATE outgoing SET kind = $1").bind(kind.number());
        assert_eq!(change.execute(tx.conn()).await.unwrap().rows_affected(), 1);
        let chores = device.machine.chores(&mut tx, world.time()).await;
        if kind.is_of_server() || !kind.takes(&Recipient::Device(bob)) {
            assert!(chores.is_err(), "{kind:?} is nothing that a device sends to one");
            continue;
        }
        let batches = chores.unwrap().batches;
        assert_eq!(batches[0].submissions[0].kind, kind);
        assert!(batches[0].has_keys());
    }
}

#[tokio::test]
async fn a_wedged_session_heals() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    // Bob's sessions are gone: he was restored from before they were made.
    let device = &world.devices[BOB];
    let mut tx = device.db.begin().await.unwrap();
    sqlx::query("DELETE FROM olm_sessions").execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    let device = &world.devices[ALICE];
    let mut tx = device.db.begin().await.unwrap();
    device.machine.rotate(&mut tx, group).await.unwrap();
    tx.commit().await.unwrap();
    world.send(ALICE, group, "two").await;
    world.sync_all().await;
    // Bob could not open the distribution, made a new session, and asked in it.
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
    assert_eq!(world.devices[BOB].reasons(), ["olm"]);
}

#[tokio::test]
async fn devices_without_a_one_time_key_do_not_stop_the_others() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let carol = world.devices[CAROL].id();
    world.take_keys(carol);
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
    // She has asked for it, in a session of her own.
    assert_eq!(world.devices[CAROL].texts(), ["one"]);
}

#[tokio::test]
async fn one_time_keys_are_topped_up() {
    let (mut world, group) = garden(&["alice"]).await;
    for n in 0..30 {
        let who = world.register(&format!("m{n}")).await;
        world.add(ALICE, group, who, Role::Member).await;
        world.sync(who).await;
        world.send(who, group, "hello").await;
    }
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts().len(), 30);
    assert!(world.keys_left(ALICE) >= 45, "{} left", world.keys_left(ALICE));
}

/// Everything that may go wrong with a distribution, played with real envelopes.
#[tokio::test]
async fn a_distribution_counts_only_where_it_was_made_for() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let other = world.create_group(ALICE).await;
    world.add(ALICE, other, BOB, Role::Member).await;
    world.sync_all().await;
    let batch = world.send(ALICE, group, "one").await;
    let bob = world.devices[BOB].id();
    let rows: Vec<_> = batch.submissions.iter().flat_map(Submission::rows).collect();
    let to_bob = rows.iter().find(|row| row.to == Recipient::Device(bob)).unwrap().clone();
    let to_carol = rows
        .iter()
        .find(|row| row.to == Recipient::Device(world.devices[CAROL].id()))
        .unwrap()
        .clone();

    // Said to be of another group.
    let mut moved = to_bob.clone();
    moved.group = other;
    moved.id = moved.compute_id();
    // Forwarded by Carol as hers.
    let mut forwarded = to_bob.clone();
    let carol = &world.devices[CAROL];
    forwarded.sender =
        Some(causeway_protocol::envelope::Sender { account: carol.account(), device: carol.id() });
    forwarded.id = forwarded.compute_id();
    // Carol's, given to Bob.
    let mut misled = to_carol;
    misled.to = Recipient::Device(bob);
    misled.id = misled.compute_id();
    // Under another kind.
    let mut relabelled = to_bob.clone();
    relabelled.kind = Kind::Direct;
    relabelled.id = relabelled.compute_id();

    for (seq, envelope) in (500..).zip([forwarded, misled]) {
        world.receive(BOB, &[StreamRow { seq: Seq(seq), envelope }]).await;
    }
    assert_eq!(world.devices[BOB].reasons(), ["olm", "olm"]);
    assert_eq!(world.count(BOB, CHAINS).await, 0);
    world.receive(BOB, &[StreamRow { seq: Seq(600), envelope: moved }]).await;
    assert_eq!(world.devices[BOB].reasons().last(), Some(&"wrong_group"));
    assert_eq!(world.count(BOB, CHAINS).await, 0);
    // The Olm message is used up; Bob asks, and Alice gives the same again, rightly this time.
    world.receive(BOB, &[StreamRow { seq: Seq(601), envelope: relabelled }]).await;
    assert_eq!(world.count(BOB, CHAINS).await, 0);
    world.devices[BOB].acked = 0;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
    assert_eq!(world.count(BOB, CHAINS).await, 1);
}

#[tokio::test]
async fn a_distribution_whose_roster_is_not_known_waits_for_the_op() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let carol = world.register("carol").await;
    world.add(ALICE, group, carol, Role::Member).await;
    world.sync(carol).await;
    world.send(carol, group, "hello").await;
    let rows = world.waiting(BOB);
    assert_eq!(kinds(&rows), [Kind::Roster, Kind::KeyDistribution, Kind::Message]);
    // Everything about Carol comes before the op that brings her, and what she is comes last.
    world.receive(BOB, &rows[1..]).await;
    let account = world.devices[carol].account();
    world.learn(BOB, &account).await;
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM holds").await, 2);
    assert!(world.devices[BOB].texts().is_empty());
    world.devices[BOB].restart().await;
    world.receive(BOB, &rows[..1]).await;
    assert_eq!(world.devices[BOB].texts(), ["hello"]);
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM holds").await, 0);
}

#[tokio::test]
async fn a_distribution_is_not_given_out_after_its_week() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    let rows = world.waiting(BOB);
    // Bob never gets the first row, and asks; Alice hears of it when she comes back.
    world.receive(BOB, &rows[1..]).await;
    for _ in 0..3 {
        world.chores(BOB).await;
    }
    let asked = kinds(&world.mailboxes[&world.devices[ALICE].id()]);
    assert!(asked.contains(&Kind::KeyRequest), "{asked:?}");
    world.now += 7 * 24 * 3_600_000 + 60_000;
    world.sync(ALICE).await;
    let given = kinds(&world.mailboxes[&world.devices[BOB].id()]);
    assert_eq!(given.iter().filter(|kind| **kind == Kind::KeyDistribution).count(), 1);
}

#[tokio::test]
async fn of_a_senders_chains_64_are_kept_and_five_after_a_month() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    for n in 0..70 {
        let device = &world.devices[ALICE];
        let mut tx = device.db.begin().await.unwrap();
        device.machine.rotate(&mut tx, group).await.unwrap();
        tx.commit().await.unwrap();
        world.now += 1_000;
        world.send(ALICE, group, &n.to_string()).await;
        let rows = world.waiting(BOB);
        world.receive(BOB, &rows).await;
    }
    assert_eq!(world.devices[BOB].texts().len(), 70);
    assert_eq!(world.count(BOB, CHAINS).await, 64);
    world.now += 31 * 86_400_000;
    let (device, now) = (&world.devices[BOB], world.time());
    let mut tx = device.db.begin().await.unwrap();
    device.machine.expire(&mut tx, now).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.count(BOB, CHAINS).await, 5);
}

#[tokio::test]
async fn no_more_than_three_answers_an_hour() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    let before = world.waiting(BOB);
    // Bob loses his chain again and again, and says so.
    for round in 0..6 {
        let device = &world.devices[BOB];
        let mut tx = device.db.begin().await.unwrap();
        for sql in ["DELETE FROM held_chains", "DELETE FROM key_requests", "DELETE FROM acks_due"] {
            sqlx::query(sql).execute(tx.conn()).await.unwrap();
        }
        tx.commit().await.unwrap();
        let message = before.iter().find(|row| row.envelope.kind == Kind::Message).unwrap();
        world.receive(BOB, &[StreamRow { seq: Seq(50 + round), ..message.clone() }]).await;
        world.chores(BOB).await;
        world.sync(ALICE).await;
    }
    let rows = world.mailboxes[&world.devices[BOB].id()].clone();
    let given = kinds(&rows).iter().filter(|kind| **kind == Kind::KeyDistribution).count();
    assert_eq!(given, 1 + 3);
}

#[tokio::test]
async fn a_message_whose_key_never_comes_ends_visibly() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    let rows = world.waiting(BOB);
    world.receive(BOB, &rows[1..]).await;
    world.now += 86_400_001;
    let now = world.time();
    let device = &mut world.devices[BOB];
    let mut tx = device.db.begin().await.unwrap();
    let in_vain = device.machine.expire(&mut tx, now).await.unwrap();
    tx.commit().await.unwrap();
    device.received.extend(in_vain);
    assert_eq!(device.reasons(), ["waited_in_vain"]);
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM holds").await, 0);
}

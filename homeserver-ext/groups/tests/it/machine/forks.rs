//! A server that shows two histories, one that lost its last ops, and ops that are not valid.

use causeway_groups::machine::{SealError, What};
use causeway_protocol::{
    api::{OpBytes, StreamRow},
    content::{Content, RosterSync},
    envelope::Kind,
    ids::{Epoch, GroupId, RosterHash, Seq},
    roster::Role,
};
use proptest::prelude::*;

use super::{ALICE, BOB, CAROL, garden};
use crate::world::{World, roster_row, text};

/// Two ops by Alice on one roster: Carol added, or Dave.
async fn two_adds(world: &mut World, group: GroupId) -> (OpBytes, OpBytes) {
    let mut ops = Vec::new();
    for whom in [CAROL, CAROL + 1] {
        let account = world.devices[whom].account();
        world.learn(ALICE, &account).await;
        let now = world.time();
        let device = &world.devices[ALICE];
        let mut tx = device.db.begin().await.unwrap();
        ops.push(device.machine.add(&mut tx, now, group, &account, Role::Member).await.unwrap());
    }
    let second = ops.pop().unwrap();
    (ops.pop().unwrap(), second)
}

async fn world() -> (World, GroupId, OpBytes, OpBytes) {
    let mut world = World::with(&["alice", "bob", "carol", "dave"]).await;
    let group = world.create_group(ALICE).await;
    world.add(ALICE, group, BOB, Role::Member).await;
    world.sync_all().await;
    let (first, second) = two_adds(&mut world, group).await;
    (world, group, first, second)
}

fn forks(world: &World, who: usize) -> usize {
    world.devices[who].received.iter().filter(|r| matches!(r.what, What::Fork(_))).count()
}

#[tokio::test]
async fn a_second_history_is_said_and_nothing_is_sent_until_a_person_decides() {
    let (mut world, group, first, second) = world().await;
    world.install(BOB, group, &[first]).await;
    world.install(BOB, group, std::slice::from_ref(&second)).await;
    assert_eq!(forks(&world, BOB), 1);
    let device = &world.devices[BOB];
    let mut tx = device.db.begin().await.unwrap();
    let head = device.machine.roster(&mut tx, group).await.unwrap().unwrap();
    assert!(head.members().values().any(|m| m.account == world.devices[CAROL].account()));
    let view = device.machine.fork(&mut tx, group).await.unwrap().unwrap();
    assert_eq!(view.fork.epoch, Epoch(2));
    assert!(view.fork.mine.by_creator);
    assert_eq!(view.fork.other.unwrap().kind, "add");
    drop(tx);
    assert!(matches!(world.seal_now(BOB, group, &[]).await, Err(SealError::Forked)));

    let device = &world.devices[BOB];
    let mut tx = device.db.begin().await.unwrap();
    device.machine.keep(&mut tx, group).await.unwrap();
    tx.commit().await.unwrap();
    world.prepare(BOB, group).await;
    let item = world.outgoing(text("still here"));
    assert!(world.seal_now(BOB, group, &[item]).await.is_ok());
    // The other history again changes nothing any more.
    world.install(BOB, group, &[second]).await;
    assert!(world.seal_now(BOB, group, &[]).await.is_ok());
}

#[tokio::test]
async fn adopting_takes_the_other_history() {
    let (mut world, group, first, second) = world().await;
    world.install(BOB, group, &[first]).await;
    world.install(BOB, group, &[second]).await;
    let now = world.time();
    let device = &world.devices[BOB];
    let mut tx = device.db.begin().await.unwrap();
    device.machine.adopt(&mut tx, now, group).await.unwrap();
    let head = device.machine.roster(&mut tx, group).await.unwrap().unwrap();
    assert!(head.members().values().any(|m| m.account == world.devices[3].account()));
    assert!(!head.members().values().any(|m| m.account == world.devices[CAROL].account()));
    tx.commit().await.unwrap();
    world.devices[BOB].restart().await;
    let device = &world.devices[BOB];
    let mut tx = device.db.begin().await.unwrap();
    assert_eq!(device.machine.roster(&mut tx, group).await.unwrap().unwrap(), head);
    assert!(device.machine.fork(&mut tx, group).await.unwrap().is_none());
}

/// Two histories from one roster on, each of them signed by an admin who knows no other.
async fn branches(world: &mut World, group: GroupId) -> [Vec<OpBytes>; 2] {
    let mut branches = [Vec::new(), Vec::new()];
    for (who, branch) in [ALICE, BOB].into_iter().zip(&mut branches) {
        for n in 0..3 {
            let now = world.time();
            let device = &world.devices[who];
            let mut tx = device.db.begin().await.unwrap();
            let mut policy =
                device.machine.roster(&mut tx, group).await.unwrap().unwrap().policy().clone();
            policy.name = format!("{who} {n}");
            let op = device.machine.set_policy(&mut tx, now, group, policy).await.unwrap();
            drop(tx);
            world.install(who, group, std::slice::from_ref(&op)).await;
            branch.push(op);
        }
    }
    branches
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_order_of_two_branches_makes_a_client_leave_the_one_it_installed_first(
        shown in prop::collection::vec((0_usize..2, 0_usize..3, any::<bool>()), 1..24),
    ) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.unwrap().block_on(async {
            let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
            world.promote(ALICE, group, BOB).await;
            world.sync_all().await;
            let begin = world.head(group).epoch().next().unwrap();
            let branches = branches(&mut world, group).await;
            let mut first = None;
            let mut longest = 0;
            for (seq, (branch, at, as_row)) in (1_000..).zip(shown) {
                let op = &branches[branch][at];
                if as_row {
                    let row = StreamRow { seq: Seq(seq), envelope: roster_row(&op.0) };
                    world.receive(CAROL, &[row]).await;
                } else {
                    world.install(CAROL, group, std::slice::from_ref(op)).await;
                }
                if at == 0 {
                    first.get_or_insert(branch);
                }
                if first == Some(branch) && at == longest {
                    longest += 1;
                }
                let device = &world.devices[CAROL];
                let mut tx = device.db.begin().await.unwrap();
                let ops = device.machine.ops(&mut tx, group, begin).await.unwrap();
                let expected = first.map_or(&[][..], |first| &branches[first][..longest]);
                prop_assert_eq!(&ops, expected);
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_member_who_names_another_roster_is_shown_and_stops_nobody() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let ahead = RosterSync { epoch: Epoch(2), roster_hash: RosterHash::new([7; 32]) };
    let item = world.outgoing(Content::RosterSync(ahead));
    let batch = world.seal(ALICE, group, &[item]).await.unwrap();
    world.post(ALICE, &batch).await.unwrap();
    world.sync(BOB).await;
    // That epoch is not known: its op is fetched, and there is nothing to say.
    assert_eq!(forks(&world, BOB), 0);
    let item = world.outgoing(Content::RosterSync(RosterSync { epoch: Epoch(1), ..ahead }));
    let batch = world.seal(ALICE, group, &[item]).await.unwrap();
    world.post(ALICE, &batch).await.unwrap();
    world.sync(BOB).await;
    assert_eq!(forks(&world, BOB), 1);
    let device = &world.devices[BOB];
    let mut tx = device.db.begin().await.unwrap();
    let view = device.machine.fork(&mut tx, group).await.unwrap().unwrap();
    assert_eq!((view.fork.epoch, view.fork.other), (Epoch(1), None));
    drop(tx);
    // The server was asked for that epoch, and shows what Bob has.
    world.chores(BOB).await;
    world.send(BOB, group, "going on").await;
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["going on"]);
    // Said again and again, it is shown once.
    let item = world.outgoing(Content::RosterSync(RosterSync { epoch: Epoch(0), ..ahead }));
    let batch = world.seal(ALICE, group, &[item]).await.unwrap();
    world.post(ALICE, &batch).await.unwrap();
    world.sync(BOB).await;
    assert_eq!(forks(&world, BOB), 1);
}

#[tokio::test]
async fn a_second_history_that_a_member_named_first_stops_the_sending_when_the_server_shows_it() {
    let (mut world, group, first, second) = world().await;
    world.install(BOB, group, std::slice::from_ref(&first)).await;
    world.post_op(ALICE, first).await;
    let named = RosterSync { epoch: Epoch(2), roster_hash: RosterHash::new([7; 32]) };
    let item = world.outgoing(Content::RosterSync(named));
    let batch = world.seal(ALICE, group, &[item]).await.unwrap();
    world.post(ALICE, &batch).await.unwrap();
    world.sync(BOB).await;
    assert_eq!(forks(&world, BOB), 1);
    world.install(BOB, group, std::slice::from_ref(&second)).await;
    assert_eq!(forks(&world, BOB), 2);
    assert!(matches!(world.seal_now(BOB, group, &[]).await, Err(SealError::Forked)));
}

#[tokio::test]
async fn a_message_under_another_roster_is_held_and_the_server_asked_for_that_epoch() {
    let (mut world, group, first, second) = world().await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    // The server shows Bob one history, and Alice, like everybody later, the other.
    world.install(BOB, group, &[second]).await;
    world.post_op(ALICE, first).await;
    let rows = |world: &World| {
        let waiting = world.waiting(BOB).into_iter();
        waiting.filter(|row| row.envelope.kind == Kind::Message).collect::<Vec<_>>()
    };
    world.send(ALICE, group, "two").await;
    let message = rows(&world);
    world.receive(BOB, &message).await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
    world.chores(BOB).await;
    assert_eq!(forks(&world, BOB), 1);
}

#[tokio::test]
async fn an_op_that_is_not_valid_is_a_visible_fault() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let device = &world.devices[ALICE];
    let mut tx = device.db.begin().await.unwrap();
    let now = world.time();
    let op = device.machine.close(&mut tx, now, group).await.unwrap();
    drop(tx);
    let mut forged = op.0.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let row = causeway_protocol::api::StreamRow {
        seq: causeway_protocol::ids::Seq(77),
        envelope: roster_row(&forged),
    };
    world.receive(BOB, &[row]).await;
    assert_eq!(world.devices[BOB].reasons().len(), 1);
    world.send(BOB, group, "still open").await;
}

#[tokio::test]
async fn roster_sync_is_said_hourly_where_something_is_said() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    let rows = |world: &World| world.mailboxes[&world.devices[BOB].id()].len();
    world.sync_all().await;
    let before = rows(&world);
    world.sync_all().await;
    assert_eq!(rows(&world), before);
    world.now += 3_600_000;
    world.sync_all().await;
    assert_eq!(rows(&world), before, "nothing was said since");
    world.send(ALICE, group, "two").await;
    world.sync_all().await;
    assert!(rows(&world) > before + 1);
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
}

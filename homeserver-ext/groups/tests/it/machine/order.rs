//! Order, loss, repetition, and who was still entitled when.

use causeway_groups::machine::{SealError, What};
use causeway_protocol::{api::StreamRow, ids::Seq, roster::Role};
use proptest::prelude::*;

use super::{ALICE, BOB, CAROL, garden};
use crate::world::text;

#[tokio::test]
async fn messages_before_their_key_are_held_and_shown_in_order() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let first = world.send(ALICE, group, "one").await;
    world.send(ALICE, group, "two").await;
    assert!(first.has_keys());
    let mut rows = world.waiting(BOB);
    assert_eq!(rows.len(), 3);
    // The key comes last, but every row keeps its place.
    rows.rotate_left(1);
    world.receive(BOB, &rows[..2]).await;
    assert!(world.devices[BOB].texts().is_empty());
    world.receive(BOB, &rows[2..]).await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
}

#[tokio::test]
async fn a_batch_that_comes_twice_is_shown_once() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    let rows = world.waiting(BOB);
    world.receive(BOB, &rows).await;
    world.receive(BOB, &rows).await;
    world.devices[BOB].restart().await;
    world.receive(BOB, &rows).await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
    let again = world.devices[BOB].received.iter();
    assert_eq!(again.filter(|r| matches!(r.what, What::Duplicate)).count(), 2 * rows.len());
    assert!(world.devices[BOB].reasons().is_empty());
}

#[tokio::test]
async fn one_client_id_sealed_twice_is_shown_once() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let item = world.outgoing(text("one"));
    let items = std::slice::from_ref(&item);
    let first = world.seal(ALICE, group, items).await.unwrap();
    let second = world.seal(ALICE, group, items).await.unwrap();
    world.post(ALICE, &first).await.unwrap();
    world.post(ALICE, &second).await.unwrap();
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
}

#[tokio::test]
async fn of_what_came_before_and_what_is_new_in_one_slice_the_new_is_shown() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let item = world.outgoing(text("one"));
    let first = world.seal(ALICE, group, std::slice::from_ref(&item)).await.unwrap();
    world.post(ALICE, &first).await.unwrap();
    let rows = world.waiting(BOB);
    // Every row twice in one slice, and what was said under that name once more behind a new one.
    let twice: Vec<_> = rows.iter().flat_map(|row| [row.clone(), row.clone()]).collect();
    world.receive(BOB, &twice).await;
    world.send(ALICE, group, "two").await;
    let again = world.seal(ALICE, group, &[item]).await.unwrap();
    world.post(ALICE, &again).await.unwrap();
    let rows = world.waiting(BOB);
    world.receive(BOB, &rows).await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
    assert!(world.devices[BOB].reasons().is_empty());
    let last = &world.devices[BOB].received.last().unwrap().what;
    assert!(matches!(last, What::Duplicate), "{last:?}");
}

#[tokio::test]
async fn a_stale_epoch_is_sealed_again_and_arrives_once() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(BOB, group, "one").await;
    let item = world.outgoing(text("two"));
    let items = std::slice::from_ref(&item);
    let stale = world.seal(BOB, group, items).await.unwrap();
    world.remove(ALICE, group, CAROL).await;
    let ops = world.post(BOB, &stale).await.expect_err("stale");
    world.install(BOB, group, &ops).await;
    let anew = world.seal(BOB, group, items).await.unwrap();
    assert!(anew.has_keys(), "a removal begins a new chain");
    world.post(BOB, &anew).await.unwrap();
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["one", "two"]);
    assert_eq!(world.devices[CAROL].texts(), ["one"]);
}

#[tokio::test]
async fn a_message_from_before_a_removal_is_judged_by_its_own_row() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(CAROL, group, "one").await;
    world.sync_all().await;
    world.send(CAROL, group, "two").await;
    world.remove(ALICE, group, CAROL).await;
    // Bob learns of the removal first; the message stands before it all the same.
    let rows = world.waiting(BOB);
    let (message, removal) = rows.split_at(1);
    world.receive(BOB, removal).await;
    world.receive(BOB, message).await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
    // A row after the removal is refused.
    let late = StreamRow { seq: Seq(99), envelope: message[0].envelope.clone() };
    let mut forged = world.seal(CAROL, group, &[]).await;
    assert!(forged.is_ok(), "Carol does not know yet");
    let item = world.outgoing(text("three"));
    let batch = world.seal(CAROL, group, &[item]).await.unwrap();
    let envelope = batch.submissions.last().unwrap().rows().next().unwrap();
    world.receive(BOB, &[StreamRow { seq: Seq(100), envelope }]).await;
    assert_eq!(world.devices[BOB].reasons(), ["failed_removed"]);
    world.receive(BOB, &[late]).await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
    world.sync(CAROL).await;
    forged = world.seal_now(CAROL, group, &[]).await;
    assert!(matches!(forged, Err(SealError::NotMember(_))));
}

#[tokio::test]
async fn a_newcomer_reads_from_his_joining_on() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "before").await;
    let carol = world.register("carol").await;
    world.add(ALICE, group, carol, Role::Member).await;
    world.send(ALICE, group, "after").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["before", "after"]);
    assert_eq!(world.devices[carol].texts(), ["after"]);
    world.send(carol, group, "thanks").await;
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["thanks"]);
    assert!(world.devices.iter().all(|device| device.reasons().is_empty()));
}

/// The second removal never comes to the one who is out: it stands after everything that does.
#[tokio::test]
async fn what_was_said_before_both_left_is_read_by_one_who_comes_late() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.register("dan").await;
    world.add(ALICE, group, 3, Role::Member).await;
    world.sync(BOB).await;
    world.send(BOB, group, "hello").await;
    world.remove(ALICE, group, 3).await;
    world.remove(ALICE, group, BOB).await;
    world.sync_all().await;
    assert_eq!(world.devices[3].texts(), ["hello"]);
    assert!(world.devices[3].reasons().is_empty(), "{:?}", world.devices[3].reasons());
}

#[tokio::test]
async fn what_came_too_late_is_not_shown() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.now += 86_400_000 + 1;
    let rows = world.waiting(BOB);
    world.receive(BOB, &rows).await;
    assert!(world.devices[BOB].texts().is_empty());
    assert_eq!(world.devices[BOB].reasons(), ["expired"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_order_loss_and_duplication_of_rows_shows_each_once(
        deliveries in prop::collection::vec(0_usize..24, 1..60),
        slices in prop::collection::vec(1_usize..7, 1..20),
        restart in any::<bool>(),
    ) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.unwrap().block_on(async {
            let (mut world, group) = garden(&["alice", "bob"]).await;
            for n in 0..20 {
                world.send(ALICE, group, &n.to_string()).await;
                if n == 9 {
                    // A second chain, so that keys too come in any order.
                    let device = &world.devices[ALICE];
                    let mut tx = device.db.begin().await.unwrap();
                    device.machine.rotate(&mut tx, group).await.unwrap();
                    tx.commit().await.unwrap();
                }
            }
            let rows = world.waiting(BOB);
            let picked: Vec<_> = deliveries.iter().filter_map(|at| rows.get(*at)).collect();
            let mut rest = picked.as_slice();
            for len in slices.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (slice, more) = rest.split_at((*len).min(rest.len()));
                rest = more;
                let slice: Vec<_> = slice.iter().map(|row| (*row).clone()).collect();
                world.receive(BOB, &slice).await;
                if restart {
                    world.devices[BOB].restart().await;
                }
            }
            let mut shown = world.devices[BOB].texts();
            let count = shown.len();
            shown.sort_unstable();
            shown.dedup();
            prop_assert_eq!(shown.len(), count, "each once");
            // What was not delivered comes now; then nothing is missing.
            world.receive(BOB, &rows).await;
            let mut shown = world.devices[BOB].texts();
            shown.sort_unstable();
            let mut all: Vec<_> = (0..20).map(|n| n.to_string()).collect();
            all.sort_unstable();
            prop_assert_eq!(shown, all);
            prop_assert!(world.devices[BOB].reasons().is_empty());
            Ok(())
        })?;
    }
}

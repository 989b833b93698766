//! Keys that are asked for: again where a request is lost, and no longer than something needs them.

use causeway_protocol::{api::StreamRow, envelope::Kind, ids::GroupId};

use super::{ALICE, BOB, CAROL, garden};
use crate::world::World;

const REQUESTS: &str = "SELECT COUNT(*) FROM key_requests";
const OWED: &str = "SELECT COUNT(*) FROM given WHERE owed = TRUE";

/// The kinds of these rows.
fn kinds(rows: &[StreamRow]) -> Vec<Kind> {
    rows.iter().map(|row| row.envelope.kind).collect()
}

/// How often Alice was asked for a key.
fn requests(world: &World) -> usize {
    let rows = &world.mailboxes[&world.devices[ALICE].id()];
    kinds(rows).iter().filter(|kind| **kind == Kind::KeyRequest).count()
}

/// Bob has a message of Alice's without its key, and a session with her.
async fn without_its_key() -> (World, GroupId) {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    let device = &world.devices[ALICE];
    let mut tx = device.db.begin().await.unwrap();
    device.machine.rotate(&mut tx, group).await.unwrap();
    tx.commit().await.unwrap();
    world.send(ALICE, group, "two").await;
    let rows = world.waiting(BOB);
    assert_eq!(kinds(&rows), [Kind::KeyDistribution, Kind::Message]);
    world.receive(BOB, &rows[1..]).await;
    (world, group)
}

#[tokio::test]
async fn a_lost_request_goes_again_ever_more_rarely_while_what_waits_lives() {
    let (mut world, _) = without_its_key().await;
    world.sync(BOB).await;
    assert_eq!(requests(&world), 1);
    for (minutes, so_far) in [(4, 1), (2, 2), (8, 2), (3, 3)] {
        world.now += minutes * 60_000;
        world.sync(BOB).await;
        assert_eq!(requests(&world), so_far);
    }
    // The server loses them all, and the next one comes.
    let alice = world.devices[ALICE].id();
    world.mailboxes.get_mut(&alice).unwrap().retain(|row| row.envelope.kind != Kind::KeyRequest);
    world.now += 20 * 60_000;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
    assert_eq!(world.count(BOB, REQUESTS).await, 0);
}

#[tokio::test]
async fn a_key_is_not_asked_for_when_nothing_needs_it_any_more() {
    let (mut world, _) = without_its_key().await;
    // The group keeps what is said for a day.
    for _ in 0..3 * 24 {
        world.now += 3_600_000;
        world.sync(BOB).await;
    }
    let asked = requests(&world);
    assert!((5..=9).contains(&asked), "{asked}");
    let (device, now) = (&world.devices[BOB], world.time());
    let mut tx = device.db.begin().await.unwrap();
    device.machine.expire(&mut tx, now).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.count(BOB, REQUESTS).await, 0);
}

#[tokio::test]
async fn what_was_asked_in_a_session_that_was_wedged_is_asked_again_in_the_new_one() {
    let (mut world, _) = without_its_key().await;
    // Alice's sessions are gone: she was restored from before they were made.
    let device = &world.devices[ALICE];
    let mut tx = device.db.begin().await.unwrap();
    sqlx::query("DELETE FROM olm_sessions").execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    world.sync(BOB).await;
    // Alice cannot read the request, and begins a new session; Bob asks again in it.
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].reasons(), ["olm"]);
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
}

/// Carol, of whom no key is to be had while this is said.
async fn said_without_carol(texts: &[&str]) -> (World, GroupId) {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let key = world.fallback(CAROL);
    world.without_keys(CAROL);
    for text in texts {
        world.send(ALICE, group, text).await;
    }
    world.give_only(CAROL, key);
    (world, group)
}

#[tokio::test]
async fn who_could_not_be_reached_asks_for_what_was_said_meanwhile_and_is_given_it() {
    let (mut world, group) = said_without_carol(&["one", "two"]).await;
    world.sync_all().await;
    assert_eq!(world.devices[CAROL].texts(), ["one", "two"]);
    // She has it: nothing is owed to her any more, and what follows opens.
    world.send(ALICE, group, "three").await;
    world.sync_all().await;
    assert_eq!(world.devices[CAROL].texts(), ["one", "two", "three"]);
    assert_eq!(world.count(ALICE, OWED).await, 0);
}

#[tokio::test]
async fn who_is_reached_again_is_given_first_what_she_was_left_out_of() {
    let (mut world, group) = said_without_carol(&["one", "two"]).await;
    world.now += 11 * 60_000;
    world.send(ALICE, group, "three").await;
    assert_eq!(world.count(ALICE, OWED).await, 0);
    world.sync_all().await;
    assert_eq!(world.devices[CAROL].texts(), ["one", "two", "three"]);
    assert_eq!(requests(&world), 0, "nothing had to be asked for");
}

#[tokio::test]
async fn who_is_out_by_then_is_given_nothing_that_was_kept_for_her() {
    let (mut world, group) = said_without_carol(&["one"]).await;
    world.remove(ALICE, group, CAROL).await;
    world.now += 11 * 60_000;
    world.send(ALICE, group, "two").await;
    world.sync_all().await;
    assert!(world.devices[CAROL].texts().is_empty());
}

#[tokio::test]
async fn what_is_kept_for_who_is_not_reached_is_let_go_of_after_a_week() {
    let (mut world, _) = said_without_carol(&["one"]).await;
    let kept = "SELECT COUNT(*) FROM given WHERE owed = TRUE AND sealed IS NOT NULL";
    assert_eq!(world.count(ALICE, kept).await, 1);
    world.now += 8 * 24 * 3_600_000;
    let (device, now) = (&world.devices[ALICE], world.time());
    let mut tx = device.db.begin().await.unwrap();
    device.machine.expire(&mut tx, now).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.count(ALICE, kept).await, 0);
}

#[tokio::test]
async fn a_one_time_key_that_is_another_devices_makes_no_session_and_holds_up_nobody() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.with_keys_of(BOB, CAROL);
    world.send(ALICE, group, "one").await;
    let sessions = "SELECT COUNT(DISTINCT peer) FROM olm_sessions";
    assert_eq!(world.count(ALICE, sessions).await, 1);
    world.sync(CAROL).await;
    assert_eq!(world.devices[CAROL].texts(), ["one"]);
}

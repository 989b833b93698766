//! Being added is an offer: a stranger's group gets nothing, and nothing of it is opened.

use causeway_groups::machine::{AddedBy, NewGroup, Received, SealError, Trust, What};
use causeway_protocol::{
    envelope::{Envelope, Kind},
    ids::{GroupId, Timestamp},
    invite::Link,
    roster::Role,
};

use super::{ALICE, BOB, CAROL, pairwise::pairwise};
use crate::world::{World, text};

/// Registered people who have met nobody, and whom only those may add whom they know.
async fn strangers(names: &[&str]) -> World {
    let mut world = World::with(names).await;
    for who in 0..names.len() {
        added_by(&mut world, who, AddedBy::Known);
    }
    world
}

fn added_by(world: &mut World, who: usize, added_by: AddedBy) {
    world.devices[who].machine = world.devices[who].machine.added_by_these(added_by);
}

async fn restart(world: &mut World, who: usize) {
    world.devices[who].restart().await;
    added_by(world, who, AddedBy::Known);
}

fn offers(world: &World, who: usize, group: GroupId) -> usize {
    let of_group = world.devices[who].received.iter().filter(|r| r.group == group);
    of_group.filter(|r| matches!(r.what, What::Offered(_))).count()
}

/// What a person is shown of a group: nothing of keys, holds and duplicates.
fn lines(world: &World, who: usize, group: GroupId) -> usize {
    let of_group = world.devices[who].received.iter().filter(|r| r.group == group);
    let is_shown =
        |r: &&Received| !matches!(r.what, What::Keys | What::Duplicate | What::Held { .. });
    of_group.filter(is_shown).count()
}

async fn is_offered(world: &World, who: usize, group: GroupId) -> bool {
    let device = &world.devices[who];
    let mut tx = device.db.begin().await.unwrap();
    device.machine.offer(&mut tx, group).await.unwrap().is_some()
}

async fn take(world: &mut World, who: usize, group: GroupId) {
    let now = world.time();
    let device = &mut world.devices[who];
    let mut tx = device.db.begin().await.unwrap();
    let received = device.machine.take_offer(&mut tx, now, group).await.unwrap();
    tx.commit().await.unwrap();
    device.received.extend(received);
}

async fn leave(world: &mut World, who: usize, group: GroupId) {
    let now = world.time();
    let device = &world.devices[who];
    let mut tx = device.db.begin().await.unwrap();
    let op = device.machine.leave(&mut tx, now, group).await.unwrap();
    drop(tx);
    world.post_op(who, op).await;
}

/// Rows of every mailbox that this device has sent.
fn sent_by(world: &World, who: usize, group: GroupId) -> usize {
    let id = world.devices[who].id();
    let is_his = |row: &&causeway_protocol::api::StreamRow| {
        row.envelope.group == group && row.envelope.sender.as_ref().is_some_and(|s| s.device == id)
    };
    world.mailboxes.values().flatten().filter(is_his).count()
}

#[tokio::test]
async fn a_strangers_group_gets_nothing_and_waits_unopened_until_it_is_taken() {
    let mut world = strangers(&["alice", "bob"]).await;
    let group = world.create_group(BOB).await;
    world.add(BOB, group, ALICE, Role::Admin).await;
    for said in ["one", "two"] {
        world.send(BOB, group, said).await;
        world.sync_all().await;
    }
    restart(&mut world, ALICE).await;
    world.send(BOB, group, "three").await;
    world.now += 3_600_000;
    world.sync_all().await;
    assert_eq!((offers(&world, ALICE, group), lines(&world, ALICE, group)), (1, 1), "one line");
    assert!(world.devices[ALICE].texts().is_empty());
    assert_eq!(sent_by(&world, ALICE, group), 0);
    assert!(world.waiting(ALICE).is_empty(), "the mailbox goes on");
    let item = world.outgoing(text("hello?"));
    let refused = world.seal(ALICE, group, std::slice::from_ref(&item)).await;
    assert!(matches!(refused, Err(SealError::Offered)), "{refused:?}");
    take(&mut world, ALICE, group).await;
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["one", "two", "three"]);
    world.send(ALICE, group, "here I am").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["here I am"]);
    take(&mut world, ALICE, group).await;
    assert_eq!(world.count(ALICE, "SELECT COUNT(*) FROM offered_rows").await, 0);
}

#[tokio::test]
async fn junk_of_a_group_that_nobody_took_is_not_shown_nor_before_its_ops_are_here() {
    let mut world = strangers(&["alice", "bob"]).await;
    let group = world.create_group(BOB).await;
    world.add(BOB, group, ALICE, Role::Member).await;
    world.send(BOB, group, "one").await;
    let rows = world.waiting(ALICE);
    let good = rows.into_iter().find(|row| row.envelope.kind == Kind::Message).unwrap().envelope;
    let junk = |n: u8| {
        let mut junk = Envelope { payload: vec![0x77, n], ..good.clone() };
        junk.id = junk.compute_id();
        junk
    };
    let alice = world.devices[ALICE].id();
    for n in 0..40 {
        world.put(alice, junk(n));
    }
    world.sync_all().await;
    for n in 40..80 {
        world.put(alice, junk(n));
    }
    world.sync_all().await;
    assert_eq!((offers(&world, ALICE, group), lines(&world, ALICE, group)), (1, 1), "one line");
    take(&mut world, ALICE, group).await;
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["one"]);
    // From then on it is shown.
    world.put(alice, junk(80));
    world.sync_all().await;
    assert!(world.devices[ALICE].reasons().contains(&"malformed"));
}

#[tokio::test]
async fn who_shares_a_group_that_was_taken_or_was_verified_needs_no_word() {
    let mut world = strangers(&["alice", "bob", "carol"]).await;
    let offered = world.create_group(BOB).await;
    world.add(BOB, offered, ALICE, Role::Member).await;
    world.sync_all().await;
    // A group that was only offered makes nobody known.
    let second = world.create_group(BOB).await;
    world.add(BOB, second, ALICE, Role::Member).await;
    world.sync_all().await;
    assert!(is_offered(&world, ALICE, second).await);
    take(&mut world, ALICE, offered).await;
    let third = world.create_group(BOB).await;
    world.add(BOB, third, ALICE, Role::Member).await;
    world.sync_all().await;
    assert!(!is_offered(&world, ALICE, third).await);
    assert!(is_offered(&world, ALICE, second).await, "what was offered stays so");
    // Carol shares no group with Alice, who has compared numbers with her.
    let (carol, now) = (world.devices[CAROL].account(), world.time());
    world.learn(ALICE, &carol).await;
    let device = &world.devices[ALICE];
    let mut tx = device.db.begin().await.unwrap();
    let is = world.devices[CAROL].machine.me().record.member_id;
    device.machine.decide(&mut tx, now, &carol, is, true).await.unwrap();
    tx.commit().await.unwrap();
    let hers = world.create_group(CAROL).await;
    world.add(CAROL, hers, ALICE, Role::Member).await;
    world.send(CAROL, hers, "hi").await;
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["hi"]);
}

#[tokio::test]
async fn whom_nobody_may_add_comes_in_by_asking() {
    let mut world = strangers(&["alice", "bob"]).await;
    let shared = world.create_group(ALICE).await;
    world.add(ALICE, shared, BOB, Role::Member).await;
    world.sync_all().await;
    take(&mut world, BOB, shared).await;
    added_by(&mut world, ALICE, AddedBy::Nobody);
    let group = world.create_group(BOB).await;
    world.add(BOB, group, ALICE, Role::Member).await;
    world.sync_all().await;
    assert!(is_offered(&world, ALICE, group).await);
    let group = world.create_group(BOB).await;
    let now = world.time();
    let device = &world.devices[BOB];
    let mut tx = device.db.begin().await.unwrap();
    let until = Timestamp(now.0 + 3_600_000);
    let invite = device.machine.create_invite(&mut tx, now, group, "a.example", until, 1).await;
    tx.commit().await.unwrap();
    let link: Link = invite.unwrap().0;
    let records = world.account_devices(&world.devices[BOB].account()).unwrap().devices.clone();
    let device = &world.devices[ALICE];
    let mut tx = device.db.begin().await.unwrap();
    let request = device.machine.join_request(&mut tx, now, &link, &records).await.unwrap();
    tx.commit().await.unwrap();
    world.ask_to_join(group, &request.request);
    world.sync_all().await;
    world.send(BOB, group, "welcome").await;
    world.sync_all().await;
    assert!(!is_offered(&world, ALICE, group).await);
    assert_eq!(world.devices[ALICE].texts(), ["welcome"]);
}

#[tokio::test]
async fn who_goes_drops_what_waited_and_is_offered_it_anew() {
    let mut world = strangers(&["alice", "bob"]).await;
    let group = world.create_group(BOB).await;
    world.add(BOB, group, ALICE, Role::Member).await;
    world.send(BOB, group, "one").await;
    world.sync_all().await;
    assert!(world.count(ALICE, "SELECT COUNT(*) FROM offered_rows").await > 0);
    leave(&mut world, ALICE, group).await;
    world.sync_all().await;
    assert_eq!(world.count(ALICE, "SELECT COUNT(*) FROM offered_rows").await, 0);
    world.add(BOB, group, ALICE, Role::Member).await;
    world.sync_all().await;
    assert!(is_offered(&world, ALICE, group).await);
    assert_eq!(offers(&world, ALICE, group), 2);
    // Whoever was put out of a group that he took part in may be taken back.
    take(&mut world, ALICE, group).await;
    world.remove(BOB, group, ALICE).await;
    world.sync_all().await;
    world.add(BOB, group, ALICE, Role::Member).await;
    world.send(BOB, group, "back").await;
    world.sync_all().await;
    assert!(!is_offered(&world, ALICE, group).await);
    assert_eq!(world.devices[ALICE].texts(), ["back"]);
    // And whoever goes by himself is asked again.
    leave(&mut world, ALICE, group).await;
    world.sync_all().await;
    world.add(BOB, group, ALICE, Role::Member).await;
    world.sync_all().await;
    assert!(is_offered(&world, ALICE, group).await);
}

#[tokio::test]
async fn junk_in_an_offered_group_is_bounded_and_stops_nothing() {
    let mut world = strangers(&["alice", "bob", "carol"]).await;
    let garden = world.create_group(ALICE).await;
    world.add(ALICE, garden, CAROL, Role::Member).await;
    world.sync_all().await;
    take(&mut world, CAROL, garden).await;
    let trap = world.create_group(BOB).await;
    world.add(BOB, trap, ALICE, Role::Member).await;
    for n in 0..300 {
        world.send(BOB, trap, &n.to_string()).await;
    }
    world.send(CAROL, garden, "through").await;
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["through"]);
    assert!(world.waiting(ALICE).is_empty());
    assert_eq!(world.count(ALICE, "SELECT COUNT(*) FROM offered_rows").await, 256);
    assert_eq!(world.count(ALICE, "SELECT COUNT(*) FROM holds").await, 0);
    assert_eq!(lines(&world, ALICE, trap), 1);
    world.now += 2 * 86_400_000;
    let now = world.time();
    let device = &world.devices[ALICE];
    let mut tx = device.db.begin().await.unwrap();
    device.machine.expire(&mut tx, now).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.count(ALICE, "SELECT COUNT(*) FROM offered_rows").await, 0);
}

/// Two who may add: what a stranger offers is taken when somebody known brings it.
#[tokio::test]
async fn a_group_is_as_known_as_who_adds_to_it() {
    let mut world = strangers(&["alice", "bob", "carol"]).await;
    let garden = world.create_group(CAROL).await;
    world.add(CAROL, garden, ALICE, Role::Member).await;
    world.sync_all().await;
    take(&mut world, ALICE, garden).await;
    let group = world.create_group(BOB).await;
    world.add(BOB, group, CAROL, Role::Admin).await;
    world.sync_all().await;
    take(&mut world, CAROL, group).await;
    world.add(BOB, group, ALICE, Role::Member).await;
    world.sync_all().await;
    let shown = world.devices[ALICE].received.iter().find_map(|r| match &r.what {
        What::Offered(shown) if r.group == group => Some(shown.clone()),
        _ => None,
    });
    let shown = shown.unwrap();
    assert_eq!((shown.by, shown.members), (Some(world.devices[BOB].account()), 3));
    assert!(matches!(shown.trust, Trust::Unmet), "{:?}", shown.trust);
    world.remove(BOB, group, ALICE).await;
    world.sync_all().await;
    world.add(CAROL, group, ALICE, Role::Member).await;
    world.sync_all().await;
    assert!(!is_offered(&world, ALICE, group).await);
}

/// What is said in a pairwise group that was offered, while more passes in the same session than it keeps
/// keys for, and nobody has the keys any more when it is taken.
#[tokio::test]
async fn pieces_that_wait_in_an_offered_group_open_however_late_it_is_taken() {
    let mut world = strangers(&["alice", "bob", "carol"]).await;
    let garden = world.create_group_as(ALICE, pairwise()).await;
    world.add(ALICE, garden, CAROL, Role::Member).await;
    world.sync_all().await;
    take(&mut world, CAROL, garden).await;
    world.sync_all().await;
    let new = NewGroup { ttl_s: 7 * 86_400, ..pairwise() };
    let offered = world.create_group_as(BOB, new).await;
    for who in [CAROL, ALICE] {
        world.add(BOB, offered, who, Role::Member).await;
    }
    world.sync_all().await;
    take(&mut world, CAROL, offered).await;
    assert!(is_offered(&world, ALICE, offered).await);
    // Carol is known by the garden; of what she says beside it nothing is opened.
    let said: Vec<_> = (0..60).map(|n| format!("{n}")).collect();
    for text in &said {
        world.send(CAROL, offered, text).await;
    }
    world.sync_all().await;
    let opened = "SELECT COUNT(*) FROM offered_rows WHERE is_opened = TRUE";
    assert_eq!(world.count(ALICE, opened).await, 0);
    for text in ["here", "and there"] {
        world.send(CAROL, garden, text).await;
        world.sync_all().await;
        restart(&mut world, ALICE).await;
    }
    assert_eq!(world.devices[ALICE].texts(), ["here", "and there"]);
    assert_eq!(world.count(ALICE, opened).await, 60);
    assert_eq!(sent_by(&world, ALICE, offered), 0);
    world.now += 2 * 86_400_000;
    let now = world.time();
    for device in &world.devices {
        let mut tx = device.db.begin().await.unwrap();
        device.machine.expire(&mut tx, now).await.unwrap();
        tx.commit().await.unwrap();
    }
    world.devices[ALICE].received.clear();
    take(&mut world, ALICE, offered).await;
    assert_eq!(world.devices[ALICE].texts(), said);
    assert!(world.devices[ALICE].reasons().is_empty());
}

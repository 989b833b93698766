//! What is parked is asked for when it may be of use, and not as often as somebody likes.

use causeway_protocol::{
    api::StreamRow,
    envelope::Kind,
    ids::{GroupId, Seq},
    roster::Policy,
};

use super::{ALICE, BOB, garden};
use crate::world::World;

/// More than are held of one sender.
const MANY: usize = 300;
const PARKED: usize = MANY - 256;

/// Bob has got what Alice said without the keys, which are returned.
async fn without_keys() -> (World, GroupId, Vec<StreamRow>) {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    for n in 0..MANY {
        world.send(ALICE, group, &n.to_string()).await;
    }
    let is_message = |row: &StreamRow| row.envelope.kind == Kind::Message;
    let (messages, mut keys): (Vec<_>, Vec<_>) =
        world.waiting(BOB).into_iter().partition(is_message);
    world.receive(BOB, &messages).await;
    assert_eq!(world.devices[BOB].parked.len(), PARKED);
    for (seq, row) in (100_000..).zip(&mut keys) {
        row.seq = Seq(seq);
    }
    (world, group, keys)
}

async fn rename(world: &mut World, group: GroupId, name: &str) {
    let head = world.head(group).policy().clone();
    let policy = Policy { description: name.to_owned(), ..head };
    let (device, now) = (&world.devices[ALICE], world.time());
    let mut tx = device.db.begin().await.unwrap();
    let op = device.machine.set_policy(&mut tx, now, group, policy).await.unwrap();
    drop(tx);
    world.post_op(ALICE, op).await;
}

/// Found by an attack: with each op a client fetched all that was parked, and was busy with that.
#[tokio::test]
async fn ops_that_change_nothing_about_it_make_it_be_asked_for_ever_more_rarely() {
    let (mut world, group, keys) = without_keys().await;
    for n in 0..60 {
        rename(&mut world, group, &n.to_string()).await;
        world.sync(BOB).await;
        world.now += 100;
    }
    // At once, and then after 1 and 3 seconds.
    let asked = world.devices[BOB].asked;
    assert!((PARKED..=4 * PARKED).contains(&asked), "{asked} rows");
    // It is asked for all the same while this goes on: never more than half a minute later.
    world.now += 30_000;
    world.sync(BOB).await;
    assert!(world.devices[BOB].asked > asked);
    // What it waits for may come then: soon it is heard, and in order.
    world.receive(BOB, &keys).await;
    world.now += 5_000;
    world.sync(BOB).await;
    let texts: Vec<_> = (0..MANY).map(|n| n.to_string()).collect();
    assert_eq!(world.devices[BOB].texts(), texts);
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM parked").await, 0);
}

/// A key that comes is a reason to ask at once, where that was not in vain just now.
#[tokio::test]
async fn a_key_is_no_way_to_have_it_asked_for_without_end_either() {
    let (mut world, _, keys) = without_keys().await;
    world.now += 1_000_000;
    world.sync(BOB).await;
    let before = world.devices[BOB].asked;
    // The first key of several opens little.
    world.receive(BOB, &keys).await;
    world.sync(BOB).await;
    assert_eq!(world.devices[BOB].asked - before, PARKED);
    assert_eq!(world.devices[BOB].texts().len(), MANY);
}

//! A key for very many devices goes out a page at a time.

use std::collections::BTreeSet;

use causeway_protocol::{envelope::Kind, roster::Role};

use super::{ALICE, garden};
use crate::world::text;

#[tokio::test]
async fn a_key_is_given_to_a_crowd_in_pages() {
    const CROWD: usize = 90;
    let (mut world, group) = garden(&["alice", "bob"]).await;
    for n in 0..CROWD {
        let who = world.register(&format!("m{n}")).await;
        world.add(ALICE, group, who, Role::Member).await;
    }
    world.prepare(ALICE, group).await;
    let item = world.outgoing(text("hello"));
    let batch = world.seal(ALICE, group, &[item]).await.unwrap();
    let to: BTreeSet<_> = batch
        .submissions
        .iter()
        .filter(|s| s.kind == Kind::KeyDistribution)
        .flat_map(|s| s.rows())
        .map(|row| format!("{:?}", row.to))
        .collect();
    assert_eq!(to.len(), 64, "with the first message to so many, the others with the chores");
    world.post(ALICE, &batch).await.unwrap();
    world.sync(ALICE).await;
    for who in 1..world.devices.len() {
        let rows = world.waiting(who);
        world.receive(who, &rows).await;
        assert_eq!(world.devices[who].texts(), ["hello"], "{who}");
    }
}

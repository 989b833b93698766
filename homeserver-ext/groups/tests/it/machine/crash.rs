//! Killed between any two steps, put back from a copy: never two texts under one index.

use std::{collections::BTreeMap, fs};

use causeway_protocol::{envelope::Kind, sender_key::Message};

use super::{ALICE, BOB, garden};
use crate::world::{World, text};

/// A chain's tag, and an index of it.
type Index = ([u8; 4], u32);

/// The index of every message of a batch, with its bytes.
fn used(batch: &causeway_groups::machine::Batch) -> Vec<(Index, Vec<u8>)> {
    batch
        .submissions
        .iter()
        .filter(|s| s.kind == Kind::Message)
        .map(|s| {
            let header = Message::parse(&s.payload).unwrap().header;
            ((header.tag, header.index), s.payload.clone())
        })
        .collect()
}

#[tokio::test]
async fn a_crash_at_any_point_never_seals_two_texts_under_one_index() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let mut indices: BTreeMap<Index, Vec<u8>> = BTreeMap::new();
    for round in 0..12 {
        let item = world.outgoing(text(&round.to_string()));
        world.prepare(ALICE, group).await;
        let now = world.time();
        let device = &world.devices[ALICE];
        let mut tx = device.db.begin().await.unwrap();
        let batch = device.machine.seal(&mut tx, now, group, &[item]).await.unwrap();
        match round % 3 {
            // Killed before the commit: nothing of it was released.
            0 => drop(tx),
            // Killed after the commit: the stored bytes are all that may ever go out.
            1 => tx.commit().await.unwrap(),
            _ => {
                tx.commit().await.unwrap();
                world.post(ALICE, &batch).await.unwrap();
            }
        }
        world.devices[ALICE].restart().await;
        if round % 3 != 0 {
            for (index, bytes) in used(&batch) {
                assert!(indices.insert(index, bytes).is_none(), "index used twice");
            }
        }
    }
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["2", "5", "8", "11"]);
}

#[tokio::test]
async fn a_receive_that_was_not_committed_happens_again() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    let rows = world.waiting(BOB);
    let now = world.time();
    let device = &mut world.devices[BOB];
    for _ in 0..3 {
        let mut tx = device.db.begin().await.unwrap();
        let receipts = device.machine.receive(&mut tx, now, &rows).await.unwrap();
        assert_eq!(receipts.through, rows.last().map(|row| row.seq));
        drop(tx);
    }
    world.receive(BOB, &rows).await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
}

fn copy(world: &World, who: usize) -> BTreeMap<String, Vec<u8>> {
    let dir = world.devices[who].dir.path();
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

#[tokio::test]
async fn a_database_that_was_put_back_begins_a_new_chain() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let before = world.send(ALICE, group, "one").await;
    world.devices[ALICE].db.close().await;
    let backup = copy(&world, ALICE);
    world.devices[ALICE].restart().await;
    let lost = world.send(ALICE, group, "two").await;
    assert_eq!(used(&lost)[0].0.0, used(&before)[0].0.0);
    world.devices[ALICE].db.close().await;
    for (name, bytes) in backup.iter().filter(|(name, _)| name.starts_with("client.db")) {
        if !name.ends_with(".generation") {
            fs::write(world.devices[ALICE].dir.path().join(name), bytes).unwrap();
        }
    }
    for extra in ["client.db-wal", "client.db-shm"] {
        if !backup.contains_key(extra) {
            let _ = fs::remove_file(world.devices[ALICE].dir.path().join(extra));
        }
    }
    world.devices[ALICE].restart().await;
    let after = world.send(ALICE, group, "three").await;
    assert_ne!(used(&after)[0].0.0, used(&before)[0].0.0);
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two", "three"]);
}

#[tokio::test]
async fn a_database_without_its_generation_file_is_a_copy() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let before = world.send(ALICE, group, "one").await;
    fs::remove_file(world.devices[ALICE].dir.path().join("client.db.generation")).unwrap();
    world.devices[ALICE].restart().await;
    let after = world.send(ALICE, group, "two").await;
    assert_ne!(used(&after)[0].0.0, used(&before)[0].0.0);
    world.devices[ALICE].restart().await;
    let same = world.send(ALICE, group, "three").await;
    assert_eq!(used(&after)[0].0.0, used(&same)[0].0.0);
}

#[tokio::test]
async fn nothing_secret_stands_in_the_file() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "a canary in the garden").await;
    let rows = world.waiting(BOB);
    world.receive(BOB, &rows[1..]).await;
    for who in [ALICE, BOB] {
        let device = &world.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        let key = device.machine.recovery_key(&mut tx).await.unwrap().unwrap().to_text();
        drop(tx);
        let key = causeway_protocol::ids::bytes_of(&key).unwrap();
        for (name, bytes) in copy(&world, who) {
            for secret in [b"a canary in the garden".as_slice(), &key] {
                assert!(!bytes.windows(secret.len()).any(|at| at == secret), "{name}");
            }
        }
    }
}

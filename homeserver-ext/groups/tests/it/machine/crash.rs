//! Killed between any two steps, put back from a copy: never two texts under one index.

use std::{collections::BTreeMap, fs};

use causeway_groups::sdk::AccessToken;
use causeway_protocol::{
    content::Content,
    envelope::Kind,
    ids::{DeviceId, GroupId},
    olm_plaintext::{OlmPlaintext, Route},
    sender_key::Message,
};
use proptest::prelude::*;

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

/// What happens to Alice's device.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// So many messages are sealed, and it dies at this point.
    Seal(usize, Point),
    /// Everything of it is copied, but the count beside the database.
    Backup,
    /// The copy is put back.
    Restore,
}

/// How far a seal comes before the process dies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Point {
    /// Nothing was committed: nothing of it was released.
    BeforeCommit,
    /// The bytes are stored, and may be sent for ever.
    BeforePost,
    /// The server has them, and this device does not know.
    BeforeAccepted,
    /// All is done.
    Done,
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    use Point::{BeforeAccepted, BeforeCommit, BeforePost, Done};
    let point = prop::sample::select(vec![BeforeCommit, BeforePost, BeforeAccepted, Done]);
    prop_oneof![
        6 => (1_usize..4, point).prop_map(|(count, point)| Event::Seal(count, point)),
        1 => Just(Event::Backup),
        1 => Just(Event::Restore),
    ]
}

pub(super) fn run<F: Future<Output = Result<(), TestCaseError>>>(
    test: F,
) -> Result<(), TestCaseError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.unwrap().block_on(test)
}

pub(super) async fn put_back(world: &mut World, who: usize, backup: &BTreeMap<String, Vec<u8>>) {
    world.devices[who].db.close().await;
    let dir = world.devices[who].dir.path();
    for name in ["client.db", "client.db-wal", "client.db-shm"] {
        match backup.get(name) {
            Some(bytes) => fs::write(dir.join(name), bytes).unwrap(),
            None => {
                let _ = fs::remove_file(dir.join(name));
            }
        }
    }
    world.devices[who].restart().await;
}

pub(super) async fn back_up(world: &mut World, who: usize) -> BTreeMap<String, Vec<u8>> {
    world.devices[who].db.close().await;
    let backup = copy(world, who);
    world.devices[who].restart().await;
    backup
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_crash_at_any_persistence_point_never_seals_two_texts_under_one_index(
        events in prop::collection::vec(event(), 4..24),
    ) {
        run(async {
            let (mut world, group) = garden(&["alice", "bob"]).await;
            let mut indices: BTreeMap<Index, Vec<u8>> = BTreeMap::new();
            let mut backup = back_up(&mut world, ALICE).await;
            let mut posted = 0;
            for event in events {
                let (count, point) = match event {
                    Event::Seal(count, point) => (count, point),
                    Event::Backup => {
                        backup = back_up(&mut world, ALICE).await;
                        continue;
                    }
                    Event::Restore => {
                        put_back(&mut world, ALICE, &backup).await;
                        continue;
                    }
                };
                let items: Vec<_> = (0..count).map(|_| world.outgoing(text("x"))).collect();
                world.prepare(ALICE, group).await;
                let now = world.time();
                let device = &world.devices[ALICE];
                let mut tx = device.db.begin().await.unwrap();
                let batch = device.machine.seal(&mut tx, now, group, &items).await.unwrap();
                if let Point::BeforeCommit = point {
                    drop(tx);
                } else {
                    tx.commit().await.unwrap();
                    for (index, bytes) in used(&batch) {
                        let before = indices.insert(index, bytes);
                        prop_assert!(before.is_none(), "{index:?} used twice");
                    }
                }
                match point {
                    Point::BeforeCommit | Point::BeforePost => {}
                    Point::BeforeAccepted => {
                        world.take_batch(&batch).unwrap();
                        posted += count;
                    }
                    Point::Done => {
                        world.post(ALICE, &batch).await.unwrap();
                        posted += count;
                    }
                }
                if !matches!(point, Point::Done) {
                    world.devices[ALICE].restart().await;
                }
            }
            world.sync_all().await;
            prop_assert!(world.devices[BOB].texts().len() <= posted);
            Ok(())
        })?;
    }
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
    let backup = back_up(&mut world, ALICE).await;
    let lost = world.send(ALICE, group, "two").await;
    assert_eq!(used(&lost)[0].0.0, used(&before)[0].0.0);
    put_back(&mut world, ALICE, &backup).await;
    let after = world.send(ALICE, group, "three").await;
    assert_ne!(used(&after)[0].0.0, used(&before)[0].0.0);
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two", "three"]);
}

#[tokio::test]
async fn a_kill_between_a_commit_and_its_count_costs_nothing() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    let file = world.devices[ALICE].dir.path().join("client.db.generation");
    let behind = fs::read(&file).unwrap();
    let two = world.send(ALICE, group, "two").await;
    assert_ne!(fs::read(&file).unwrap(), behind);
    fs::write(&file, behind).unwrap();
    world.devices[ALICE].restart().await;
    let three = world.send(ALICE, group, "three").await;
    assert_eq!(used(&three)[0].0.0, used(&two)[0].0.0);
    let retired = "SELECT COUNT(*) FROM olm_sessions WHERE retired = 1";
    assert_eq!(world.count(ALICE, retired).await, 0);
}

const SESSIONS: &str = "SELECT COUNT(*) FROM olm_sessions";

#[tokio::test]
async fn a_session_that_was_put_back_seals_nothing_more_and_still_opens() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    let backup = back_up(&mut world, ALICE).await;
    assert_eq!(world.count(BOB, SESSIONS).await, 1);
    // What Alice seals now in her session with Bob her copy does not know.
    fs::remove_file(world.devices[ALICE].dir.path().join("client.db.generation")).unwrap();
    world.send(ALICE, group, "two").await;
    put_back(&mut world, ALICE, &backup).await;
    // Comes to Alice in the old session.
    world.send(BOB, group, "three").await;
    world.send(ALICE, group, "four").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two", "four"]);
    assert_eq!(world.devices[ALICE].texts(), ["three"]);
    assert_eq!(world.count(BOB, SESSIONS).await, 2);
}

#[tokio::test]
async fn keys_that_a_put_back_device_has_lost_are_given_to_nobody() {
    let (mut world, group) = garden(&["alice", "bob", "carol", "dave"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    let backup = back_up(&mut world, BOB).await;
    // Keys that the copy does not have.
    let mut tx = world.devices[BOB].db.begin().await.unwrap();
    sqlx::query("UPDATE own SET keys_left = 0").execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    world.sync_all().await;
    let mut known = world.key_ids(BOB);
    assert!(known.len() > 51, "{}", known.len());
    // Twice from one copy: the second time no number of the first comes again.
    for (who, text) in [(2, "two"), (3, "three")] {
        put_back(&mut world, BOB, &backup).await;
        world.sync_all().await;
        let now = world.key_ids(BOB);
        assert!(now.len() == 51 && now.is_disjoint(&known), "{text}");
        known.extend(now);
        // In a session that begins with one of these.
        world.send(who, group, text).await;
        world.sync_all().await;
        assert_eq!(world.devices[BOB].texts().last().unwrap(), text);
    }
}

#[tokio::test]
async fn whatever_a_server_says_that_it_knows_the_count_goes_on() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    for text in ["one", "two"] {
        let alice = &world.devices[ALICE];
        let mut tx = alice.db.begin().await.unwrap();
        alice.machine.catch_up(&mut tx, u64::MAX).await.unwrap();
        tx.commit().await.unwrap();
        world.sync_all().await;
        world.send(ALICE, group, text).await;
        world.sync_all().await;
    }
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
    world.devices[ALICE].restart().await;
    world.send(ALICE, group, "three").await;
}

#[tokio::test]
async fn one_who_only_acknowledged_since_the_copy_notices_it() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    let backup = back_up(&mut world, BOB).await;
    fs::remove_file(world.devices[ALICE].dir.path().join("client.db.generation")).unwrap();
    world.devices[ALICE].restart().await;
    world.send(ALICE, group, "two").await;
    world.sync_all().await;
    let retired = "SELECT COUNT(*) FROM olm_sessions WHERE retired = 1";
    assert_eq!(world.count(BOB, retired).await, 0);
    put_back(&mut world, BOB, &backup).await;
    assert_eq!(world.count(BOB, retired).await, world.count(BOB, SESSIONS).await);
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

#[test]
fn no_debug_form_says_what_is_secret() {
    let Content::Text(words) = text("canary") else { unreachable!() };
    let link = "causeway://join/canary".to_owned();
    let route = Route {
        group: GroupId::new([1; 32]),
        from: DeviceId::new([2; 32]),
        to: DeviceId::new([3; 32]),
    };
    for form in [
        format!("{words:?}"),
        format!("{:?}", text("canary")),
        format!("{:?}", Content::Unknown(99, b"canary".to_vec())),
        format!("{:?}", OlmPlaintext::Invite(route, link)),
        format!("{:?}", AccessToken::new("canary".to_owned())),
    ] {
        let bytes = format!("{:?}", b"canary");
        assert!(
            !form.contains("canary") && !form.contains(bytes.trim_matches(['[', ']'])),
            "{form}"
        );
    }
}

//! Groups of both legacy suites: what a server may do to what nobody signs, and what a crash costs.

use std::collections::BTreeSet;

use causeway_groups::{
    Vault,
    machine::Batch,
    schemes::legacy::{OwnKey, Suite, opus_v1::Distribution},
    vault::Class,
};
use causeway_protocol::{
    api::StreamRow,
    envelope::{Envelope, Kind, Sender},
    ids::{GroupId, Seq},
    roster::Role,
};
use proptest::prelude::*;
use serde_json::Value;

use super::{
    ALICE, BOB, CAROL,
    crash::{Event, Point, back_up, event, put_back, run},
};
use crate::world::{World, text};

const SUITES: [Suite; 2] = [Suite::OpusV1, Suite::RenA];

/// Alice's legacy group with everybody in it.
async fn garden(suite: Suite, names: &[&str]) -> (World, GroupId) {
    let mut world = World::with(names).await;
    let group = world.create_legacy_group(ALICE, suite).await;
    for who in 1..names.len() {
        world.add(ALICE, group, who, Role::Member).await;
    }
    world.sync_all().await;
    (world, group)
}

/// What a device holds of others.
async fn held(world: &World, who: usize) -> Vec<Vec<u8>> {
    let mut tx = world.devices[who].db.begin().await.unwrap();
    sqlx::query_scalar("SELECT sealed FROM legacy_held ORDER BY sender")
        .fetch_all(tx.conn())
        .await
        .unwrap()
}

/// The key that signs what Alice's device says now.
async fn signer(world: &World, suite: Suite, group: GroupId) -> [u8; 32] {
    let device = &world.devices[ALICE];
    let vault = Vault::open(&device.db, &device.dir.path().join("storage.key")).await.unwrap();
    let mut tx = device.db.begin().await.unwrap();
    let sealed: Vec<u8> =
        sqlx::query_scalar("SELECT sealed FROM legacy_own").fetch_one(tx.conn()).await.unwrap();
    let place = group.as_bytes();
    let bytes = vault.unseal(Class::Ratchet, "legacy_own", "sealed", place, &sealed).unwrap();
    Distribution::from(OwnKey::decode(suite, &bytes).unwrap().given()).signature_public
}

fn index(payload: &[u8]) -> u64 {
    let json: Value = serde_json::from_slice(payload).unwrap();
    let index = json.get("message_index").or_else(|| json.get("iteration"));
    index.and_then(Value::as_u64).unwrap()
}

fn messages(batch: &Batch) -> Vec<u64> {
    let messages = batch.submissions.iter().filter(|s| s.kind == Kind::Message);
    messages.map(|s| index(&s.payload)).collect()
}

/// The row as a server would give it that changes `change` in it.
fn forged(row: &StreamRow, seq: u64, change: impl FnOnce(&mut Envelope)) -> StreamRow {
    let mut envelope = row.envelope.clone();
    change(&mut envelope);
    envelope.id = envelope.compute_id();
    StreamRow { seq: Seq(seq), envelope }
}

/// With a field of the JSON changed.
fn with(envelope: &mut Envelope, fields: [&str; 2], to: &Value) {
    let mut json: Value = serde_json::from_slice(&envelope.payload).unwrap();
    let field = fields.into_iter().find(|field| json.get(field).is_some()).unwrap();
    json[field] = to.clone();
    envelope.payload = json.to_string().into_bytes();
}

#[tokio::test]
async fn a_server_makes_nobody_read_what_was_not_said() {
    for suite in SUITES {
        let (mut world, group) = garden(suite, &["alice", "bob", "carol"]).await;
        for who in [ALICE, CAROL] {
            world.send(who, group, "first").await;
        }
        world.sync_all().await;
        world.send(ALICE, group, "second").await;
        let rows = world.waiting(BOB);
        let row = rows.iter().find(|row| row.envelope.kind == Kind::Message).unwrap().clone();
        let carol = sender_of(&world, CAROL);
        let said = |field: [&str; 2]| {
            let json: Value = serde_json::from_slice(&row.envelope.payload).unwrap();
            field.iter().find_map(|field| json.get(field).cloned()).unwrap()
        };
        let carols = {
            world.send(CAROL, group, "hers").await;
            let rows = world.waiting(BOB);
            let hers = rows.into_iter().find(|row| {
                row.envelope.kind == Kind::Message && row.envelope.sender == Some(carol.clone())
            });
            let hers: Value = serde_json::from_slice(&hers.unwrap().envelope.payload).unwrap();
            ["sender_public_key", "sender_id"].iter().find_map(|f| hers.get(f).cloned()).unwrap()
        };
        let waiting = world.waiting(BOB);
        let before = (held(&world, BOB).await, world.devices[BOB].texts().len());
        let sender = ["sender_public_key", "sender_id"];
        let index = ["message_index", "iteration"];
        let at = said(index).as_u64().unwrap();
        let text = said(["ciphertext"; 2]).as_str().unwrap().to_owned();
        let cut = Value::from(&text[..text.len() - 4]);
        let tries: Vec<(&str, StreamRow)> = vec![
            // Alice's words as Carol's: under her name outside, inside, and both.
            ("context", forged(&row, 10_000, |e| e.sender = Some(carol.clone()))),
            ("context", forged(&row, 10_001, |e| with(e, sender, &carols))),
            (
                "signature",
                forged(&row, 10_002, |e| {
                    e.sender = Some(carol.clone());
                    with(e, sender, &carols);
                }),
            ),
            // The index is not signed.
            ("ciphertext", forged(&row, 10_003, |e| with(e, index, &(at + 1).into()))),
            ("ciphertext", forged(&row, 10_004, |e| with(e, index, &(at + 900).into()))),
            ("too_far_ahead", forged(&row, 10_005, |e| with(e, index, &(at + 1_001).into()))),
            ("too_far_ahead", forged(&row, 10_006, |e| with(e, index, &u32::MAX.into()))),
            ("malformed", forged(&row, 10_007, |e| with(e, index, &(-1).into()))),
            ("signature", forged(&row, 10_008, |e| with(e, ["ciphertext"; 2], &cut))),
            ("context", forged(&row, 10_009, |e| with(e, ["group_id"; 2], &other(suite)))),
            ("malformed", forged(&row, 10_010, |e| e.payload.truncate(90))),
            ("malformed", forged(&row, 10_011, |e| e.payload = b"{}".to_vec())),
        ];
        for (expected, row) in tries {
            let said = world.devices[BOB].reasons().len();
            world.receive(BOB, &[row]).await;
            let name = suite.name();
            assert_eq!(world.devices[BOB].reasons()[said..], [expected], "{name}");
        }
        assert_eq!((held(&world, BOB).await, world.devices[BOB].texts().len()), before);
        world.receive(BOB, &waiting).await;
        let read = world.devices[BOB].texts();
        assert_eq!(read[before.1..], ["second", "hers"]);
        // Again, in another place and under another name of the message.
        world.receive(BOB, &[forged(&row, 10_012, |_| ())]).await;
        world.receive(BOB, &[forged(&row, 10_013, |e| e.payload.push(b' '))]).await;
        assert_eq!(world.devices[BOB].texts(), read);
    }
}

fn other(suite: Suite) -> Value {
    match suite {
        Suite::OpusV1 => "00000000-0000-0000-0000-000000000000".into(),
        Suite::RenA => 7.into(),
    }
}

fn sender_of(world: &World, who: usize) -> Sender {
    let device = &world.devices[who];
    Sender { account: device.account(), device: device.id() }
}

#[tokio::test]
async fn words_of_one_suite_are_none_in_a_group_of_the_other() {
    let (mut world, group) = garden(Suite::RenA, &["alice", "bob"]).await;
    world.send(ALICE, group, "{\"body\": \"as it is\"}").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["{\"body\": \"as it is\"}"]);
    let opus = world.create_legacy_group(ALICE, Suite::OpusV1).await;
    world.add(ALICE, opus, BOB, Role::Member).await;
    world.sync_all().await;
    world.send(ALICE, opus, "in opus_v1").await;
    let rows = world.waiting(BOB);
    let row = rows.iter().find(|row| row.envelope.kind == Kind::Message).unwrap();
    let moved = forged(row, 10_000, |envelope| envelope.group = group);
    world.receive(BOB, &[moved]).await;
    assert_eq!(world.devices[BOB].reasons(), ["wrong_scheme"]);
    world.receive(BOB, &rows).await;
    assert_eq!(world.devices[BOB].texts()[1..], ["in opus_v1"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_crash_at_any_point_never_seals_two_texts_under_one_index(
        suite in prop::sample::select(SUITES.to_vec()),
        events in prop::collection::vec(event(), 4..20),
    ) {
        run(async {
            let (mut world, group) = garden(suite, &["alice", "bob"]).await;
            let mut used = BTreeSet::new();
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
                    let chain = signer(&world, suite, group).await;
                    for index in messages(&batch) {
                        prop_assert!(used.insert((chain, index)), "{index} used twice");
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

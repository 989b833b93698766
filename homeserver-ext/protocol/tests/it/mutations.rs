//! Bytes that are nearly right, at every parser: what is read is written again to the last bit, or
//! it was refused. Begun from every byte string of the vectors.

use std::{collections::BTreeSet, sync::LazyLock};

use proptest::{prelude::*, sample::Index};
use serde_json::Value;

use crate::{
    histories,
    parsers::taken_by,
    postings,
    vectors::{NATIVE, V2},
};

/// Longest sample; longer ones are of no other form.
const LONGEST: usize = 2_000;

static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut texts = BTreeSet::new();
    collect(&NATIVE, &mut texts);
    collect(&V2, &mut texts);
    let bytes = |text: &String| match hex::decode(text) {
        Ok(bytes) => bytes,
        Err(_) => text.clone().into_bytes(),
    };
    // No vector has one.
    let posting = postings::small().to_bytes().unwrap();
    let samples = texts.iter().map(bytes).filter(|bytes| bytes.len() <= LONGEST);
    samples.chain([posting]).collect()
});

/// Histories as fuzzing has them: each op behind its length.
static HISTORIES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut histories = Vec::new();
    runs(&NATIVE, &mut histories);
    histories
});

fn runs(value: &Value, into: &mut Vec<Vec<u8>>) {
    match value {
        Value::Array(items) => {
            let op = |item: &Value| hex::decode(item.as_str()?).ok();
            if let Some(ops) = items.iter().map(op).collect::<Option<Vec<_>>>() {
                let piece = |op: &Vec<u8>| {
                    [&u16::try_from(op.len()).unwrap_or(u16::MAX).to_be_bytes()[..], op].concat()
                };
                into.push(ops.iter().flat_map(piece).collect());
            }
            for item in items {
                runs(item, into);
            }
        }
        Value::Object(fields) => {
            for field in fields.values() {
                runs(field, into);
            }
        }
        _ => {}
    }
}

fn collect(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(into.insert(text.clone())),
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        Value::Object(fields) => {
            into.insert(value.to_string());
            fields.values().for_each(|field| collect(field, into));
        }
        _ => {}
    }
}

#[test]
fn every_parser_takes_some_of_the_samples() {
    let taken: BTreeSet<&str> = SAMPLES.iter().flat_map(|sample| taken_by(sample)).collect();
    let expected = [
        "body",
        "envelope",
        "fan-out",
        "join",
        "link",
        "message",
        "olm plaintext",
        "op",
        "plaintext",
        "posting",
        "shared-key message",
        "submission",
    ];
    assert_eq!(taken, BTreeSet::from(expected));
}

#[test]
fn histories_of_the_vectors_are_installed_whole() {
    let longest = HISTORIES.iter().map(|history| histories::play(history)).max();
    assert!(longest.is_some_and(|ops| ops >= 5), "{longest:?}");
}

#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, u8),
    Delete(Index),
    Cut(Index),
    /// The rest is another sample's.
    Splice(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let edge = prop_oneof![Just(0), Just(1), Just(0x7f), Just(0x80), Just(0xff), any::<u8>()];
    prop_oneof![
        3 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        3 => (any::<Index>(), edge.clone()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => (any::<Index>(), edge).prop_map(|(at, byte)| Change::Insert(at, byte)),
        1 => any::<Index>().prop_map(Change::Delete),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(at, other)| Change::Splice(at, other)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    let len = bytes.len();
    match change {
        Change::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
        Change::Set(at, byte) => bytes[at.index(len)] = *byte,
        Change::Insert(at, byte) => bytes.insert(at.index(len), *byte),
        Change::Delete(at) => drop(bytes.remove(at.index(len))),
        Change::Cut(at) => bytes.truncate(at.index(len)),
        Change::Splice(at, other) => {
            let other = other.get(&SAMPLES);
            let at = at.index(len).min(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[at..]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_written_again_to_the_last_bit(
        sample in any::<Index>(), changes in prop::collection::vec(change(), 0..4)
    ) {
        let mut bytes = sample.get(&SAMPLES).clone();
        for change in &changes {
            apply(&mut bytes, change);
        }
        taken_by(&bytes);
    }

    #[test]
    fn whatever_ops_come_what_was_installed_stays(
        sample in any::<Index>(), changes in prop::collection::vec(change(), 0..4)
    ) {
        let mut bytes = sample.get(&HISTORIES).clone();
        for change in &changes {
            apply(&mut bytes, change);
        }
        histories::play(&bytes);
    }
}

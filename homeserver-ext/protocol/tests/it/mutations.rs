//! Bytes that are nearly right, at every parser: what is read is written again to the last bit, or
//! it was refused. Begun from every byte string of the vectors.

use std::{collections::BTreeSet, sync::LazyLock};

use causeway_protocol::{
    content::{Content, Plaintext},
    envelope::{Envelope, Submission},
    invite::{Join, Link},
    olm_plaintext::{OlmPayload, OlmPlaintext},
    roster::{Op, Roster},
    sender_key::Message,
};
use proptest::{prelude::*, sample::Index};
use serde_json::Value;

use crate::vectors::{NATIVE, V2};

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
    texts.iter().map(bytes).filter(|bytes| bytes.len() <= LONGEST).collect()
});

fn collect(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(into.insert(text.clone())),
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, into)),
        _ => {}
    }
}

/// The parsers that take `bytes`, each having written the same again.
fn taken_by(bytes: &[u8]) -> Vec<&'static str> {
    let mut taken = Vec::new();
    if let Ok(op) = Op::parse(bytes) {
        assert_eq!(op.as_bytes(), bytes);
        let [certificate, signature] = [128, 64].map(|from_end| {
            let at = bytes.len() - from_end;
            causeway_protocol::ids::Signature::from_slice(&bytes[at..at + 64]).unwrap()
        });
        assert_eq!(op.core().clone().sealed(certificate, signature).unwrap(), op);
        if let Ok(body) = op.body() {
            assert_eq!(body.to_bytes().unwrap(), op.core().body);
            taken.push("body");
        }
        taken.push("op");
    }
    if let Ok(join) = Join::parse(bytes) {
        assert_eq!(join.to_bytes().unwrap(), bytes);
        taken.push("join");
    }
    if let Ok(plaintext) = OlmPlaintext::parse(bytes) {
        assert_eq!(plaintext.to_bytes().unwrap()[..], *bytes);
        taken.push("olm plaintext");
    }
    if let Ok(payload) = OlmPayload::parse(bytes) {
        assert_eq!(payload.to_bytes(), bytes);
    }
    if let Ok(message) = Message::parse(bytes) {
        let header = message.header.to_bytes();
        assert_eq!([&header[..], message.sealed, &message.signature].concat(), bytes);
        taken.push("message");
    }
    if let Ok(roster) = Roster::from_row(bytes) {
        assert_eq!(roster.to_row(), bytes);
        taken.push("roster");
    }
    if let Ok(plaintext) = Plaintext::parse(bytes) {
        // JSON has many spellings: what it says is the same, and the head to the byte.
        let again = plaintext.to_bytes();
        assert_eq!(Plaintext::parse(&again).unwrap(), plaintext);
        assert_eq!(again[..29], bytes[..29]);
        if let Content::Unknown(..) = plaintext.content {
            assert_eq!(again, bytes);
        } else {
            taken.push("plaintext");
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(link) = Link::parse(text) {
            assert_eq!(Link::parse(&link.to_text()).unwrap(), link);
            taken.push("link");
        }
        if let Ok(envelope) = serde_json::from_str::<Envelope>(text) {
            let again = serde_json::to_string(&envelope).unwrap();
            assert_eq!(serde_json::from_str::<Envelope>(&again).unwrap(), envelope);
            let _ = envelope.check();
            taken.push("envelope");
        }
        if let Ok(submission) = serde_json::from_str::<Submission>(text) {
            let again = serde_json::to_string(&submission).unwrap();
            assert_eq!(serde_json::from_str::<Submission>(&again).unwrap(), submission);
            let _ = submission.check();
            taken.push("submission");
        }
    }
    taken
}

#[test]
fn every_parser_takes_some_of_the_samples() {
    let taken: BTreeSet<&str> = SAMPLES.iter().flat_map(|sample| taken_by(sample)).collect();
    let expected = [
        "body",
        "envelope",
        "join",
        "link",
        "message",
        "olm plaintext",
        "op",
        "plaintext",
        "submission",
    ];
    assert_eq!(taken, BTreeSet::from(expected));
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
}

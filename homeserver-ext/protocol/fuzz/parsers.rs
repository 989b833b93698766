//! Every parser of the protocol, at once: whatever the bytes are, what is read is written again to the
//! last bit, or it was refused.

use causeway_protocol::{
    content::{Content, Plaintext},
    device::{DeviceList, DeviceRecord, OneTimeKey},
    device_link::{DeviceLink, LinkAnswer},
    envelope::{Envelope, Submission},
    fanout,
    invite::{Join, Link, LinkWord},
    json,
    link::{Content as Carried, Frame, Item, MAX_ITEM},
    olm_plaintext::{OlmPayload, OlmPlaintext},
    posting::Posting,
    roster::{Op, Roster},
    sender_key, shared_key,
};

/// The parsers that take `bytes`, each having written the same again.
pub(crate) fn taken_by(bytes: &[u8]) -> Vec<&'static str> {
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
    if let Ok(posting) = Posting::parse(bytes) {
        assert_eq!(posting.to_bytes().unwrap(), bytes);
        taken.push("posting");
    }
    taken.extend(message_in(bytes));
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
        taken.extend(taken_by_text(text));
    }
    taken
}

/// Which scheme's message it is.
fn message_in(bytes: &[u8]) -> Option<&'static str> {
    if let Ok(message) = sender_key::Message::parse(bytes) {
        let header = message.header.to_bytes();
        assert_eq!([&header[..], message.sealed, &message.signature].concat(), bytes);
        return Some("message");
    }
    if let Ok(message) = shared_key::Message::parse(bytes) {
        let header = message.header.to_bytes();
        assert_eq!([&header[..], message.boxed, &message.signature].concat(), bytes);
        return Some("shared-key message");
    }
    let message = fanout::Message::parse(bytes).ok()?;
    assert_eq!([&message.header.to_bytes()[..], message.sealed].concat(), bytes);
    Some("fan-out")
}

/// What is text: links and JSON.
fn taken_by_text(text: &str) -> Vec<&'static str> {
    let mut taken = Vec::new();
    if let Ok(link) = Link::parse(text) {
        assert_eq!(Link::parse(&link.to_text()).unwrap(), link);
        taken.push("link");
    }
    if let Ok(link) = DeviceLink::parse(text) {
        assert_eq!(DeviceLink::parse(&link.to_text()).unwrap(), link);
        taken.push("device link");
    }
    if let Some(word) = LinkWord::parse(text) {
        assert!(LinkWord::parse(&word.to_text()).is_some());
    }
    if let Ok(envelope) = json::from_slice::<Envelope>(text.as_bytes()) {
        let again = serde_json::to_vec(&envelope).unwrap();
        assert_eq!(json::from_slice::<Envelope>(&again).unwrap(), envelope);
        let _ = envelope.check();
        taken.push("envelope");
    }
    if let Ok(submission) = json::from_slice::<Submission>(text.as_bytes()) {
        let again = serde_json::to_vec(&submission).unwrap();
        assert_eq!(json::from_slice::<Submission>(&again).unwrap(), submission);
        let _ = submission.check();
        taken.push("submission");
    }
    if let Ok(record) = json::from_slice::<DeviceRecord>(text.as_bytes()) {
        let _ = record.verify();
        taken.push("record");
    }
    if let Ok(list) = json::from_slice::<DeviceList>(text.as_bytes()) {
        let _ = list.verify();
        taken.push("list");
    }
    if let Ok(answer) = json::from_slice::<LinkAnswer>(text.as_bytes()) {
        let again = serde_json::to_vec(&answer).unwrap();
        assert_eq!(json::from_slice::<LinkAnswer>(&again).unwrap(), answer);
        taken.push("answer to a device link");
    }
    if let Ok(Carried::Frame(frame)) = Carried::parse(text.as_bytes()) {
        taken.extend(frame.items.iter().filter_map(item_in));
        // Its items are anybody's JSON, which has many spellings.
        let bare = Frame { items: Vec::new(), ..frame };
        let again = bare.to_json().to_string();
        assert_eq!(Carried::parse(again.as_bytes()), Ok(Carried::Frame(bare)));
        taken.push("frame of a server");
    }
    if let Ok(item) = json::from_slice(text.as_bytes()) {
        taken.extend(item_in(&item));
    }
    if let Ok(key) = json::from_slice::<OneTimeKey>(text.as_bytes()) {
        let again = serde_json::to_vec(&key).unwrap();
        assert_eq!(json::from_slice::<OneTimeKey>(&again).unwrap(), key);
        taken.push("one-time key");
    }
    taken
}

fn item_in(value: &serde_json::Value) -> Option<&'static str> {
    let item = Item::parse(value).ok()?;
    if let Item::Row(row) = &item {
        let _ = (row.id(), row.check("b.example"));
    }
    let again = item.to_json();
    // Lists that were absent are written, so that it can be longer than what was read.
    if again.to_string().len() <= MAX_ITEM {
        assert_eq!(Item::parse(&again), Ok(item));
    }
    Some("item of a server")
}

//! The legacy suites: bytes as what travels in them, read by somebody who holds a chain of the sender's.
//!
//! What is read is written and read again as the same; what nobody sealed opens for nobody, and moves
//! nothing; what is stored is written again.

use causeway_groups::schemes::legacy::{HeldKeys, OwnKey, Suite, opus_v1, ren_a};
use zeroize::Zeroizing;

const NOW: u64 = 1_800_000_000;

fn opus(bytes: &[u8]) {
    let own = opus_v1::from_master_secret(&[7; 32]);
    let mut held = HeldKeys::new(own.given()).expect("a key");
    let before = held.encode();
    if let Ok(envelope) = opus_v1::Envelope::parse(bytes) {
        let again = opus_v1::Envelope::parse(envelope.to_json().as_bytes()).expect("written");
        assert_eq!(again.to_json(), envelope.to_json());
        let named = (envelope.group_id.as_str(), envelope.sender_public_key.as_str());
        assert!(envelope.open(named, &mut held).is_err(), "what nobody sealed was opened");
        assert_eq!(*held.encode(), *before, "a refused message moved the chain");
    }
    if let Ok(given) = opus_v1::Distribution::parse(bytes) {
        let again = opus_v1::Distribution::parse(given.to_json().as_bytes()).expect("written");
        assert_eq!(*again.to_json(), *given.to_json());
        if held.take(&given).is_err() {
            assert_eq!(*held.encode(), *before, "a refused key changed something");
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(invite) = opus_v1::Invite::parse(text, NOW)
    {
        let again = opus_v1::Invite::parse(&invite.to_link(), NOW).expect("written");
        assert_eq!(again.to_json(), invite.to_json());
    }
    if let Some(held) = HeldKeys::decode(Suite::OpusV1, bytes) {
        assert_eq!(*held.encode(), *bytes);
    }
    if let Some(own) = OwnKey::decode(Suite::OpusV1, bytes) {
        assert_eq!(*own.encode(), *bytes);
    }
}

fn ren(bytes: &[u8]) {
    let own = OwnKey::new(Suite::RenA, 3, &Zeroizing::new([7; 32]), &Zeroizing::new([8; 32]));
    let mut held = HeldKeys::new(own.given()).expect("a key");
    let before = held.encode();
    if let Ok(envelope) = ren_a::Envelope::parse(bytes) {
        let again = ren_a::Envelope::parse(envelope.to_json().as_bytes()).expect("written");
        assert_eq!(again.to_json(), envelope.to_json());
        let named = (envelope.group_id, envelope.sender_id);
        assert!(envelope.open(named, &mut held).is_err(), "what nobody sealed was opened");
        assert_eq!(*held.encode(), *before, "a refused message moved the chain");
    }
    let recipient = Zeroizing::new([9; 32]);
    if let Ok(given) = ren_a::Distribution::parse(bytes) {
        let again = ren_a::Distribution::parse(given.to_json().as_bytes()).expect("written");
        assert_eq!(again, given);
        let named = (given.group_id, given.sender_id);
        assert!(given.open(named, &recipient).is_err(), "what nobody wrapped was opened");
    }
    if let Some(held) = HeldKeys::decode(Suite::RenA, bytes) {
        assert_eq!(*held.encode(), *bytes);
    }
    if let Some(own) = OwnKey::decode(Suite::RenA, bytes) {
        assert_eq!(*own.encode(), *bytes);
    }
}

/// Reads `bytes` as everything that travels or is stored.
pub(crate) fn legacy(bytes: &[u8]) {
    opus(bytes);
    ren(bytes);
}

//! The legacy suites: each message once in any order, and nothing that a stranger sends costs or
//! changes anything.

use causeway_groups::schemes::legacy::{
    HeldKeys, NotTaken, OpenError, OwnKey, Suite, Taken, Unreachable,
    opus_v1::{self, Distribution, Envelope},
    ren_a,
};
use proptest::prelude::*;
use zeroize::Zeroizing;

type Sealed = (u64, Vec<u8>, [u8; 64]);

fn opus(seed: u8) -> OwnKey {
    opus_v1::from_master_secret(&[seed; 32])
}

fn ren(chain: u32, seed: u8) -> OwnKey {
    let secret = |seed: u8| Zeroizing::new([seed; 32]);
    OwnKey::new(Suite::RenA, chain, &secret(seed), &secret(seed + 1))
}

fn text(index: u64) -> Vec<u8> {
    format!("number {index}").into_bytes()
}

fn said(own: &mut OwnKey, count: u64) -> Vec<Sealed> {
    (0..count)
        .map(|_| {
            let index = own.next_index();
            own.seal([7; 12], &text(index)).unwrap()
        })
        .collect()
}

fn open(held: &mut HeldKeys, (index, text, signature): &Sealed) -> Result<(), OpenError> {
    let before = held.encode();
    match held.open((0, *index), text, *signature) {
        Ok(opened) => {
            assert_eq!(*opened, self::text(*index));
            Ok(())
        }
        Err(error) => {
            assert!(*held.encode() == *before, "a message that did not open has changed the chain");
            Err(error)
        }
    }
}

const REPLAY: Result<(), OpenError> = Err(OpenError::Index(Unreachable::Replay));
const TOO_OLD: Result<(), OpenError> = Err(OpenError::Index(Unreachable::TooOld));
const TOO_FAR: Result<(), OpenError> = Err(OpenError::Index(Unreachable::TooFar));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In any order, with losses and repetitions, and with a restart after each: once.
    #[test]
    fn each_message_opens_once(order in proptest::collection::vec(0..60_usize, 1..120), from in 0..8_u64) {
        let mut own = opus(1);
        let before = said(&mut own, from);
        let mut held = HeldKeys::new(own.given()).unwrap();
        let all = [before, said(&mut own, 60 - from)].concat();
        let mut opened = std::collections::BTreeSet::new();
        for place in order {
            let expected = if (place as u64) < from {
                TOO_OLD
            } else if opened.insert(place) {
                Ok(())
            } else {
                REPLAY
            };
            prop_assert_eq!(open(&mut held, &all[place]), expected);
            held = HeldKeys::decode(Suite::OpusV1, &held.encode()).unwrap();
        }
    }

    /// Whatever bit is another, or byte is missing: nothing opens, and nothing changes.
    #[test]
    fn what_was_changed_does_not_open(at in 0..64_usize, bit in 0..8_u8, which in 0..3_u8) {
        let mut own = opus(1);
        let mut held = HeldKeys::new(own.given()).unwrap();
        let whole = said(&mut own, 3).pop().unwrap();
        let (mut index, mut text, mut signature) = whole.clone();
        match which {
            0 => { let at = at % text.len(); text[at] ^= 1 << bit; }
            1 => signature[at] ^= 1 << bit,
            _ => index ^= 1 << (bit % 2),
        }
        prop_assert!(open(&mut held, &(index, text, signature)).is_err());
        prop_assert_eq!(open(&mut held, &whole), Ok(()));
    }
}

#[test]
fn a_thousand_ahead_is_as_far_as_it_goes() {
    let mut own = opus(1);
    let mut held = HeldKeys::new(own.given()).unwrap();
    let all = said(&mut own, 2_100);
    assert_eq!(open(&mut held, &all[1_001]), TOO_FAR);
    assert_eq!(open(&mut held, &all[1_000]), Ok(()));
    assert_eq!(open(&mut held, &all[2_002]), TOO_FAR);
    assert_eq!(open(&mut held, &all[2_001]), Ok(()));
    let far = (u64::MAX, all[0].1.clone(), all[0].2);
    assert_eq!(open(&mut held, &far), TOO_FAR);
}

#[test]
fn of_what_was_jumped_over_256_are_kept() {
    let mut own = opus(1);
    let mut held = HeldKeys::new(own.given()).unwrap();
    let all = said(&mut own, 700);
    assert_eq!(open(&mut held, &all[10]), Ok(()));
    assert_eq!(open(&mut held, &all[300]), Ok(()));
    assert_eq!(open(&mut held, &all[43]), TOO_OLD);
    assert_eq!(open(&mut held, &all[44]), Ok(()));
    assert_eq!(open(&mut held, &all[600]), Ok(()));
    // Those of before gave way, also the one that was opened.
    for index in [44, 45, 299, 300, 343] {
        assert_eq!(open(&mut held, &all[index]), TOO_OLD, "{index}");
    }
    for index in [344, 599] {
        assert_eq!(open(&mut held, &all[index]), Ok(()), "{index}");
        assert_eq!(open(&mut held, &all[index]), REPLAY, "{index}");
    }
    assert!(held.encode().len() < 12_000);
}

#[test]
fn a_chain_never_goes_back() {
    let mut own = opus(1);
    let first = Distribution::from(own.given());
    let all = said(&mut own, 1_600);
    let mut held = HeldKeys::new(&first).unwrap();
    assert_eq!(open(&mut held, &all[5]), Ok(()));
    let at = |index: u64| {
        let mut own = opus(1);
        own.skip(index);
        Distribution::from(own.given())
    };
    // Lower, the same, or so that it can be moved there: nothing changes.
    for index in [0, 5, 6, 7, 1_006] {
        assert_eq!(held.take(&at(index)), Ok(Taken::Known), "{index}");
    }
    assert_eq!(open(&mut held, &all[5]), REPLAY);
    assert_eq!(open(&mut held, &all[4]), Ok(()));
    // So far ahead that it cannot be moved there.
    assert_eq!(held.take(&at(1_007)), Ok(Taken::New));
    assert_eq!(open(&mut held, &all[6]), TOO_OLD);
    assert_eq!(open(&mut held, &all[1_007]), Ok(()));

    // Another chain under the same signing key.
    let other = Distribution {
        chain_key: Zeroizing::new([9; 32]),
        signature_public: first.signature_public,
        message_index: 1_009,
    };
    assert_eq!(held.take(&other), Err(NotTaken::Conflict));
    for weak in [[0; 32], [0xff; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        let weak = Distribution {
            signature_public: weak,
            chain_key: Zeroizing::new([9; 32]),
            message_index: 0,
        };
        assert_eq!(held.take(&weak), Err(NotTaken::Key));
        assert!(HeldKeys::new(&weak).is_err());
    }
    assert_eq!(open(&mut held, &all[1_008]), Ok(()));
}

#[test]
fn the_chain_before_is_kept_and_no_other() {
    let mut chains = [opus(1), opus(2), opus(3)];
    let mut held = HeldKeys::new(chains[0].given()).unwrap();
    let first = Distribution::from(chains[0].given());
    let said: Vec<_> =
        chains.iter_mut().map(|own| (Distribution::from(own.given()), said(own, 4))).collect();
    assert_eq!(open(&mut held, &said[0].1[1]), Ok(()));
    assert_eq!(held.take(&said[1].0), Ok(Taken::New));
    assert_eq!(open(&mut held, &said[1].1[0]), Ok(()));
    // On its way when the chain was replaced.
    assert_eq!(open(&mut held, &said[0].1[0]), Ok(()));
    assert_eq!(open(&mut held, &said[0].1[1]), REPLAY);
    assert_eq!(held.take(&first), Ok(Taken::Known), "the one before does not come back");
    held = HeldKeys::decode(Suite::OpusV1, &held.encode()).unwrap();
    assert_eq!(held.take(&said[2].0), Ok(Taken::New));
    assert_eq!(open(&mut held, &said[0].1[2]), Err(OpenError::Signature));
    assert_eq!(open(&mut held, &said[1].1[1]), Ok(()));
    assert_eq!(open(&mut held, &said[2].1[3]), Ok(()));
}

#[test]
fn ren_tells_chains_apart_by_their_names() {
    let (mut one, mut two) = (ren(1, 10), ren(2, 20));
    let mut held = HeldKeys::new(one.given()).unwrap();
    let (at, sealed, signature) = one.seal([0; 12], b"under one").unwrap();
    assert_eq!(held.open((2, at), &sealed, signature).err(), Some(OpenError::NoKey));
    let other = ren(1, 30);
    assert_eq!(held.take(other.given()), Err(NotTaken::Conflict), "the name of another");
    assert_eq!(held.take(two.given()), Ok(Taken::New));
    let (_, second, by_two) = two.seal([0; 12], b"under two").unwrap();
    assert_eq!(held.open((1, 0), &second, by_two).err(), Some(OpenError::Signature));
    assert_eq!(held.open((2, 0), &second, by_two).unwrap().as_slice(), b"under two");
    assert_eq!(held.open((1, at), &sealed, signature).unwrap().as_slice(), b"under one");
    let stored = two.encode();
    let (at, ..) = OwnKey::decode(Suite::RenA, &stored).unwrap().seal([0; 12], b"").unwrap();
    assert_eq!(at, 1);
}

/// A wrap names nobody who made it: what is compared is what the Olm session proves.
#[test]
fn a_wrap_is_taken_of_its_olm_peer_only() {
    let key = |n: u8| Zeroizing::new([n; 32]);
    let (me, names) = (key(9), (1, 2));
    let public = vodozemac::Curve25519SecretKey::from_slice(&me);
    let public = vodozemac::Curve25519PublicKey::from(&public).to_bytes();
    let chain = ren_a::Chain::try_from(ren(3, 10).given()).unwrap();
    let given = ren_a::Distribution::new(names, &chain, &key(7), &public).unwrap();
    let text = given.to_json();
    let read = |text: &str| ren_a::Distribution::parse(text.as_bytes()).unwrap();
    assert_eq!(*read(&text).open(names, &me).unwrap().chain_key, *chain.chain_key);
    for (other, secret) in [((2, 2), &me), ((1, 1), &me), (names, &key(8))] {
        assert!(read(&text).open(other, secret).is_err(), "{other:?}");
    }
    // Whatever stands beside the wrap is bound to it.
    let fields: serde_json::Value = serde_json::from_str(&text).unwrap();
    let others = ren_a::Chain::try_from(ren(3, 20).given()).unwrap();
    let others = ren_a::Distribution::new(names, &others, &key(7), &public).unwrap();
    let others: serde_json::Value = serde_json::from_str(&others.to_json()).unwrap();
    for (field, to) in [
        ("chain_id", 4.into()),
        ("iteration", 1.into()),
        ("signing_key", others["signing_key"].clone()),
        ("sender_key", others["sender_key"].clone()),
        ("sender_key", "".into()),
        ("signing_key", "AAAA".into()),
    ] {
        let mut changed = fields.clone();
        changed[field] = to;
        assert!(read(&changed.to_string()).open(names, &me).is_err(), "{field}");
    }
    for junk in ["", "{}", "[]", &text[1..], &text.replace("\"iteration\":0", "\"iteration\":-1")] {
        assert!(ren_a::Distribution::parse(junk.as_bytes()).is_err(), "{junk}");
    }
    assert!(ren_a::Distribution::new(names, &chain, &key(7), &[0; 32]).is_err());
}

#[test]
fn what_is_stored_is_read_whole_or_not_at_all() {
    let mut own = opus(1);
    let mut held = HeldKeys::new(own.given()).unwrap();
    let all = said(&mut own, 5);
    open(&mut held, &all[3]).unwrap();
    held.take(opus(2).given()).unwrap();
    let (own, held) = (own.encode(), held.encode());
    for end in 0..held.len() {
        // One chain alone is what is held of most.
        let is_one_chain = end == 1 + 36 + 50;
        assert!(HeldKeys::decode(Suite::OpusV1, &held[..end]).is_none() || is_one_chain, "{end}");
    }
    assert!(HeldKeys::decode(Suite::OpusV1, &[&held[..], &[0]].concat()).is_none());
    for end in 0..own.len() {
        assert!(OwnKey::decode(Suite::OpusV1, &own[..end]).is_none(), "{end}");
    }
}

#[test]
fn too_long_is_not_sealed_and_not_opened() {
    let mut own = opus(1);
    assert!(own.seal([0; 12], &vec![0; 20_001]).is_err());
    assert_eq!(own.next_index(), 0, "nothing was used up");
    let (index, text, signature) = own.seal([0; 12], &vec![b'x'; 20_000]).unwrap();
    let names = ("g".repeat(36), "m".repeat(36));
    let envelope = Envelope::new(names, "s".repeat(64), u64::MAX, (index, &text, signature));
    assert!(envelope.to_json().len() <= opus_v1::MAX_ENVELOPE);
    let json = envelope.to_json();
    assert_eq!(Envelope::parse(json.as_bytes()), Ok(envelope));
    let padded = format!("{json}{}", " ".repeat(opus_v1::MAX_ENVELOPE));
    assert_eq!(Envelope::parse(padded.as_bytes()), Err(OpenError::Malformed));
}

#[test]
fn envelopes_are_read_strictly() {
    let mut own = opus(1);
    let (index, text, signature) = own.seal([0; 12], b"hello").unwrap();
    let names = ("group".to_owned(), "message".to_owned());
    let whole = Envelope::new(names, "sender".to_owned(), 1, (index, &text, signature)).to_json();
    for (from, to) in [
        ("\"group_message\"", "\"group_messages\""),
        ("\"message_index\":0", "\"message_index\":-1"),
        ("\"message_index\":0", "\"message_index\":0.5"),
        ("\"message_index\":0", "\"message_index\":\"0\""),
        ("\"message_index\":0", "\"message_index\":18446744073709551616"),
        ("\"timestamp\":1,", ""),
        ("\"timestamp\":1,", "\"timestamp\":1,\"timestamp\":1,"),
        ("}", "}}"),
    ] {
        assert!(whole.contains(from), "{from}");
        let changed = whole.replacen(from, to, 1);
        assert_eq!(Envelope::parse(changed.as_bytes()), Err(OpenError::Malformed), "{changed}");
    }
    // As Python prints it by default, and with a field of a later version.
    let spaced =
        whole.replace("\":", "\": ").replace(",\"", ", \"").replace('}', ", \"flags\": 1}");
    let envelope = Envelope::parse(spaced.as_bytes()).unwrap();
    let mut held = HeldKeys::new(opus(1).given()).unwrap();
    for other in [("another", "sender"), ("group", "another")] {
        assert_eq!(envelope.open(other, &mut held).err(), Some(OpenError::Context));
    }
    assert_eq!(envelope.open(("group", "sender"), &mut held).unwrap().as_slice(), b"hello");
    for wrong in ["", "zz", "00", &"0".repeat(128)] {
        let (mut bad, mut worse) = (envelope.clone(), envelope.clone());
        wrong.clone_into(&mut bad.ciphertext);
        wrong.clone_into(&mut worse.signature);
        assert!(bad.open(("group", "sender"), &mut held).is_err());
        assert!(worse.open(("group", "sender"), &mut held).is_err());
    }
}

#[test]
fn links_are_as_python_prints_them() {
    let name = "a\"b\\c\n\r\t\u{8}\u{c}\u{7f}é🌍".to_owned() + &"x".repeat(60);
    let invite = opus_v1::Invite {
        group_id: "g".to_owned(),
        group_name: name,
        creator_public_key: "c".to_owned(),
        expires: 9,
        token: "t".to_owned(),
    };
    // json.dumps of Python 3.12, of the first 50 characters of the name.
    let expected = r#"{"g": "g", "n": "a\"b\\c\n\r\t\b\f\u007f\u00e9\ud83c\udf0d"#.to_owned()
        + &"x".repeat(37)
        + r#"", "c": "c", "e": 9, "t": "t"}"#;
    assert_eq!(invite.to_json(), expected);
    let read = opus_v1::Invite::parse(&invite.to_link(), 9).unwrap();
    assert_eq!(read.group_name.chars().count(), 50);
    assert!(invite.group_name.starts_with(&read.group_name));
    let long = format!("{}{}", invite.to_link(), "A".repeat(5_000));
    assert_eq!(opus_v1::Invite::parse(&long, 0), Err(opus_v1::BadInvite::Encoding));
}

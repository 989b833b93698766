use causeway_protocol::{
    device::{OneTimeKey, Untrusted},
    ids::{CurveKey, DeviceId, KeyId, MemberId, ParseError, Signature},
    keys::{KeyError, check_curve25519, check_ed25519, fingerprint, verify, verify_bytes},
};

use crate::signers::{Person, sign};

/// The group order, little-endian.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[test]
fn a_key_of_33_bytes_is_refused_everywhere() {
    let long = [1_u8; 33];
    assert_eq!(check_ed25519(long), Err(KeyError::Length(32, 33)));
    assert_eq!(check_ed25519([1; 31]), Err(KeyError::Length(32, 31)));
    assert_eq!(verify(long, "cg/otk/v2", b"", [0; 64]), Err(KeyError::Length(32, 33)));
    assert_eq!(verify_bytes([1; 32], b"", [0; 65]), Err(KeyError::Length(64, 65)));
    assert_eq!(MemberId::from_slice(&long), Err(ParseError::Length(32, 33)));
    assert_eq!(DeviceId::from_slice(&long), Err(ParseError::Length(32, 33)));
    assert_eq!(CurveKey::from_slice(&long), Err(ParseError::Length(32, 33)));
    let text = causeway_protocol::ids::text_of(&long);
    assert!(serde_json::from_str::<DeviceId>(&format!("\"{text}\"")).is_err());
    assert!(serde_json::from_str::<CurveKey>(&format!("\"{text}\"")).is_err());
}

#[test]
fn weak_and_misspelt_keys_are_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    assert_eq!(check_ed25519(identity), Err(KeyError::Key));
    assert_eq!(check_ed25519([0; 32]), Err(KeyError::Key));
    // p + 3: a second spelling of y = 3.
    let mut misspelt = [0xff; 32];
    misspelt[0] = 0xf0;
    misspelt[31] = 0x7f;
    assert_eq!(check_ed25519(misspelt), Err(KeyError::Key));

    assert_eq!(check_curve25519(&CurveKey::new([0; 32])), Err(KeyError::Key));
    assert_eq!(check_curve25519(&CurveKey::new(identity)), Err(KeyError::Key));
    assert_eq!(check_curve25519(&CurveKey::new(misspelt)), Err(KeyError::Key));
    assert_eq!(check_curve25519(&CurveKey::new([0xff; 32])), Err(KeyError::Key));
    let mut nine = [0; 32];
    nine[0] = 9;
    assert_eq!(check_curve25519(&CurveKey::new(nine)), Ok(()));
}

/// Every point of small order, and every other spelling of one that fits 32 bytes.
#[test]
fn no_point_of_small_order_enters_in_any_spelling() {
    let ed25519 = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let person = Person::new(1);
    let good = sign(&person.device, b"label\0");
    verify(person.record.device_id, "label", b"", good).unwrap();
    for hex in ed25519 {
        let point: [u8; 32] = hex::decode(hex).unwrap().try_into().unwrap();
        for sign_of_x in [0, 0x80] {
            let mut point = point;
            point[31] |= sign_of_x;
            assert_eq!(check_ed25519(point), Err(KeyError::Key), "{hex}");
            // As a key: with S = 0 and R of small order it would have signed everything.
            let nothing = [&point[..], &[0; 32]].concat();
            assert!(verify(point, "label", b"", &nothing).is_err(), "{hex}");
            // As R of a signature by a good key.
            let r_replaced = [&point[..], &good.as_bytes()[32..]].concat();
            let refused = verify(person.record.device_id, "label", b"", &r_replaced);
            assert_eq!(refused, Err(KeyError::Signature), "{hex}");
        }
    }
    let curve25519 = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for hex in curve25519 {
        for top in [0, 0x80] {
            let mut point: [u8; 32] = hex::decode(hex).unwrap().try_into().unwrap();
            point[31] |= top;
            assert_eq!(check_curve25519(&CurveKey::new(point)), Err(KeyError::Key), "{hex}");
        }
    }
}

#[test]
fn a_one_time_key_of_small_order_is_refused_though_signed() {
    let person = Person::new(1);
    let device = person.record.device_id;
    let mut key = OneTimeKey {
        key_id: KeyId::new([0; 8]),
        fallback: false,
        curve25519: CurveKey::new([0; 32]),
        signature: Signature::new([0; 64]),
    };
    key.signature = sign(&person.device, &key.signed_bytes(&device));
    assert_eq!(key.verify(&device), Err(Untrusted::CurveKey));
}

#[test]
fn a_signature_has_one_spelling_one_label_one_key() {
    let (one, other) = (Person::new(1), Person::new(2));
    let key = one.record.device_id;
    let signature = sign(&one.device, b"cg/login/v2\0fields");
    verify(key, "cg/login/v2", b"fields", signature).unwrap();
    assert_eq!(verify(key, "cg/otk/v2", b"fields", signature), Err(KeyError::Signature));
    let by_other = verify(other.record.device_id, "cg/login/v2", b"fields", signature);
    assert_eq!(by_other, Err(KeyError::Signature));

    // S + L is the same number modulo the order.
    let mut bytes = *signature.as_bytes();
    let mut carry = 0;
    for (byte, l) in bytes[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(l) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(verify(key, "cg/login/v2", b"fields", bytes), Err(KeyError::Signature));
}

#[test]
fn a_fingerprint_is_six_groups_of_four_digits() {
    let counting = std::array::from_fn(|place| u8::try_from(place).unwrap());
    assert_eq!(fingerprint(&MemberId::new(counting)), "9435 0667 0368 5089 1450 0396");
}

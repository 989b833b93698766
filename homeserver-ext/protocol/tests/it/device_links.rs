//! What a new device shows, and what the first one answers: one spelling, and nothing that is bent.

use causeway_protocol::{
    device::{DeviceList, DeviceOf, DeviceRecord, Untrusted},
    device_link::{AnswerRefused, DeviceLink, LinkAnswer, NotADeviceLink, OfferSecret, answer_aad},
    ids::{CurveKey, DeviceId, MemberId, Signature, Timestamp, text_of},
};
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

const SCHEME: &str = "causeway://link/";

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn link() -> DeviceLink {
    DeviceLink {
        server: "a.example:8448".to_owned(),
        device: DeviceId::new(key(1).verifying_key().to_bytes()),
        curve25519: CurveKey::new([9; 32]),
        secret: OfferSecret::new(Zeroizing::new([7; 32])),
    }
}

fn text(json: &str) -> String {
    format!("{SCHEME}{}", text_of(json.as_bytes()))
}

fn json(h: &str, d: &[u8], k: &[u8], s: &[u8]) -> String {
    let (d, k, s) = (text_of(d), text_of(k), text_of(s));
    format!(r#"{{"v":1,"h":"{h}","d":"{d}","k":"{k}","s":"{s}"}}"#)
}

#[test]
fn a_text_is_read_as_it_was_written() {
    let (link, text) = (link(), link().to_text());
    assert_eq!(DeviceLink::parse(&text), Ok(link.clone()));
    assert_eq!(DeviceLink::parse(&format!(" {}\n", *text)), Ok(link.clone()));
    let (d, k) = (link.device.as_bytes(), link.curve25519.as_bytes());
    assert_eq!(*text, self::text(&json("a.example:8448", d, k, &[7; 32])));
}

/// Another order, white space, and a field that a later version may add.
#[test]
fn what_json_leaves_open_is_open() {
    let link = link();
    let (d, k, s) = (link.device, link.curve25519, text_of(&[7; 32]));
    let other = format!(
        r#"{{ "later": [1], "s": "{s}", "k": "{k}", "d": "{d}", "h": "{}", "v": 1 }}"#,
        link.server
    );
    assert_eq!(DeviceLink::parse(&text(&other)), Ok(link));
}

#[test]
fn a_text_that_is_bent_is_none() {
    let link = link();
    let (d, k) = (*link.device.as_bytes(), *link.curve25519.as_bytes());
    let good = json("a.example", &d, &k, &[7; 32]);
    assert!(DeviceLink::parse(&text(&good)).is_ok());
    let long = format!("{}{}", good.trim_end_matches('}'), r#","later":""#);
    let off_curve = (0..=u8::MAX).map(|n| [n; 32]).find(|key| is_no_key(*key)).unwrap();
    for bad in [
        String::new(),
        good.replace(r#""v":1"#, r#""v":2"#),
        good.replace(r#""v":1"#, r#""v":1,"v":1"#),
        good.replace(r#""v":1"#, r#""v":"1""#),
        good.replace(r#""v":1,"#, ""),
        good.replace(r#","s""#, r#","t""#),
        format!("[{good}]"),
        format!("{good} x"),
        format!(r#"[1,"a.example","{}","{}","{}"]"#, text_of(&d), text_of(&k), text_of(&[7; 32])),
        format!(r#"{long}{}"}}"#, "x".repeat(1_600)),
        json("", &d, &k, &[7; 32]),
        json("A.example", &d, &k, &[7; 32]),
        json("a.example/x", &d, &k, &[7; 32]),
        json("a.example:123456", &d, &k, &[7; 32]),
        json("a.example", &d[..31], &k, &[7; 32]),
        json("a.example", &[&d[..], &[0]].concat(), &k, &[7; 32]),
        json("a.example", &off_curve, &k, &[7; 32]),
        // Of small order.
        json("a.example", &[&[1_u8][..], &[0; 31]].concat(), &k, &[7; 32]),
        json("a.example", &d, &[0; 32], &[7; 32]),
        json("a.example", &d, &[0xff; 32], &[7; 32]),
        json("a.example", &d, &k[..31], &[7; 32]),
        json("a.example", &d, &k, &[7; 31]),
        json("a.example", &d, &k, &[7; 33]),
    ] {
        assert_eq!(DeviceLink::parse(&text(&bad)), Err(NotADeviceLink), "{bad}");
    }
    let good = text(&good);
    for bad in [
        good.replace("link", "join"),
        good.replace("causeway", "Causeway"),
        good.replace("link/", "link//"),
        format!("{good}="),
        good[..good.len() - 1].to_owned(),
        format!("{good}#"),
    ] {
        assert_eq!(DeviceLink::parse(&bad), Err(NotADeviceLink), "{bad}");
    }
}

fn is_no_key(bytes: [u8; 32]) -> bool {
    causeway_protocol::keys::check_ed25519(bytes).is_err()
}

#[test]
fn id_and_aad_are_made_as_the_document_says() {
    let secret = OfferSecret::new(Zeroizing::new([1; 32]));
    // H("cg/link/id" ‖ 0 ‖ 32 × 01), by another program.
    assert_eq!(hex::encode(secret.id().as_bytes()), "347da482e7d71e02fd3f0b2e90863005");
    let other = OfferSecret::new(Zeroizing::new([2; 32]));
    assert_ne!(secret.id(), other.id());
    assert_eq!(
        answer_aad(&secret.id()),
        [b"cg/link/answer\0", &secret.id().as_bytes()[..]].concat()
    );
    assert_eq!(format!("{secret:?}"), "OfferSecret(…)");
}

fn sign(by: &SigningKey, bytes: &[u8]) -> Signature {
    Signature::new(by.sign(bytes).to_bytes())
}

fn answer(identity: &SigningKey) -> LinkAnswer {
    let link = link();
    let member_id = MemberId::new(identity.verifying_key().to_bytes());
    let device = DeviceOf { member_id, device_id: link.device };
    let account: causeway_protocol::ids::AccountId = "bob:a.example:8448".parse().unwrap();
    let mut list = DeviceList {
        account: account.clone(),
        member_id,
        version: 3,
        created_ms: Timestamp(1),
        devices: vec![DeviceId::new(key(3).verifying_key().to_bytes())],
        signature: Signature::new([0; 64]),
    };
    list.signature = sign(identity, &list.signed_bytes());
    let certificate = sign(identity, &DeviceRecord::certificate_bytes(&device, &link.curve25519));
    LinkAnswer { account, member_id, certificate, list }
}

#[test]
fn an_answer_is_for_one_device_of_one_account_on_one_server() {
    let (link, good) = (link(), answer(&key(2)));
    assert_eq!(good.check(&link), Ok(()));
    // The offer of another device, or with another Olm key, and of another server.
    let other = DeviceLink { device: DeviceId::new([1; 32]), ..link.clone() };
    assert_eq!(good.check(&other), Err(AnswerRefused::Certificate));
    let other = DeviceLink { curve25519: CurveKey::new([8; 32]), ..link.clone() };
    assert_eq!(good.check(&other), Err(AnswerRefused::Certificate));
    let other = DeviceLink { server: "b.example".to_owned(), ..link.clone() };
    assert_eq!(good.check(&other), Err(AnswerRefused::OtherServer));
    // Another identity's certificate or list, and a list that was changed.
    let mallory = answer(&key(4));
    let bent = LinkAnswer { certificate: mallory.certificate, ..good.clone() };
    assert_eq!(bent.check(&link), Err(AnswerRefused::Certificate));
    let bent = LinkAnswer { member_id: mallory.member_id, ..good.clone() };
    assert_eq!(bent.check(&link), Err(AnswerRefused::Certificate));
    let bent = LinkAnswer { list: mallory.list, ..good.clone() };
    assert_eq!(bent.check(&link), Err(AnswerRefused::OtherList));
    let bent = LinkAnswer { account: "eve:a.example:8448".parse().unwrap(), ..good.clone() };
    assert_eq!(bent.check(&link), Err(AnswerRefused::OtherList));
    let mut bent = good.clone();
    bent.list.version = 4;
    assert_eq!(bent.check(&link), Err(AnswerRefused::List(Untrusted::List)));
    let mut bent = good;
    bent.list.devices.clear();
    assert_eq!(bent.check(&link), Err(AnswerRefused::List(Untrusted::Form)));
}

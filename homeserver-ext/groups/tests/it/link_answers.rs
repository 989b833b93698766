//! The answer to a new device's offer: who has the text opens it, and nothing that is bent opens.

use causeway_groups::schemes::link_answer::{NotAnAnswer, TooLong, open, seal};
use causeway_protocol::{
    device::DeviceList,
    device_link::{ANSWER_KEY_INFO, LinkAnswer, MAX_LINK_BYTES, OfferSecret},
    ids::{DeviceId, MemberId, Signature, Timestamp},
};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

const DOCUMENT: &str = include_str!("../../../../docs/protocol.md");

fn secret(n: u8) -> OfferSecret {
    OfferSecret::new(Zeroizing::new([n; 32]))
}

fn answer(devices: u8) -> LinkAnswer {
    let account: causeway_protocol::ids::AccountId = "bob:b.example".parse().unwrap();
    let list = DeviceList {
        account: account.clone(),
        member_id: MemberId::new([1; 32]),
        version: 3,
        created_ms: Timestamp(1_800_000_000_000),
        devices: (0..devices).map(|n| DeviceId::new([n; 32])).collect(),
        signature: Signature::new([2; 64]),
    };
    let certificate = Signature::new([3; 64]);
    LinkAnswer { account, member_id: list.member_id, certificate, list }
}

#[test]
fn who_has_the_text_opens_it_and_nobody_else() {
    let sealed = seal(&secret(1), &answer(2), [7; 12]).unwrap();
    assert_eq!(open(&secret(1), &sealed), Ok(answer(2)));
    assert_eq!(open(&secret(2), &sealed), Err(NotAnAnswer));
    // Of another text of one's own: the id is bound, too.
    let other = seal(&secret(2), &answer(2), [7; 12]).unwrap();
    assert_eq!(open(&secret(1), &other), Err(NotAnAnswer));
}

#[test]
fn an_answer_with_any_byte_changed_or_missing_is_none() {
    let sealed = seal(&secret(1), &answer(1), [7; 12]).unwrap();
    for at in 0..sealed.len() {
        for bit in [1, 0x80] {
            let mut bent = sealed.clone();
            bent[at] ^= bit;
            assert_eq!(open(&secret(1), &bent), Err(NotAnAnswer), "{at}");
        }
        assert_eq!(open(&secret(1), &sealed[..at]), Err(NotAnAnswer), "{at}");
    }
    assert_eq!(open(&secret(1), &[&sealed[..], &[0]].concat()), Err(NotAnAnswer));
}

#[test]
fn an_account_has_as_many_devices_as_an_answer_has_room_for() {
    // As many as a server lets one account have, four times.
    assert!(seal(&secret(1), &answer(64), [7; 12]).is_ok());
    let Err(TooLong(bytes)) = seal(&secret(1), &answer(90), [7; 12]) else { panic!("it fits") };
    assert!(bytes > MAX_LINK_BYTES);
}

#[test]
fn the_key_of_the_document_is_right() {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, secret(1).as_bytes()).expand(ANSWER_KEY_INFO, &mut key).unwrap();
    assert!(DOCUMENT.contains(&format!("key     {}\n", hex::encode(key))));
    assert!(DOCUMENT.contains(&format!("id      {}\n", hex::encode(secret(1).id().as_bytes()))));
}

use causeway_protocol::{
    device::{
        DeviceList, DeviceOf, DeviceRecord, OneTimeKey, Untrusted, login_bytes, verify_account,
        verify_login,
    },
    ids::{AccountId, CurveKey, DeviceId, KeyId, MemberId, Nonce, Signature, Timestamp},
    keys::safety_number,
};
use serde_json::Value;

use crate::vectors::{Get, NATIVE};

fn record(member_id: MemberId, device: &Value) -> DeviceRecord {
    DeviceRecord {
        member_id,
        device_id: DeviceId::new(device.array("device_id")),
        curve25519: CurveKey::new(device.array("curve25519")),
        signature: Signature::new(device["record"].array("signature")),
        certificate: Signature::new(device["certificate"].array("signature")),
    }
}

fn one_time_key(key: &Value) -> OneTimeKey {
    OneTimeKey {
        key_id: KeyId::new(key.number("key_id").to_be_bytes()),
        fallback: key.number("fallback") == 1,
        curve25519: CurveKey::new(key.array("curve25519")),
        signature: Signature::new(key.array("signature")),
    }
}

fn flipped(signature: Signature) -> Signature {
    let mut bytes = *signature.as_bytes();
    bytes[40] ^= 1;
    Signature::new(bytes)
}

#[test]
fn records_and_certificates_are_the_vectors() {
    for item in NATIVE["accounts"].list("items") {
        let member_id = MemberId::new(item.array("member_id"));
        for device in item.list("devices") {
            let record = record(member_id, device);
            let (of, curve) = (record.device(), &record.curve25519);
            assert_eq!(DeviceRecord::record_bytes(&of, curve), device["record"].bytes("preimage"));
            let certificate = DeviceRecord::certificate_bytes(&of, curve);
            assert_eq!(certificate, device["certificate"].bytes("preimage"));
            record.verify().unwrap();

            let other = DeviceRecord { signature: flipped(record.signature), ..record.clone() };
            assert_eq!(other.verify(), Err(Untrusted::Record));
            let other = DeviceRecord { certificate: flipped(record.certificate), ..record };
            assert_eq!(other.verify(), Err(Untrusted::Certificate));
        }
    }
}

#[test]
fn device_lists_are_the_vectors() {
    for item in NATIVE["accounts"].list("items") {
        let member_id = MemberId::new(item.array("member_id"));
        for list in item.list("device_lists") {
            let ids = list.list("device_ids").iter();
            let mut devices: Vec<DeviceId> =
                ids.map(|id| DeviceId::from_slice(&crate::vectors::unhex(id)).unwrap()).collect();
            let preimage = list.bytes("preimage");
            let mut list = DeviceList {
                account: item.text("account").parse().unwrap(),
                member_id,
                version: list.small("version"),
                created_ms: Timestamp(list.number("created_ms")),
                devices: devices.clone(),
                signature: Signature::new(list.array("signature")),
            };
            assert_eq!(list.signed_bytes(), preimage);
            list.verify().unwrap();

            let by_id = |id: &DeviceId| {
                let all = item.list("devices").iter().map(|device| record(member_id, device));
                all.into_iter().find(|record| record.device_id == *id).unwrap()
            };
            let records: Vec<DeviceRecord> = devices.iter().map(by_id).collect();
            verify_account(&list, &records).unwrap();
            assert_eq!(verify_account(&list, &[]), Err(Untrusted::Records));

            list.version += 1;
            assert_eq!(list.verify(), Err(Untrusted::List));
            devices.reverse();
            if devices.len() > 1 {
                list.devices = devices;
                assert_eq!(list.verify(), Err(Untrusted::Form));
            }
            let twice = list.devices[0];
            list.devices = vec![twice, twice];
            assert_eq!(list.verify(), Err(Untrusted::Form));
            list.devices.clear();
            assert_eq!(list.verify(), Err(Untrusted::Form));
        }
    }
}

#[test]
fn one_time_keys_and_logins_are_the_vectors() {
    for item in NATIVE["accounts"].list("items") {
        for device in item.list("devices") {
            let id = DeviceId::new(device.array("device_id"));
            let keys = device.list("one_time_keys").iter().chain([&device["fallback_key"]]);
            for value in keys {
                let mut key = one_time_key(value);
                assert_eq!(key.signed_bytes(&id), value.bytes("preimage"));
                key.verify(&id).unwrap();
                key.fallback = !key.fallback;
                assert_eq!(key.verify(&id), Err(Untrusted::OneTimeKey));
            }
            let login = &device["login"];
            let (server, nonce) = (login.text("server"), Nonce::new(login.array("nonce")));
            let signature = Signature::new(login.array("signature"));
            assert_eq!(login_bytes(server, &id, &nonce), login.bytes("preimage"));
            verify_login(server, &id, &nonce, &signature).unwrap();
            let elsewhere = verify_login("evil.example", &id, &nonce, &signature);
            assert_eq!(elsewhere, Err(Untrusted::Login));
        }
    }
}

#[test]
fn safety_numbers_are_the_vectors_in_either_order() {
    for item in NATIVE["accounts"].list("safety_numbers") {
        let ids: Vec<MemberId> = item
            .list("member_ids")
            .iter()
            .map(|id| MemberId::from_slice(&crate::vectors::unhex(id)).unwrap())
            .collect();
        assert_eq!(safety_number(&ids[0], &ids[1]), item.text("safety_number"));
        assert_eq!(safety_number(&ids[1], &ids[0]), item.text("safety_number"));
    }
}

#[test]
fn people_of_the_vectors_are_certified() {
    for person in NATIVE.list("people") {
        let member_id = MemberId::new(person.array("member_id"));
        for device in person.list("devices") {
            let of = DeviceOf { member_id, device_id: DeviceId::new(device.array("device_id")) };
            let curve = CurveKey::new(device.array("curve25519"));
            let certificate = Signature::new(device.array("certificate"));
            causeway_protocol::device::verify_certificate(&of, &curve, &certificate).unwrap();
        }
    }
}

#[test]
fn an_account_is_a_localpart_and_a_server_that_may_have_a_port() {
    let account: AccountId = "ann/1:a.example:8448".parse().unwrap();
    assert_eq!((account.localpart(), account.server()), ("ann/1", "a.example:8448"));
    assert_eq!(format!("{account:?}"), "AccountId(ann/1:a.example:8448)");
}

//! Keys from seeds, and what identities and devices sign about one another.

use causeway_protocol::{
    device::{
        DeviceList, DeviceOf, DeviceRecord, OneTimeKey, login_bytes, verify_certificate,
        verify_login,
    },
    ids::{CurveKey, DeviceId, KeyId, MemberId, Nonce, Signature, Timestamp},
    keys,
};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::Value;
use sha2::{Digest as _, Sha512};
use vodozemac::{Curve25519PublicKey, Curve25519SecretKey};

use super::report::{Check, Failure, Fields, ensure, same};

/// The key with this seed.
pub(crate) fn signer(item: &Value, seed: &str) -> Result<SigningKey, Failure> {
    Ok(SigningKey::from_bytes(&item.array(seed)?))
}

pub(crate) fn sign(key: &SigningKey, bytes: &[u8]) -> Signature {
    Signature::new(key.sign(bytes).to_bytes())
}

fn curve25519(item: &Value) -> Result<CurveKey, Failure> {
    let secret = Curve25519SecretKey::from_slice(&item.array("curve25519_secret")?);
    let key = CurveKey::new(Curve25519PublicKey::from(&secret).to_bytes());
    same("Curve25519 key", key.as_bytes(), &item.array("curve25519")?)?;
    keys::check_curve25519(&key)?;
    Ok(key)
}

/// Ids are the public halves of the seeds, and certificates are made and verify.
pub(crate) fn person(person: &Value) -> Check {
    let identity = signer(person, "identity_seed")?;
    let member_id = MemberId::new(identity.verifying_key().to_bytes());
    same("member_id", member_id.as_bytes(), &person.array("member_id")?)?;
    for device in person.items("devices")? {
        let key = signer(device, "device_seed")?;
        let of = DeviceOf { member_id, device_id: DeviceId::new(key.verifying_key().to_bytes()) };
        same("device_id", of.device_id.as_bytes(), &device.array("device_id")?)?;
        let curve = curve25519(device)?;
        let certificate = sign(&identity, &DeviceRecord::certificate_bytes(&of, &curve));
        same("certificate", certificate.as_bytes(), &device.array("certificate")?)?;
        verify_certificate(&of, &curve, &certificate)?;
    }
    Ok(())
}

/// Everything that an account's keys sign, made again and verified.
pub(crate) fn account(item: &Value) -> Check {
    let identity = signer(item, "identity_seed")?;
    let member_id = MemberId::new(identity.verifying_key().to_bytes());
    same("member_id", member_id.as_bytes(), &item.array("member_id")?)?;
    for entry in item.items("devices")? {
        let key = signer(entry, "device_seed")?;
        let of = DeviceOf { member_id, device_id: DeviceId::new(key.verifying_key().to_bytes()) };
        same("device_id", of.device_id.as_bytes(), &entry.array("device_id")?)?;
        let curve = curve25519(entry)?;
        let signed = |name: &str, key: &SigningKey, bytes: Vec<u8>| -> Result<Signature, Failure> {
            made(entry.field(name)?, key, &bytes)
        };
        let record = DeviceRecord {
            member_id,
            device_id: of.device_id,
            curve25519: curve,
            signature: signed("record", &key, DeviceRecord::record_bytes(&of, &curve))?,
            certificate: signed(
                "certificate",
                &identity,
                DeviceRecord::certificate_bytes(&of, &curve),
            )?,
        };
        record.verify()?;
        for item in entry.items("one_time_keys")?.into_iter().chain([entry.field("fallback_key")?])
        {
            one_time_key(item, &key, &of.device_id)?;
        }
        let login = entry.field("login")?;
        let (server, nonce) = (login.text("server")?, Nonce::new(login.array("nonce")?));
        let bytes = login_bytes(server, &of.device_id, &nonce);
        let signature = made(login, &key, &bytes)?;
        verify_login(server, &of.device_id, &nonce, &signature)?;
    }
    for list in item.items("device_lists")? {
        let mut made_list = DeviceList {
            account: item.text("account")?.parse()?,
            member_id,
            version: list.number("version")?,
            created_ms: Timestamp(list.number("created_ms")?),
            devices: list.names("device_ids", DeviceId::new)?,
            signature: Signature::new([0; 64]),
        };
        made_list.signature = made(list, &identity, &made_list.signed_bytes())?;
        made_list.verify()?;
        made_list.version += 1;
        ensure(made_list.verify().is_err(), "a list of another version verifies")?;
    }
    Ok(())
}

fn one_time_key(item: &Value, device: &SigningKey, id: &DeviceId) -> Check {
    let mut key = OneTimeKey {
        key_id: KeyId::new(item.number::<u64>("key_id")?.to_be_bytes()),
        fallback: item.number::<u8>("fallback")? == 1,
        curve25519: curve25519(item)?,
        signature: Signature::new([0; 64]),
    };
    key.signature = made(item, device, &key.signed_bytes(id))?;
    key.verify(id)?;
    key.fallback = !key.fallback;
    ensure(key.verify(id).is_err(), "a one-time key verifies as a fallback key")
}

/// The signature over `bytes`, which are the item's preimage, is the item's.
fn made(item: &Value, key: &SigningKey, bytes: &[u8]) -> Result<Signature, Failure> {
    same("preimage", bytes, item.bytes("preimage")?.as_slice())?;
    let signature = sign(key, bytes);
    same("signature", signature.as_bytes(), &item.array("signature")?)?;
    Ok(signature)
}

pub(crate) fn safety_number(item: &Value) -> Check {
    let ids = item.names("member_ids", MemberId::new)?;
    let [one, other] = ids.as_slice() else { return Err(Failure("not two members".to_owned())) };
    let (lower, higher) = (one.min(other), one.max(other));
    let preimage = [b"cg/safety/v1\0", lower.as_bytes().as_slice(), higher.as_bytes()].concat();
    same("preimage", preimage.as_slice(), item.bytes("preimage")?.as_slice())?;
    same("SHA-512", Sha512::digest(&preimage).as_slice(), item.bytes("sha512")?.as_slice())?;
    same("safety number", keys::safety_number(one, other).as_str(), item.text("safety_number")?)?;
    same("safety number", keys::safety_number(other, one).as_str(), item.text("safety_number")?)
}

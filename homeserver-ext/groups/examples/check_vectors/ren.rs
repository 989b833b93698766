//! `seed004.json`: the legacy suite `ren_a` (protocol §6), and its second reading for information.

use causeway_groups::schemes::legacy::{
    HeldKeys, OpenError, OwnKey, Suite,
    ren_a::{Chain, Envelope, NotWrapped, unwrap, wrap},
};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, aead::Aead as _};
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

use super::{
    opus::outcome,
    report::{Check, Failure, Fields as _, Report, ensure, same},
};

/// Sections of the file, and what stands in those that are objects.
const KNOWN: &[(&str, &[&str])] = &[
    ("readings", &[]),
    ("sender", &[]),
    ("literal_step", &[]),
    ("messages", &[]),
    ("messages_B", &[]),
    ("key_wrap_vectors", &[]),
    ("key_wrap_negative", &[]),
    ("delivery_scripts", &[]),
];

pub(crate) fn published(report: &mut Report, file: &Value) {
    report.section("sender", || Ok(vec![file.field("sender")?]), |item| sender(file, item));
    report.section(
        "literal_step",
        || Ok(vec![file.field("literal_step")?]),
        |item| literal(file, item),
    );
    report.section("messages", || file.items("messages"), |item| message(file, item));
    report.section("messages_B", || file.items("messages_B"), |item| second(file, item));
    report.section("key_wrap", || file.items("key_wrap_vectors"), |item| wrapped(file, item));
    report.section(
        "key_wrap_negative",
        || file.items("key_wrap_negative"),
        |item| not_wrapped(file, item),
    );
    report.section(
        "delivery_scripts",
        || file.items("delivery_scripts"),
        |item| script(file, item),
    );
    report.skip_unknown(file, KNOWN);
}

fn number32(item: &Value, name: &str) -> Result<i32, Failure> {
    let number = item.field(name)?.as_i64().and_then(|number| i32::try_from(number).ok());
    number.ok_or_else(|| Failure(format!("{name} is no such number")))
}

fn ids(file: &Value) -> Result<(i32, i32), Failure> {
    let sender = file.field("sender")?;
    Ok((number32(sender, "group_id")?, number32(sender, "sender_id")?))
}

fn own(file: &Value) -> Result<OwnKey, Failure> {
    let sender = file.field("sender")?;
    let (key, signing) = (sender.array("chain_key")?, sender.array("signing_seed")?);
    Ok(OwnKey::new(
        Suite::RenA,
        sender.number("chain_id")?,
        &Zeroizing::new(key),
        &Zeroizing::new(signing),
    ))
}

fn own_at(file: &Value, iteration: u32) -> Result<OwnKey, Failure> {
    let mut own = own(file)?;
    own.skip(u64::from(iteration));
    Ok(own)
}

fn sender(file: &Value, item: &Value) -> Check {
    let chain = Chain::try_from(own(file)?.given())?;
    same("signing_public", chain.signing, item.array("signing_public")?)?;
    same("chain_id", chain.chain_id, item.number("chain_id")?)?;
    let after = Chain::try_from(own_at(file, 24)?.given())?;
    same("chain_key_after_24", *after.chain_key, file.array("chain_key_after_24")?)
}

/// Why the seed cannot be read as it is written.
fn literal(file: &Value, item: &Value) -> Check {
    let key: [u8; 32] = file.field("sender")?.array("chain_key")?;
    let mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&key)?.chain_update(0_u32.to_le_bytes());
    let hash = mac.finalize().into_bytes();
    same("hmac", hash.as_slice(), &item.bytes("hmac")?)?;
    same("first_32", hash.get(..32), Some(item.bytes("first_32")?.as_slice()))?;
    same("rest", hash.get(32..), Some(item.bytes("rest")?.as_slice()))?;
    same("rest_len", hash.len() - 32, item.number("rest_len")?)
}

fn message(file: &Value, item: &Value) -> Check {
    let iteration: u32 = item.number("iteration")?;
    let mut own = own_at(file, iteration)?;
    let given = Chain::try_from(own.given())?;
    same("chain_key", *given.chain_key, item.array("chain_key")?)?;
    let plaintext = item.bytes("plaintext")?;
    let (at, ciphertext, signature) = own.seal([0; 12], &plaintext)?;
    let at = u32::try_from(at)?;
    same("iteration", at, iteration)?;
    same("ciphertext", &ciphertext, &item.bytes("ciphertext")?)?;
    same("signature", signature, item.array("signature")?)?;
    keys(item, &given)?;
    let wire = item.field("wire_json")?;
    let made = Envelope::new(ids(file)?, given.chain_id, (at, &ciphertext, signature));
    same("wire_json", &serde_json::from_str(&made.to_json())?, wire)?;
    let read = Envelope::parse(wire.to_string().as_bytes())?;
    same("read", &read, &made)?;
    for mut held in [HeldKeys::new(own_at(file, 0)?.given())?, HeldKeys::new(&given)?] {
        let opened = read.open(ids(file)?, &mut held)?;
        same("opened", opened.as_slice(), &plaintext)?;
    }
    Ok(())
}

/// What stands between chain key and ciphertext.
fn keys(item: &Value, given: &Chain) -> Check {
    let mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&*given.chain_key)?;
    let mac = mac.chain_update([1]).chain_update(given.iteration.to_le_bytes());
    same("mk_seed", mac.finalize().into_bytes().as_slice(), &item.bytes("mk_seed")?)?;
    let (key, iv) = (item.array::<32>("cipher_key")?, item.array::<12>("iv")?);
    let opened = ChaCha20Poly1305::new((&key).into())
        .decrypt(&iv.into(), item.bytes("ciphertext")?.as_slice())
        .map_err(|_| Failure("it does not open with cipher_key and iv".to_owned()))?;
    same("plaintext", &opened, &item.bytes("plaintext")?)
}

/// The reading that widens the hash. It is not built; the file is checked against itself.
fn second(file: &Value, item: &Value) -> Check {
    let iteration: u32 = item.number("iteration")?;
    let mac = <Hmac<Sha512> as hmac::Mac>::new_from_slice(&item.bytes("chain_key")?)?;
    let out = mac.chain_update(iteration.to_le_bytes()).finalize().into_bytes();
    let (next, key) = out.split_at(32);
    same("cipher_key", key, &item.bytes("cipher_key")?)?;
    let all = file.items("messages_B")?;
    if let Some(after) = all.get(usize::try_from(iteration)? + 1) {
        same("next chain_key", next, &after.bytes("chain_key")?)?;
    }
    let mut iv = [0; 12];
    iv[..4].copy_from_slice(&(iteration + 1).to_le_bytes());
    same("iv", iv, item.array("iv")?)?;
    let key: [u8; 32] = item.array("cipher_key")?;
    let sealed = ChaCha20Poly1305::new((&key).into())
        .encrypt(&iv.into(), item.bytes("plaintext")?.as_slice())
        .map_err(|_| Failure("nothing was sealed".to_owned()))?;
    same("ciphertext", &sealed, &item.bytes("ciphertext")?)?;
    let signing = SigningKey::from_bytes(&file.field("sender")?.array("signing_seed")?);
    same("signature", signing.sign(&sealed).to_bytes(), item.array("signature")?)
}

fn wrapped(file: &Value, item: &Value) -> Check {
    let iteration: u32 = item.number("iteration")?;
    let chain = Chain::try_from(own_at(file, iteration)?.given())?;
    same("chain_key", *chain.chain_key, item.array("chain_key")?)?;
    let secret = |name: &str| Ok::<_, Failure>(Zeroizing::new(item.array::<32>(name)?));
    let (ephemeral, recipient) = (secret("ephemeral_private")?, secret("recipient_private")?);
    let public: [u8; 32] = item.array("recipient_public")?;
    let blob = wrap(ids(file)?, &chain, &ephemeral, &public)?;
    same("blob", blob.as_slice(), &item.bytes("blob")?)?;
    same("blob_len", blob.len(), item.number("blob_len")?)?;
    same("ephemeral_public", blob.get(..32), Some(&item.bytes("ephemeral_public")?[..]))?;
    let of = (chain.chain_id, iteration);
    let opened = unwrap(ids(file)?, of, chain.signing, &recipient, &blob)?;
    same("unwrapped", *opened.chain_key, *chain.chain_key)?;
    // Whatever the context says otherwise, it does not open.
    let (group, sender) = ids(file)?;
    let others = [
        unwrap((group + 1, sender), of, chain.signing, &recipient, &blob),
        unwrap((group, sender + 1), of, chain.signing, &recipient, &blob),
        unwrap((group, sender), (of.0 + 1, of.1), chain.signing, &recipient, &blob),
        unwrap((group, sender), (of.0, of.1 + 1), chain.signing, &recipient, &blob),
        unwrap((group, sender), of, [0; 32], &recipient, &blob),
        unwrap((group, sender), of, chain.signing, &ephemeral, &blob),
    ];
    ensure(
        others.into_iter().all(|other| other.err() == Some(NotWrapped::Blob)),
        "it opens in another context",
    )
}

fn not_wrapped(file: &Value, item: &Value) -> Check {
    ensure(item.text("expect")?.contains("non-contributory"), "another expectation")?;
    let public: [u8; 32] = item.array("ephemeral_public")?;
    let chain = Chain::try_from(own(file)?.given())?;
    let secret = Zeroizing::new([9; 32]);
    let to = wrap(ids(file)?, &chain, &secret, &public).err();
    same("as recipient", to, Some(NotWrapped::Key))?;
    let mut blob = [0; 80];
    blob[..32].copy_from_slice(&public);
    let from = unwrap(ids(file)?, (chain.chain_id, 0), chain.signing, &secret, &blob).err();
    same("as ephemeral key", from, Some(NotWrapped::Key))
}

fn script(file: &Value, item: &Value) -> Check {
    let mut held = HeldKeys::new(own(file)?.given())?;
    let (deliver, expected) = (item.items("deliver")?, item.items("expect")?);
    same("length of expect", expected.len(), deliver.len())?;
    for (iteration, expected) in deliver.into_iter().zip(expected) {
        let at = iteration.as_u64().and_then(|at| usize::try_from(at).ok()).unwrap_or(usize::MAX);
        let messages = file.items("messages")?;
        let message = messages.get(at).ok_or_else(|| Failure("no such message".to_owned()))?;
        let wire = Envelope::parse(message.field("wire_json")?.to_string().as_bytes())?;
        let opened: Result<(), OpenError> = wire.open(ids(file)?, &mut held).map(drop);
        same(&format!("outcome of {at}"), Some(outcome(opened)), expected.as_str())?;
        held = HeldKeys::decode(Suite::RenA, &held.encode())
            .ok_or_else(|| Failure("what was stored cannot be read".to_owned()))?;
    }
    Ok(())
}

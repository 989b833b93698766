//! Suites 3 and 4 of `v2.json`: chains of one HMAC after the other. No group can have them (an op that
//! names one is refused, `bad_suite`), so they are made here of the words of the protocol alone, and what
//! is built must refuse each of their messages.

use aes_gcm::Aes256Gcm;
use causeway_groups::schemes::sender_keys::{OpenError, Wire};
use causeway_protocol::envelope::{Kind, Recipient, compute_id};
use chacha20poly1305::{
    ChaCha20Poly1305,
    aead::{Aead, KeyInit, Payload},
};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::report::{Check, Failure, Fields as _, Named, Report, ensure, same};

/// One message, its chain, and the file that both are in.
struct Message<'a> {
    file: &'a Value,
    chain: &'a Value,
    item: &'a Value,
}

impl Named for Message<'_> {
    fn name(&self) -> String {
        format!("suite {} index {}", self.chain["suite"], self.item["index"])
    }
}

pub(crate) fn published(report: &mut Report, file: &Value, chain: &Value) {
    report.section("linear chain id", || Ok(vec![chain]), |chain| chain_id(file, chain));
    report.section(
        "linear messages",
        || {
            let items = chain.items("messages")?.into_iter();
            Ok(items.map(|item| Message { file, chain, item }).collect())
        },
        message,
    );
}

fn sender(chain: &Value) -> Result<[u8; 32], Failure> {
    let preimage = chain.bytes("cert_preimage")?;
    let sender = preimage.get(49..81).and_then(|sender| sender.try_into().ok());
    sender.ok_or_else(|| Failure("short preimage".to_owned()))
}

fn chain_id(file: &Value, chain: &Value) -> Check {
    let roster = file.field("roster")?;
    let (suite, epoch): (u8, u32) = (chain.number("suite")?, roster.number("epoch")?);
    let public = SigningKey::from_bytes(&chain.array("signing_seed")?).verifying_key().to_bytes();
    same("signing key", public, chain.array("signing_public")?)?;
    let preimage = [
        b"cg/sk/v2/chain\0\0".as_slice(),
        &[suite],
        &roster.bytes("group_id")?,
        &sender(chain)?,
        &epoch.to_be_bytes(),
        &public,
        &chain.bytes("chain_rand")?,
    ]
    .concat();
    same("preimage", preimage.as_slice(), &chain.bytes("cert_preimage")?)?;
    same("chain_id", Sha256::digest(&preimage).as_slice(), &chain.bytes("chain_id")?)
}

fn hmac(key: &[u8], byte: u8) -> Result<[u8; 32], Failure> {
    Ok(<Hmac<Sha256> as hmac::Mac>::new_from_slice(key)?
        .chain_update([byte])
        .finalize()
        .into_bytes()
        .into())
}

/// The key of a message: `HMAC(ck, 1)`, and the next `ck` is `HMAC(ck, 2)`.
fn message_key(chain: &Value, index: u32) -> Result<[u8; 32], Failure> {
    let mut ck = chain.array("root")?;
    for _ in 0..index {
        ck = hmac(&ck, 2)?;
    }
    hmac(&ck, 1)
}

/// All but the message key is as in suites 1 and 2.
fn message(message: &Message<'_>) -> Check {
    let Message { file, chain, item } = message;
    let (index, suite): (u32, u8) = (item.number("index")?, chain.number("suite")?);
    let (plaintext, wire) = (item.bytes("plaintext")?, item.bytes("wire")?);
    let (salt, id) = (item.bytes("salt")?, chain.bytes("chain_id")?);
    let roster = file.field("roster")?.bytes("hash")?;
    let group = file.field("roster")?.bytes("group_id")?;
    let mk = message_key(chain, index)?;
    same("mk", mk, item.array("mk")?)?;

    let info = [b"cg/sk/v2/msg".as_slice(), &[suite], &salt, &id].concat();
    let mut keys = [0; 76];
    let prk = Hkdf::<Sha256>::from_prk(&mk).map_err(|_| Failure("short mk".to_owned()))?;
    prk.expand(&info, &mut keys).map_err(|_| Failure("no keys".to_owned()))?;
    let given = [item.bytes("key")?, item.bytes("nonce")?, item.bytes("commit")?].concat();
    same("key, nonce and commit", keys.as_slice(), given.as_slice())?;

    let aad = [
        b"cg/senderkey/v2\0".as_slice(),
        &[suite],
        &index.to_be_bytes(),
        &salt,
        &group,
        &sender(chain)?,
        &id,
        &roster,
    ]
    .concat();
    let sealed = sealed(suite, item, &aad, &plaintext)?;
    let digest =
        Sha256::digest([&aad, &item.bytes("commit")?, &sealed].map(Vec::as_slice).concat());
    let signed = [b"cg/sk/v2/sign\0\0\0".as_slice(), &digest].concat();
    let signing = SigningKey::from_bytes(&chain.array("signing_seed")?);
    let signature = signing.sign(&signed);
    let start = |bytes: &[u8]| bytes.get(..4).unwrap_or_default().to_vec();
    let head = [vec![0x20 | suite], start(&id), leb128(index), start(&roster), salt].concat();
    let made = [head.as_slice(), &sealed, &signature.to_bytes()].concat();
    same("wire", made.as_slice(), wire.as_slice())?;
    same("overhead", wire.len() - plaintext.len(), item.number("overhead")?)?;
    let name = compute_id(Kind::Message, None, &Recipient::Broadcast, &wire, None);
    same("message id", name.as_bytes(), &item.array("message_id")?)?;

    let mut bent = signature.to_bytes();
    bent[7] ^= 1;
    let bent = signing.verifying_key().verify_strict(&signed, &Signature::from_bytes(&bent));
    ensure(bent.is_err(), "a bent signature is one")?;
    same("what is built", Wire::parse(&wire).err(), Some(OpenError::Malformed))
}

fn sealed(suite: u8, item: &Value, aad: &[u8], msg: &[u8]) -> Result<Vec<u8>, Failure> {
    let (key, nonce): ([u8; 32], [u8; 12]) = (item.array("key")?, item.array("nonce")?);
    let what = Payload { msg, aad };
    let sealed = match suite {
        3 => Aes256Gcm::new((&key).into()).encrypt(&nonce.into(), what),
        4 => ChaCha20Poly1305::new((&key).into()).encrypt(&nonce.into(), what),
        other => return Err(Failure(format!("there is no suite {other}"))),
    };
    sealed.map_err(|_| Failure("nothing was sealed".to_owned()))
}

fn leb128(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

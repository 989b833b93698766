//! `seed003.json`: the legacy suite `secirc` (protocol §6).

use causeway_groups::schemes::legacy::secirc::{
    Algorithm, GroupKey, Message, OVERLAP_S, OpenError, message_id,
};
use serde_json::Value;
use zeroize::Zeroizing;

use super::report::{Check, Failure, Fields as _, Report, ensure, same};

/// Sections of the file, and what stands in those that are objects.
const KNOWN: &[(&str, &[&str])] = &[
    ("reading", &[]),
    ("group_keys", &[]),
    ("messages", &[]),
    ("xsalsa20_fixed_nonce24", &[]),
    ("envelope_example", &[]),
    ("rotation_script", &[]),
];

pub(crate) fn published(report: &mut Report, file: &Value) {
    report.section("group_keys", || file.items("group_keys"), |item| group_key(item));
    report.section("messages", || file.items("messages"), |item| message(file, item));
    report.section(
        "xsalsa20_fixed_nonce24",
        || Ok(vec![file.field("xsalsa20_fixed_nonce24")?]),
        |item| secretbox(item),
    );
    report.section(
        "envelope_example",
        || Ok(vec![file.field("envelope_example")?]),
        |item| envelope(file, item),
    );
    report.section("rotation_script", || file.items("rotation_script"), |item| step(file, item));
    report.skip_unknown(file, KNOWN);
}

fn key(item: &Value) -> Result<GroupKey, Failure> {
    let time = (item.number("created_at")?, item.number("expires_at")?);
    Ok(GroupKey::new(item.array("group_id")?, Zeroizing::new(item.array("key")?), time))
}

fn key_of(file: &Value, version: u64) -> Result<GroupKey, Failure> {
    let keys = file.items("group_keys")?;
    let found = keys.into_iter().find(|key| key.number("version").ok() == Some(version));
    key(found.ok_or_else(|| Failure(format!("no key of version {version}")))?)
}

fn group_key(item: &Value) -> Check {
    let (nonce, salt) = (item.bytes("nonce")?, item.bytes("salt")?);
    same("key_id", key(item)?.id(&nonce, &salt, item.text("time_str")?), item.array("key_id")?)
}

fn message(file: &Value, item: &Value) -> Check {
    let key = key_of(file, item.number("key_version")?)?;
    let algorithm: Algorithm = serde_json::from_value(item.field("algorithm")?.clone())?;
    let (nonce, boxed) = (item.bytes("nonce")?, item.bytes("encrypted_content")?);
    let message = Message {
        message_id: item.array("message_id")?,
        sender_id: item.array("sender_id")?,
        algorithm,
        nonce: &nonce,
        encrypted_content: &boxed,
        signature: item.array("signature_hmac")?,
    };
    let opened = key.open(&message)?;
    same("opened", opened.as_slice(), &item.bytes("plaintext")?)?;
    let id = message_id(&key.group_id, &message.sender_id, &opened, item.text("time_str")?);
    same("message_id", id, message.message_id)?;
    ensure(key.accepts(item.number("timestamp")?), "its key is not of its time")?;

    let mut signature = message.signature;
    signature[5] ^= 1;
    let wrong = key.open(&Message { signature, ..message }).err();
    same("with another MAC", wrong, Some(OpenError::Mac))?;
    let wrong = key.open(&Message { sender_id: [0; 16], ..message }).err();
    same("of another sender", wrong, Some(OpenError::Mac))?;
    let mut other = nonce.clone();
    other.iter_mut().take(1).for_each(|byte| *byte ^= 1);
    let wrong = key.open(&Message { nonce: &other, ..message }).err();
    same("with another nonce", wrong, Some(OpenError::Box))?;
    let short = nonce.get(1..).unwrap_or_default();
    let wrong = key.open(&Message { nonce: short, ..message }).err();
    same("with a short nonce", wrong, Some(OpenError::Nonce(11)))
}

fn secretbox(item: &Value) -> Check {
    let key = GroupKey::new([0; 16], Zeroizing::new(item.array("key")?), (0, 1));
    let (nonce, boxed) = (item.bytes("nonce")?, item.bytes("ciphertext")?);
    let opened = key.unbox(Algorithm::XSalsa20Poly1305, &nonce, &boxed)?;
    same("opened", opened.as_slice(), &item.bytes("plaintext")?)
}

/// What is delivered lacks nonce, MAC and algorithm: it is one of the messages, without them.
fn envelope(file: &Value, item: &Value) -> Check {
    let messages = file.items("messages")?;
    let whole = messages.iter().find(|m| m.get("message_id") == item.get("message_id"));
    let whole = whole.ok_or_else(|| Failure("none of the messages".to_owned()))?;
    for name in ["sender_id", "encrypted_content", "key_id", "timestamp"] {
        same(name, item.field(name)?, whole.field(name)?)?;
    }
    let key = key_of(file, whole.number("key_version")?)?;
    same("group_id", item.array("group_id")?, key.group_id)?;
    ensure(item.get("nonce").is_none() && item.get("signature").is_none(), "it can be opened")
}

fn step(file: &Value, item: &Value) -> Check {
    let keys = [key_of(file, 1)?, key_of(file, 2)?];
    let Some(at) = item.get("t").and_then(Value::as_str) else {
        // Who was removed has the key: what counts is when the server took a message, which no file
        // says. Imported lines are unverified for that reason.
        return same("event", item.text("event")?, "member removed");
    };
    let overlap = format!("+overlap({OVERLAP_S})");
    let (at, past) = at.strip_suffix(&overlap).map_or((at, 0), |at| (at, OVERLAP_S));
    let after = at.strip_prefix("created_at+").unwrap_or_default().parse::<u64>()?;
    let [first, _] = &keys;
    let now = first.created_at + after + past;
    let named: Vec<_> = ["v1", "v2"].into_iter().zip(&keys).collect();
    let accepted: Vec<_> = named.iter().filter(|(_, k)| k.accepts(now)).map(|(n, _)| *n).collect();
    let expected: Vec<_> = item.items("accept")?.into_iter().filter_map(Value::as_str).collect();
    same("accepted", accepted, expected)?;
    let Some(sends) = item.get("key").and_then(Value::as_str) else { return Ok(()) };
    let active: Vec<_> = named.iter().filter(|(_, k)| k.is_active(now)).map(|(n, _)| *n).collect();
    same("sends", active.as_slice(), &[sends.trim_end_matches(" for send")])
}

//! What an export of secIRC says.
//!
//! Seed 003 names no form of export, so it is the two structures it has, as JSON with hex. What the
//! server delivered alone cannot be opened: nonce, MAC and algorithm are not in it.

use std::collections::BTreeMap;

use causeway_protocol::{
    content::MAX_PLAINTEXT,
    ids::{ClientId, DeviceId, GroupId, Timestamp},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::super::line::Imported;
use crate::schemes::legacy::secirc::{Algorithm, GroupKey, Message};

const MAX_KEYS: usize = 1_024;
const MAX_MESSAGES: usize = 100_000;
/// Longest name of a group, characters.
const MAX_NAME: usize = 100;

/// What was read of a file.
pub(super) struct Read {
    /// By group, in the order of their times.
    pub(super) groups: Vec<Group>,
    /// Which messages were not taken, and why.
    pub(super) refused: Vec<(String, String)>,
}

/// A group's lines.
pub(super) struct Group {
    /// What it is called here.
    pub(super) id: GroupId,
    /// Its name there, or the beginning of its id.
    pub(super) name: String,
    /// What was said.
    pub(super) lines: Vec<Imported>,
}

#[derive(Deserialize)]
struct Export<'a> {
    #[serde(default)]
    groups: Vec<Named>,
    group_keys: Vec<KeyFields>,
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Named {
    group_id: String,
    name: String,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct KeyFields {
    group_id: String,
    key_id: String,
    key: String,
    created_at: u64,
    expires_at: u64,
}

#[derive(Deserialize)]
struct MessageFields {
    message_id: String,
    group_id: String,
    sender_id: String,
    encrypted_content: String,
    key_id: String,
    timestamp: u64,
    nonce: Option<String>,
    signature: Option<String>,
    algorithm: Option<Algorithm>,
}

type Keys = BTreeMap<([u8; 16], [u8; 16]), GroupKey>;

/// Reads an export, and opens what is in it.
///
/// # Errors
/// Why it is none, for people.
pub(super) fn read(text: &[u8]) -> Result<Read, String> {
    let export: Export<'_> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let Export { groups: said_names, group_keys, messages } = export;
    if group_keys.len() > MAX_KEYS {
        return Err(format!("it has more than {MAX_KEYS} keys"));
    }
    if messages.len() > MAX_MESSAGES {
        return Err(format!("it has more than {MAX_MESSAGES} messages"));
    }
    let mut keys = Keys::new();
    for (place, fields) in group_keys.iter().enumerate() {
        let (key_id, key) = key(fields).map_err(|why| format!("key {}: {why}", place + 1))?;
        keys.insert((key.group_id, key_id), key);
    }
    let mut names = BTreeMap::new();
    for Named { group_id, name } in said_names {
        names.insert(bytes::<16>("group_id", &group_id)?, name);
    }
    let (mut lines, mut refused) = (BTreeMap::<_, Vec<_>>::new(), Vec::new());
    for (place, raw) in messages.into_iter().enumerate() {
        match message(&keys, raw) {
            Ok((group, line)) => lines.entry(group).or_default().push(line),
            Err((id, why)) => {
                let which = id.map_or_else(String::new, |id| format!(" ({id})"));
                refused.push((format!("message {}{which}", place + 1), why));
            }
        }
    }
    let group = |(id, mut lines): ([u8; 16], Vec<Imported>)| {
        lines.sort_by_key(|line| line.sent_at_ms);
        let own = || format!("secirc-{}", hex::encode(id).get(..8).unwrap_or_default());
        let name: Option<String> = names.get(&id).map(|name| name.chars().take(MAX_NAME).collect());
        let name = name.filter(|name| !name.trim().is_empty()).unwrap_or_else(own);
        Group { id: group_id(&id), name, lines }
    };
    Ok(Read { groups: lines.into_iter().map(group).collect(), refused })
}

/// What a group of secIRC is called here.
fn group_id(id: &[u8; 16]) -> GroupId {
    let hash = Sha256::new().chain_update(b"causeway/import/secirc\0").chain_update(id);
    GroupId::new(hash.finalize().into())
}

fn key(fields: &KeyFields) -> Result<([u8; 16], GroupKey), String> {
    let mut secret = Zeroizing::new([0; 32]);
    hex::decode_to_slice(&fields.key, secret.as_mut_slice())
        .map_err(|_| "its key is not 32 bytes of hex".to_owned())?;
    let time = (fields.created_at, fields.expires_at);
    let key = GroupKey::new(bytes("group_id", &fields.group_id)?, secret, time);
    Ok((bytes("key_id", &fields.key_id)?, key))
}

type NotTaken = (Option<String>, String);

fn message(keys: &Keys, raw: &RawValue) -> Result<([u8; 16], Imported), NotTaken> {
    let fields: MessageFields =
        serde_json::from_str(raw.get()).map_err(|error| (None, error.to_string()))?;
    let id = bytes::<16>("message_id", &fields.message_id).map_err(|why| (None, why))?;
    opened(keys, id, &fields).map_err(|why| (Some(hex::encode(id)), why))
}

fn opened(
    keys: &Keys,
    message_id: [u8; 16],
    fields: &MessageFields,
) -> Result<([u8; 16], Imported), String> {
    let (group, sender_id) =
        (bytes("group_id", &fields.group_id)?, bytes::<16>("sender_id", &fields.sender_id)?);
    let (Some(nonce), Some(signature), Some(algorithm)) =
        (&fields.nonce, &fields.signature, fields.algorithm)
    else {
        return Err("it has no nonce, signature or algorithm: secIRC delivers messages without \
                    them, which nobody can open"
            .to_owned());
    };
    let key = keys.get(&(group, bytes("key_id", &fields.key_id)?));
    let key = key.ok_or("its key is not in the file")?;
    if !key.accepts(fields.timestamp) {
        return Err("its key was not in use at its time".to_owned());
    }
    let nonce = hex::decode(nonce).map_err(|_| "its nonce is no hex")?;
    let boxed = hex::decode(&fields.encrypted_content).map_err(|_| "its content is no hex")?;
    let signature = bytes("signature", signature)?;
    let kept = Message {
        message_id,
        sender_id,
        algorithm,
        nonce: &nonce,
        encrypted_content: &boxed,
        signature,
    };
    let text = key.open(&kept).map_err(|error| error.to_string())?;
    if text.len() > MAX_PLAINTEXT {
        return Err(format!("it is longer than {MAX_PLAINTEXT} bytes"));
    }
    let body = std::str::from_utf8(&text).map_err(|_| "it is no UTF-8 text")?;
    let mut device = [0; 32];
    device.iter_mut().zip(sender_id).for_each(|(to, from)| *to = from);
    let line = Imported {
        source: "secirc".to_owned(),
        sender: hex::encode(sender_id),
        device: DeviceId::new(device),
        client_id: ClientId::new(message_id),
        body: body.to_owned(),
        sent_at_ms: Timestamp(fields.timestamp.saturating_mul(1_000)),
    };
    Ok((group, line))
}

fn bytes<const N: usize>(name: &str, text: &str) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let read = hex::decode_to_slice(text, &mut bytes);
    read.map(|()| bytes).map_err(|_| format!("its {name} is not {N} bytes of hex"))
}

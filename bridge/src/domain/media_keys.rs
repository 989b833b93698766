//! Keys for what is said in a call, on their way between natives and Matrix users: the seam for encrypted
//! rooms. No I/O, and no cryptography.
//!
//! A queue for each way: keys for devices of Matrix, and keys from them. Its two ends are whoever speaks
//! Olm for the ghosts, and the native side's calls; neither is here. In a room that is not encrypted there
//! are no keys, and nothing is put in (`docs/decisions.md`).
//!
//! Wire: to-device `io.element.call.encryption_keys`, as Element Call 0.26 sends it in compatibility mode.

use std::collections::VecDeque;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use causeway_protocol::ids::Timestamp;
use ruma::{DeviceId, OwnedDeviceId, OwnedRoomId, OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// The type of the to-device event.
pub const KIND: &str = "io.element.call.encryption_keys";
/// Keys of one sender that wait for one receiver: as many as natives keep of a device (`docs/protocol.md` §9).
pub const MAX_OF_ONE: usize = 32;
/// Keys that wait, of all calls.
pub const MAX_WAITING: usize = 4_096;
/// How long one waits for its receiver, in ms: a device whose membership is not there by then asks anew by
/// coming anew.
pub const MAX_AGE_MS: u64 = 60_000;

/// A device of a participant: a ghost's, where it is a native's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Whose.
    pub user: OwnedUserId,
    /// Which.
    pub device: OwnedDeviceId,
}

/// What one sender's frames are sealed with, and its place in the ring of 256; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct MediaKey {
    /// Its place.
    pub index: u8,
    /// The key.
    pub material: Zeroizing<[u8; 16]>,
}

impl std::fmt::Debug for MediaKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MediaKey").field("index", &self.index).finish_non_exhaustive()
    }
}

/// A key on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passing {
    /// In whose call.
    pub room: OwnedRoomId,
    /// Whose frames it opens.
    pub from: Device,
    /// Who is to have it.
    pub to: Device,
    /// What it is.
    pub key: MediaKey,
}

/// Why an event is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Whoever carried it could have read it, or written it.
    #[error("the key came unencrypted")]
    Clear,
    /// It says that it is of another device than the one whose Olm session it came by.
    #[error("the key is said to be of another device than it came from")]
    Foreign,
    /// Not as the wire has it.
    #[error("the event is no key")]
    Malformed,
}

/// Keys that go one way, in the order in which they came.
#[derive(Debug, Default)]
pub struct MediaKeys {
    waiting: VecDeque<(Timestamp, Passing)>,
}

impl MediaKeys {
    /// Puts one in. One with the same place, of the same sender for the same receiver, gives way to it; so
    /// does the oldest of these two where there are too many of theirs, and else the oldest of all.
    pub fn put(&mut self, now: Timestamp, passing: Passing) {
        self.expire(now);
        let is_theirs = |it: &Passing| {
            (&it.room, &it.from, &it.to) == (&passing.room, &passing.from, &passing.to)
        };
        self.waiting.retain(|(_, it)| !(is_theirs(it) && it.key.index == passing.key.index));
        let of_one = self.waiting.iter().filter(|(_, it)| is_theirs(it)).count();
        if of_one >= MAX_OF_ONE {
            let oldest = self.waiting.iter().position(|(_, it)| is_theirs(it));
            oldest.and_then(|at| self.waiting.remove(at));
        } else if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((now, passing));
    }

    /// Takes out those for one device, the oldest first.
    pub fn take(&mut self, now: Timestamp, to: &Device) -> Vec<Passing> {
        self.expire(now);
        let (theirs, others) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, it)| it.to == *to);
        self.waiting = others;
        let theirs: VecDeque<(Timestamp, Passing)> = theirs;
        theirs.into_iter().map(|(_, passing)| passing).collect()
    }

    /// Lets go of what waits for a device that has left. What it gave before goes on: Element sends a last
    /// key after it has left.
    pub fn left(&mut self, device: &Device) {
        self.waiting.retain(|(_, it)| it.to != *device);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn expire(&mut self, now: Timestamp) {
        // A clock that was put back makes none older.
        self.waiting.retain(|(at, _)| now.0.saturating_sub(at.0) <= MAX_AGE_MS);
    }
}

/// The content of the event that gives a key, which is to be sealed for `passing.to` by Olm.
pub fn content(now: Timestamp, passing: &Passing) -> Value {
    let Passing { room, from: Device { user, device }, key, .. } = passing;
    json!({
        "keys": {"index": key.index, "key": STANDARD.encode(key.material.as_slice())},
        "room_id": room, "sent_ts": now.0,
        "member": {"id": format!("{user}:{device}"), "claimed_device_id": device},
        "session": {"application": "m.call", "call_id": "", "scope": "m.room"},
    })
}

#[derive(Deserialize)]
struct Content {
    keys: Keys,
    room_id: OwnedRoomId,
    member: Member,
}

#[derive(Deserialize)]
struct Keys {
    index: u8,
    key: String,
}

#[derive(Deserialize)]
struct Member {
    claimed_device_id: OwnedDeviceId,
}

/// Reads a key that `sender` gave to `to`; `by` is the device whose Olm session it came by, and nothing
/// where it came in clear.
///
/// # Errors
/// [`Refused`]
pub fn read(
    (sender, by): (&UserId, Option<&DeviceId>),
    to: Device,
    content: Value,
) -> Result<Passing, Refused> {
    let by = by.ok_or(Refused::Clear)?;
    let content: Content = serde_json::from_value(content).map_err(|_| Refused::Malformed)?;
    let Content { keys: Keys { index, key: text }, room_id: room, member } = content;
    let text = Zeroizing::new(text);
    if *by != *member.claimed_device_id {
        return Err(Refused::Foreign);
    }
    let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| Refused::Malformed)?;
    let bytes = Zeroizing::new(bytes);
    let material = bytes.as_slice().try_into().map_err(|_| Refused::Malformed)?;
    let key = MediaKey { index, material: Zeroizing::new(material) };
    let from = Device { user: sender.to_owned(), device: by.to_owned() };
    Ok(Passing { room, from, to, key })
}

#[cfg(test)]
mod tests {
    use ruma::{owned_device_id, owned_room_id, user_id};

    use super::*;

    fn device(user: &str) -> Device {
        Device { user: UserId::parse(user).unwrap(), device: owned_device_id!("PHONE") }
    }

    fn passing(to: &str, index: u8, byte: u8) -> Passing {
        Passing {
            room: owned_room_id!("!room:b.example"),
            from: device("@mia:b.example"),
            to: device(to),
            key: MediaKey { index, material: Zeroizing::new([byte; 16]) },
        }
    }

    const GHOST: &str = "@causeway_alice:b.example";

    #[test]
    fn a_key_comes_out_as_it_went_in_over_the_wire_and_through_the_queue() {
        let given = passing(GHOST, 7, 42);
        let wire = content(Timestamp(5), &given);
        assert_eq!(wire["keys"], json!({"index": 7, "key": "KioqKioqKioqKioqKioqKg=="}));
        assert_eq!(wire["member"]["id"], "@mia:b.example:PHONE");
        let by = Some(&*given.from.device);
        let read = read((&given.from.user, by), given.to.clone(), wire).unwrap();
        assert_eq!(read, given);
        let mut keys = MediaKeys::default();
        keys.put(Timestamp(5), read);
        assert_eq!(keys.take(Timestamp(6), &device("@other:b.example")), []);
        assert_eq!(keys.take(Timestamp(6), &given.to), [given]);
        assert!(keys.is_empty());
    }

    #[test]
    fn a_key_in_clear_of_another_device_or_of_another_length_is_none() {
        let given = passing(GHOST, 0, 1);
        let wire = || content(Timestamp(5), &given);
        let mia = user_id!("@mia:b.example");
        let reads = |by: Option<&str>, wire| {
            read((mia, by.map(Into::into)), given.to.clone(), wire).unwrap_err()
        };
        assert_eq!(reads(None, wire()), Refused::Clear);
        assert_eq!(reads(Some("TABLET"), wire()), Refused::Foreign);
        let with = |key: Value, value: Value| {
            let mut wire = wire();
            wire["keys"][key.as_str().unwrap()] = value;
            wire
        };
        for wrong in [
            with(json!("index"), json!(256)),
            with(json!("index"), json!(-1)),
            with(json!("key"), json!("KioqKg==")),
            with(json!("key"), json!("not base64")),
            json!({}),
            Value::Null,
        ] {
            assert_eq!(reads(Some("PHONE"), wrong.clone()), Refused::Malformed, "{wrong}");
        }
        assert!(!format!("{given:?}").contains("1, 1"), "{given:?}");
    }

    #[test]
    fn what_waits_is_bounded_and_the_oldest_gives_way() {
        let mut keys = MediaKeys::default();
        // Said again it takes the place of the one before.
        keys.put(Timestamp(0), passing(GHOST, 0, 1));
        keys.put(Timestamp(1), passing(GHOST, 0, 2));
        assert_eq!(keys.take(Timestamp(1), &device(GHOST)), [passing(GHOST, 0, 2)]);
        for index in 0..=255 {
            keys.put(Timestamp(2), passing(GHOST, index, index));
        }
        let taken = keys.take(Timestamp(2), &device(GHOST));
        let indices: Vec<_> = taken.iter().map(|it| it.key.index).collect();
        assert_eq!(indices, (224..=255).collect::<Vec<u8>>());
        for n in 0..MAX_WAITING + 100 {
            keys.put(Timestamp(3), passing(&format!("@causeway_{n}:b.example"), 0, 1));
        }
        assert_eq!(keys.len(), MAX_WAITING);
        assert_eq!(keys.take(Timestamp(3), &device("@causeway_99:b.example")), []);
        assert_eq!(keys.take(Timestamp(3), &device("@causeway_100:b.example")).len(), 1);
    }

    #[test]
    fn nothing_waits_for_who_has_left_or_for_longer_than_a_minute() {
        let mut keys = MediaKeys::default();
        keys.put(Timestamp(0), passing(GHOST, 0, 1));
        // What its sender gave before it left is still handed on.
        keys.left(&device("@mia:b.example"));
        assert_eq!(keys.len(), 1);
        keys.left(&device(GHOST));
        assert!(keys.is_empty());
        keys.put(Timestamp(0), passing(GHOST, 0, 1));
        assert_eq!(keys.take(Timestamp(MAX_AGE_MS + 1), &device(GHOST)), []);
        keys.put(Timestamp(MAX_AGE_MS), passing(GHOST, 0, 1));
        assert_eq!(keys.take(Timestamp(0), &device(GHOST)).len(), 1, "a clock that was put back");
    }
}

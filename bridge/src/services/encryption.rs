//! Which rooms are encrypted, as far as this process knows: before it is committed, so that what is on
//! its way already stops, and before the first word into a room, because what happened while nobody
//! listened comes later.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{OwnedRoomId, RoomId};
use serde::Deserialize;

use crate::domain::{ENCRYPTION, RoomEvent, UNREAD};

/// Rooms that are remembered; beyond, all are looked at again. Anybody on Matrix can make rooms that
/// the bridge hears of.
const MAX_ROOMS: usize = 10_000;

/// What is known of each room.
#[derive(Debug, Clone, Default)]
pub struct Encryption(Arc<Mutex<BTreeMap<OwnedRoomId, Known>>>);

/// What is known of a room.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    is_encrypted: bool,
    /// How often the homeserver may have been away when that was looked up
    /// ([`Matrix::breaks`](crate::gateway::matrix::Matrix::breaks)): it may have died over telling that
    /// the room turned.
    breaks: u64,
}

impl Encryption {
    /// Whether it is encrypted; `None` if this process has not looked yet, or not since the homeserver may
    /// have been away, which it may have been so often by now.
    pub fn of(&self, room: &RoomId, breaks: u64) -> Option<bool> {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = rooms.get(room)?;
        (known.is_encrypted || known.breaks == breaks).then_some(known.is_encrypted)
    }

    /// What was found by a look that began when the homeserver may have been away so often; once
    /// encrypted, it stays so.
    pub fn found(&self, room: &RoomId, encrypted: bool, breaks: u64) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.len() >= MAX_ROOMS && !rooms.contains_key(room) {
            rooms.clear();
        }
        let known = rooms.entry(room.to_owned()).or_default();
        known.is_encrypted |= encrypted;
        known.breaks = breaks;
    }

    /// Something shows that it may have turned: it is looked at again before the next word.
    fn doubt(&self, room: &RoomId) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rooms.get(room).is_some_and(|known| !known.is_encrypted) {
            rooms.remove(room);
        }
    }

    /// Takes notice of an event that is not judged yet.
    pub fn heard(&self, raw: &str) {
        #[derive(Deserialize)]
        struct Sign {
            #[serde(rename = "type")]
            kind: String,
            state_key: Option<String>,
            room_id: OwnedRoomId,
        }
        // Few events are worth a second reading.
        if !raw.contains(ENCRYPTION) && !raw.contains(UNREAD) {
            return;
        }
        if let Ok(Sign { kind, state_key, room_id }) = serde_json::from_str(raw) {
            self.sign(&room_id, &kind, state_key.as_deref());
        }
    }

    /// As [`heard`](Self::heard), of one that was read back.
    pub fn read(&self, event: &RoomEvent) {
        self.sign(&event.room_id, &event.kind, event.state_key.as_deref());
    }

    fn sign(&self, room: &RoomId, kind: &str, state_key: Option<&str>) {
        match (kind, state_key) {
            (ENCRYPTION, Some("")) => self.found(room, true, 0),
            (UNREAD, None) => self.doubt(room),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encrypted_room_stays_so() {
        let (encryption, room) = (Encryption::default(), OwnedRoomId::try_from("!r:x").unwrap());
        assert_eq!(encryption.of(&room, 0), None);
        for (found, is) in [(false, false), (true, true), (false, true)] {
            encryption.found(&room, found, 0);
            assert_eq!(encryption.of(&room, 0), Some(is));
        }
    }

    /// Found by an attack: a homeserver that died right after a room had turned told nobody.
    #[test]
    fn what_was_clear_before_the_homeserver_was_away_is_looked_at_again() {
        let (encryption, room) = (Encryption::default(), OwnedRoomId::try_from("!r:x").unwrap());
        encryption.found(&room, false, 3);
        assert_eq!((encryption.of(&room, 3), encryption.of(&room, 4)), (Some(false), None));
        encryption.found(&room, false, 4);
        assert_eq!(encryption.of(&room, 4), Some(false));
        encryption.found(&room, true, 4);
        assert_eq!(encryption.of(&room, 5), Some(true));
    }

    #[test]
    fn rooms_of_strangers_fill_no_memory_and_what_is_forgotten_is_looked_at_again() {
        let (encryption, ours) = (Encryption::default(), OwnedRoomId::try_from("!r:x").unwrap());
        encryption.found(&ours, true, 0);
        for n in 0..2 * MAX_ROOMS {
            encryption.heard(&format!(
                r#"{{"type":"m.room.encryption","state_key":"","room_id":"!{n}:x"}}"#
            ));
            assert!(encryption.0.lock().unwrap().len() <= MAX_ROOMS);
        }
        assert_eq!(encryption.of(&ours, 0), None, "not that it is clear");
    }

    #[test]
    fn what_cannot_be_read_is_a_sign_to_look_again() {
        let (encryption, room) = (Encryption::default(), OwnedRoomId::try_from("!r:x").unwrap());
        let heard = || encryption.heard(r#"{"type":"m.room.encrypted","room_id":"!r:x"}"#);
        for (found, after) in [(false, None), (true, Some(true))] {
            encryption.found(&room, found, 0);
            heard();
            assert_eq!(encryption.of(&room, 0), after);
        }
    }

    #[test]
    fn the_turn_is_heard_and_nothing_else() {
        let room = OwnedRoomId::try_from("!r:x").unwrap();
        for (raw, is) in [
            (
                r#"{"type":"m.room.encryption","state_key":"","room_id":"!r:x","sender":"@a:x"}"#,
                true,
            ),
            (r#"{"type":"m.room.encryption","room_id":"!r:x"}"#, false),
            (r#"{"type":"m.room.encryption","state_key":"x","room_id":"!r:x"}"#, false),
            (
                r#"{"type":"m.room.message","state_key":"","room_id":"!r:x","body":"m.room.encryption"}"#,
                false,
            ),
            (r#"{"type":"m.room.encryption","state_key":"","room_id":"!other:x"}"#, false),
            ("m.room.encryption", false),
        ] {
            let encryption = Encryption::default();
            encryption.heard(raw);
            assert_eq!(encryption.of(&room, 0), is.then_some(true), "{raw}");
        }
    }
}

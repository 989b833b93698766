//! What a room's own state says: who is in it, whether it is encrypted, who may speak.
//!
//! Read whenever a portal opens, opens again or follows into another room: what happened while the
//! bridge was not there comes by no event.

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::ids::AccountId;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ENCRYPTION, ghost::Names};

/// One event of a room's state.
#[derive(Debug, Clone, Deserialize)]
pub struct StateEvent {
    /// `m.room.member` and the like.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whom or what it is about.
    pub state_key: String,
    /// Who set it.
    pub sender: OwnedUserId,
    /// What it says.
    #[serde(default)]
    pub content: Map<String, Value>,
}

/// What a room's state says.
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which room.
    pub room: OwnedRoomId,
    /// The bot is in it.
    pub is_in: bool,
    /// The bot made it.
    pub is_made: bool,
    /// Matrix users in it, with the names that they go by there.
    pub people: BTreeMap<OwnedUserId, Option<String>>,
    /// Ghosts in it.
    pub ghosts: BTreeSet<AccountId>,
    /// Ghosts that somebody put out of it, and who.
    pub put_out: BTreeMap<AccountId, OwnedUserId>,
    /// It is encrypted.
    pub encrypted: bool,
    /// Its topic.
    pub topic: Option<String>,
    /// Those without power may not speak, ghosts among them.
    pub muted: bool,
    /// The room that it says it follows.
    pub predecessor: Option<OwnedRoomId>,
    /// The room that follows it.
    pub successor: Option<OwnedRoomId>,
}

impl Found {
    /// What `state`, the whole state of `room`, says to the bridge.
    pub fn of(names: &Names, room: &RoomId, state: &[StateEvent]) -> Self {
        let mut found = Self {
            room: room.to_owned(),
            is_in: false,
            is_made: false,
            people: BTreeMap::new(),
            ghosts: BTreeSet::new(),
            put_out: BTreeMap::new(),
            encrypted: false,
            topic: None,
            muted: false,
            predecessor: None,
            successor: None,
        };
        for event in state {
            match (event.kind.as_str(), event.state_key.as_str()) {
                ("m.room.member", target) => {
                    if let Ok(target) = UserId::parse(target) {
                        found.member(names, event, target);
                    }
                }
                ("m.room.create", "") => {
                    found.is_made = event.sender == *names.bot();
                    let before = event.content.get("predecessor");
                    found.predecessor = before.and_then(|before| room_in(before.get("room_id")));
                }
                (ENCRYPTION, "") => found.encrypted = true,
                ("m.room.topic", "") => {
                    let topic = event.content.get("topic").and_then(Value::as_str);
                    found.topic = topic.map(str::to_owned);
                }
                ("m.room.power_levels", "") => found.muted = is_muted(&event.content),
                ("m.room.tombstone", "") => found.successor = successor(&event.content),
                _ => {}
            }
        }
        found
    }

    fn member(&mut self, names: &Names, event: &StateEvent, target: OwnedUserId) {
        let membership = event.content.get("membership").and_then(Value::as_str);
        let is_in = membership == Some("join");
        if target == *names.bot() {
            self.is_in = is_in;
        } else if let Some(account) = names.account(&target) {
            let is_out = matches!(membership, Some("leave" | "ban"));
            if is_in {
                self.ghosts.insert(account);
            } else if is_out && !names.is_ours(&event.sender) {
                self.put_out.insert(account, event.sender.clone());
            }
        } else if is_in {
            let name = event.content.get("displayname").and_then(Value::as_str);
            self.people.insert(target, name.map(str::to_owned));
        }
    }
}

/// The room that a tombstone points to.
pub fn successor(tombstone: &Map<String, Value>) -> Option<OwnedRoomId> {
    room_in(tombstone.get("replacement_room"))
}

fn room_in(value: Option<&Value>) -> Option<OwnedRoomId> {
    value.and_then(Value::as_str).and_then(|room| RoomId::parse(room).ok())
}

/// Whether one of whom the power levels say nothing may not send messages.
fn is_muted(levels: &Map<String, Value>) -> bool {
    let level = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or(0);
    let needed = levels.get("events").and_then(|events| events.get("m.room.message"));
    let needed = needed.or_else(|| levels.get("events_default"));
    level(levels.get("users_default")) < level(needed)
}

#[cfg(test)]
#[path = "room_table.rs"]
mod table;

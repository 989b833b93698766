//! What a room's own state says: who is in it, whether it is encrypted, who may speak.
//!
//! Read whenever a portal opens, opens again or follows into another room: what happened while the
//! bridge was not there comes by no event.

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::ids::{AccountId, Timestamp};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
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
    /// By which event.
    #[serde(default)]
    pub event_id: Option<OwnedEventId>,
    /// When, by the sender's homeserver.
    #[serde(rename = "origin_server_ts", default)]
    pub at: Timestamp,
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
    /// Matrix users who are invited there.
    pub invited: BTreeSet<OwnedUserId>,
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
    /// The bot may invite there, without which no ghost gets in.
    pub may_invite: bool,
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
            invited: BTreeSet::new(),
            ghosts: BTreeSet::new(),
            put_out: BTreeMap::new(),
            encrypted: false,
            topic: None,
            muted: false,
            may_invite: true,
            predecessor: None,
            successor: None,
        };
        let powers = Powers::of_room(state);
        found.may_invite = powers.of(names.bot()) >= powers.to_invite();
        for event in state {
            match (event.kind.as_str(), event.state_key.as_str()) {
                ("m.room.member", target) => {
                    if let Ok(target) = UserId::parse(target) {
                        found.member(names, event, target);
                    }
                }
                ("m.room.create", "") => {
                    found.is_made = event.sender == *names.bot();
                    found.predecessor = predecessor(&event.content);
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
        } else if membership == Some("invite") {
            self.invited.insert(target);
        }
    }
}

/// Who may do what in a room (client-server API v1.16, `m.room.power_levels`; MSC4289 for those who
/// made it).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Powers {
    levels: Map<String, Value>,
    creators: Vec<OwnedUserId>,
    are_creators_above: bool,
}

impl Powers {
    /// As the whole state of a room has them.
    pub fn of_room(state: &[StateEvent]) -> Self {
        let mut powers = Self::default();
        for event in state {
            match (event.kind.as_str(), event.state_key.as_str()) {
                ("m.room.power_levels", "") => powers.levels.clone_from(&event.content),
                ("m.room.create", "") => {
                    powers.creators.push(event.sender.clone());
                    let version = event.content.get("room_version").and_then(Value::as_str);
                    let number: Option<u32> = version.unwrap_or("1").parse().ok();
                    powers.are_creators_above = number.is_some_and(|number| number >= 12);
                    let more = event.content.get("additional_creators").and_then(Value::as_array);
                    let more = more.into_iter().flatten().filter_map(Value::as_str);
                    powers.creators.extend(more.filter_map(|user| UserId::parse(user).ok()));
                }
                _ => {}
            }
        }
        powers
    }

    /// Somebody's power.
    pub fn of(&self, user: &UserId) -> i64 {
        let is_creator = self.creators.iter().any(|creator| *creator == *user);
        if is_creator && (self.are_creators_above || self.levels.is_empty()) {
            return i64::MAX;
        }
        let own = self.levels.get("users").and_then(|users| users.get(user.as_str()));
        level(own.or_else(|| self.levels.get("users_default")), 0)
    }

    /// What it takes to invite.
    pub fn to_invite(&self) -> i64 {
        level(self.levels.get("invite"), 0)
    }

    /// What it takes to close the room for good, by a tombstone.
    pub fn to_close(&self) -> i64 {
        let events = self.levels.get("events");
        let tombstone = events.and_then(|events| events.get("m.room.tombstone"));
        level(tombstone.or_else(|| self.levels.get("state_default")), 50)
    }
}

/// Older rooms may say numbers in strings.
fn level(value: Option<&Value>, default: i64) -> i64 {
    let number = |value: &Value| {
        value.as_i64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()))
    };
    value.and_then(number).unwrap_or(default)
}

/// Why nothing gets into a room that was replaced by `next`, into which the bridge did not get.
pub fn not_followed(next: &RoomId, why: &str) -> String {
    format!("the room was replaced by {next}, and the bridge is not there: {why}")
}

/// The room that a tombstone points to.
pub fn successor(tombstone: &Map<String, Value>) -> Option<OwnedRoomId> {
    room_in(tombstone.get("replacement_room"))
}

/// The room that a room's `m.room.create` says it follows.
pub fn predecessor(create: &Map<String, Value>) -> Option<OwnedRoomId> {
    create.get("predecessor").and_then(|before| room_in(before.get("room_id")))
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

//! What the homeserver has, by its own account: `/sync`, and the ways back into one room.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use reqwest::Method;
use ruma::{EventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{json, value::RawValue};

use super::{
    AGENT_DEVICE, Matrix, MatrixError, RELAY,
    invited::{self, Invitations, Invited},
    request::Call,
};
use crate::domain::relay_room;

/// Most of an answer. Synapse escapes what is not ASCII: an event of 64 KiB may take 192.
const MAX_SYNC: usize = 64 * 1024 * 1024;
/// Events of one room of agents that are shown at once; what is beyond comes by the links.
const OF_A_ROOM: u32 = 50;

/// What happened since a token.
#[derive(Debug, Default)]
pub struct Synced {
    /// From here on the next time.
    pub next: String,
    /// Rooms in which something happened.
    pub rooms: Vec<SyncedRoom>,
    /// What is shown of rooms to which the user is invited: among it the invitation.
    pub invites: Vec<(OwnedRoomId, Vec<Box<RawValue>>)>,
    /// There was more than is read at once: of all that happened nothing is here.
    pub is_passed_over: bool,
}

/// What happened in one room.
#[derive(Debug)]
pub struct SyncedRoom {
    /// Which.
    pub room: OwnedRoomId,
    /// Its events, oldest first, as the homeserver has them: without their `room_id`.
    pub events: Vec<Box<RawValue>>,
    /// There are more before them.
    pub limited: bool,
}

/// What came for the agent since a token.
#[derive(Debug, Default)]
pub struct ToAgent {
    /// From here on the next time.
    pub next: String,
    /// What other agents sent to its device, each with who did.
    pub frames: Vec<(OwnedUserId, serde_json::Value)>,
    /// What was said in rooms of agents, and by whom.
    pub events: Vec<(OwnedRoomId, OwnedUserId, serde_json::Value)>,
    /// Rooms in which who is there may be another than before.
    pub changed: BTreeSet<OwnedRoomId>,
    /// Rooms into which it is invited, and by whom.
    pub invites: BTreeMap<OwnedRoomId, Option<OwnedUserId>>,
    /// What happened in rooms, and invitations, are not here: there was more than is read at once.
    pub lacks_rooms: bool,
    /// Nor is what was sent to the device.
    pub is_passed_over: bool,
}

#[derive(Deserialize)]
struct Answer {
    next_batch: String,
    #[serde(default)]
    rooms: Rooms,
}

/// By id. Ids and invitations come of whichever homeserver made them, and ours looks at them hardly: one that
/// is none keeps no other away.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Rooms {
    join: BTreeMap<String, Box<RawValue>>,
    leave: BTreeMap<String, Box<RawValue>>,
    invite: BTreeMap<String, Box<RawValue>>,
}

impl Rooms {
    fn joined_or_left(&mut self) -> impl Iterator<Item = (OwnedRoomId, Room)> {
        understood(mem::take(&mut self.join)).chain(understood(mem::take(&mut self.leave)))
    }

    fn invites(&mut self) -> impl Iterator<Item = (OwnedRoomId, Invited)> {
        understood(mem::take(&mut self.invite))
    }
}

/// Those that are rooms, and of the specification's shape.
fn understood<T: DeserializeOwned>(
    rooms: BTreeMap<String, Box<RawValue>>,
) -> impl Iterator<Item = (OwnedRoomId, T)> {
    rooms.into_iter().filter_map(|(room, of)| {
        let understood = room.try_into().ok().zip(serde_json::from_str(of.get()).ok());
        if understood.is_none() {
            not_understood("a room or an invitation");
        }
        understood
    })
}

/// Counted and said, so that nothing is passed over in silence; not what it is, which a stranger wrote.
fn not_understood(what: &'static str) {
    metrics::counter!("causeway_sync_not_understood_total").increment(1);
    tracing::debug!("{what} that the homeserver shows is not of the specification");
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Room {
    timeline: Timeline,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Timeline {
    events: Vec<Box<RawValue>>,
    limited: bool,
}

#[derive(Deserialize)]
struct OfDevice {
    next_batch: String,
    #[serde(default)]
    to_device: ToDevice,
    #[serde(default)]
    rooms: Rooms,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ToDevice {
    events: Vec<Box<RawValue>>,
}

impl ToDevice {
    /// Each that is of the specification's shape: Synapse takes some of other homeservers that are not.
    fn understood(&self) -> impl Iterator<Item = Typed> {
        self.events.iter().filter_map(|event| {
            let event = serde_json::from_str(event.get()).ok();
            if event.is_none() {
                not_understood("something sent to a device");
            }
            event
        })
    }
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
    sender: Option<OwnedUserId>,
    #[serde(default)]
    content: serde_json::Value,
}

#[derive(Deserialize)]
struct Context {
    end: String,
}

/// What is right behind an event in its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// This place.
    Place(String),
    /// None that is named: what is known is known by its id, from the room's beginning on.
    Unnamed,
    /// The room does not have the event any more.
    Gone,
}

impl Matrix {
    /// `GET /_matrix/client/v3/sync` – what happened since `since` in the rooms that `user` is in,
    /// without waiting; without `since`, where each room is now.
    /// Of each room at most `timeline` events are shown.
    ///
    /// `nonce` is another number at each call, of this process or another: Synapse answers what it
    /// takes for the same request from a cache, for two minutes, and that would hide what came since.
    pub async fn sync(
        &self,
        user: &UserId,
        since: Option<&str>,
        timeline: u32,
        nonce: u64,
    ) -> Result<Synced, MatrixError> {
        let nothing = json!({"not_types": ["*"]});
        let filter = json!({
            "presence": nothing, "account_data": nothing,
            "room": {
                "state": {"not_types": ["*"], "lazy_load_members": true},
                "ephemeral": nothing, "account_data": nothing,
                "timeline": {"limit": timeline},
            },
        });
        let filter = another(&filter, nonce);
        let mut call = self
            .v3("sync", Method::GET, &["sync"])
            .acting_as(user)
            .query("timeout", "0")
            .query("set_presence", "offline")
            .query("filter", &filter)
            .up_to(MAX_SYNC);
        if let Some(since) = since {
            call = call.query("since", since);
        }
        let Answer { next_batch, mut rooms } = call.send().await?;
        let invites = rooms.invites().map(|(room, of)| (room, of.invite_state.events));
        let invites = invites.collect();
        let rooms = rooms.joined_or_left().map(|(room, Room { timeline })| SyncedRoom {
            room,
            events: timeline.events,
            limited: timeline.limited,
        });
        let rooms = rooms.collect();
        Ok(Synced { next: next_batch, rooms, invites, is_passed_over: false })
    }

    /// As [`Matrix::sync`] with one event of each room; where that, too, is more than is read at once, the place
    /// behind it: whoever invites the user writes as much as he likes of it, and would be in the answer each time.
    pub async fn sync_past(
        &self,
        user: &UserId,
        since: Option<&str>,
        nonce: u64,
    ) -> Result<Synced, MatrixError> {
        let synced = self.sync(user, since, 1, nonce).await;
        synced.or_else(|error| {
            let next = past(error, "the bot")?;
            Ok(Synced { next, is_passed_over: true, ..Synced::default() })
        })
    }

    /// `GET /_matrix/client/v3/sync` of one device – the types of what was sent to it since `since`, for
    /// the first of which a moment is waited, and the token of the next time.
    pub async fn to_device(
        &self,
        user: &UserId,
        device: &str,
        since: Option<&str>,
    ) -> Result<(String, Vec<String>), MatrixError> {
        let mut call = self.sync_of_device("to_device", user, device).soon();
        if let Some(since) = since {
            call = call.query("since", since).query("timeout", "5000");
        }
        let OfDevice { next_batch, to_device, .. } = call.send().await?;
        Ok((next_batch, to_device.understood().map(|event| event.kind).collect()))
    }

    /// `GET /_matrix/client/v3/sync` of the agent's device – what other agents sent to it since `since`,
    /// each with its sender, for the first of which is waited, and what came of rooms of agents; and the
    /// token of the next time. With that the homeserver lets go of what was shown.
    pub async fn to_agent(
        &self,
        user: &UserId,
        since: Option<&str>,
        wait: Duration,
    ) -> Result<ToAgent, MatrixError> {
        let nothing = json!({"not_types": ["*"]});
        let shown = json!({
            "types": [relay_room::MESSAGE, "m.room.member", "m.room.tombstone"],
            // What was there before the first look says nothing to anybody.
            "limit": if since.is_some() { OF_A_ROOM } else { 1 },
        });
        let rooms = json!({
            "timeline": shown, "state": {"not_types": ["*"], "lazy_load_members": true},
            "ephemeral": nothing, "account_data": nothing,
        });
        let mut call = self.sync_with("to_agent", (user, AGENT_DEVICE), &rooms).up_to(MAX_SYNC);
        if let Some(since) = since {
            call = call.query("since", since);
            call = call.query("timeout", &wait.as_millis().to_string());
        }
        match call.send().await {
            Ok(answer) => Ok(to_agent(answer, user, since.is_none())),
            // Whoever invites the agent writes as much as he likes of it: without its rooms it is short.
            Err(MatrixError::TooLong(max, _)) => {
                tracing::warn!(max, "the homeserver has more for the agent than is read at once");
                self.to_agent_alone(user, since).await
            }
            Err(error) => Err(error),
        }
    }

    /// What other agents sent to the agent's device since `since`, without its rooms, and without waiting.
    async fn to_agent_alone(
        &self,
        user: &UserId,
        since: Option<&str>,
    ) -> Result<ToAgent, MatrixError> {
        let mut call = self.sync_of_device("to_agent", user, AGENT_DEVICE).up_to(MAX_SYNC);
        if let Some(since) = since {
            call = call.query("since", since);
        }
        let came = call.send().await.map(|answer| to_agent(answer, user, since.is_none()));
        let came = came.or_else(|error| {
            // The links bring again what is not strangers'.
            let next = past(error, "the agent")?;
            Ok::<_, MatrixError>(ToAgent { next, is_passed_over: true, ..ToAgent::default() })
        });
        Ok(ToAgent { lacks_rooms: true, ..came? })
    }

    /// `GET /_matrix/client/v3/sync` – the rooms into which `user` is invited now, as many as are read at once.
    /// `nonce` as of [`Matrix::sync`].
    pub async fn invitations(&self, user: &UserId, nonce: u64) -> Result<Invitations, MatrixError> {
        let nothing = json!({"not_types": ["*"]});
        let filter = json!({
            "presence": nothing, "account_data": nothing,
            "room": {
                "state": nothing, "ephemeral": nothing, "account_data": nothing,
                "timeline": {"not_types": ["*"], "limit": 1},
            },
        });
        let call = self.v3("invitations", Method::GET, &["sync"]).acting_as(user);
        let call = call.query("timeout", "0").query("set_presence", "offline");
        let call = call.query("filter", &another(&filter, nonce)).up_to(MAX_SYNC);
        let (begins, is_whole) = call.beginning().await?;
        Ok(invited::read(user, &begins, is_whole))
    }

    /// What is sent to one device, and nothing else.
    fn sync_of_device(&self, name: &'static str, user: &UserId, device: &str) -> Call<'_> {
        self.sync_with(name, (user, device), &json!({"rooms": []}))
    }

    /// What is sent to one device, and of rooms what this filter says.
    fn sync_with(
        &self,
        name: &'static str,
        (user, device): (&UserId, &str),
        rooms: &serde_json::Value,
    ) -> Call<'_> {
        let nothing = json!({"not_types": ["*"]});
        let filter = json!({"presence": nothing, "account_data": nothing, "room": rooms});
        self.v3(name, Method::GET, &["sync"])
            .acting_as(user)
            .query("device_id", device)
            .query("set_presence", "offline")
            .query("filter", &filter.to_string())
    }

    /// `GET /_matrix/client/v3/rooms/{room}/context/{event}` – the place right behind an event,
    /// for [`Matrix::messages`].
    pub async fn place_behind(
        &self,
        user: &UserId,
        room: &RoomId,
        event: &EventId,
    ) -> Result<Behind, MatrixError> {
        let found = self
            .v3("context", Method::GET, &["rooms", room.as_str(), "context", event.as_str()])
            .acting_as(user)
            .query("limit", "0")
            .send::<Context>()
            .await;
        match found {
            Ok(context) => Ok(Behind::Place(context.end)),
            Err(error) if error.is_code("M_NOT_FOUND") => Ok(Behind::Gone),
            // Synapse says 403 of what the room's history settings hide.
            Err(error) if error.is_code("M_FORBIDDEN") => Ok(Behind::Unnamed),
            Err(MatrixError::Misunderstood(_)) => Ok(Behind::Unnamed),
            Err(error) => Err(error),
        }
    }

    /// `GET /_matrix/client/v3/rooms/{room}/event/{event}` – one event.
    pub async fn event(
        &self,
        user: &UserId,
        room: &RoomId,
        event: &EventId,
    ) -> Result<Box<RawValue>, MatrixError> {
        self.v3("event", Method::GET, &["rooms", room.as_str(), "event", event.as_str()])
            .acting_as(user)
            .send()
            .await
    }
}

/// A filter that is the same, and to Synapse another, by white space behind the brace by which it knows a filter.
fn another(filter: &serde_json::Value, nonce: u64) -> String {
    let bits = (0..u64::BITS).map(|bit| nonce >> bit & 1 == 1);
    let blank: String = bits.map(|bit| if bit { '\t' } else { ' ' }).collect();
    filter.to_string().replacen('{', &format!("{{{blank}"), 1)
}

/// The place behind an answer that is too long to be read: what is in it would be in it each time.
fn past(error: MatrixError, who: &'static str) -> Result<String, MatrixError> {
    match error {
        MatrixError::TooLong(max, Some(next)) => {
            metrics::counter!("causeway_sync_passed_over_total").increment(1);
            tracing::warn!(max, "an answer to the /sync of {who} is too long, and passed over");
            Ok(next)
        }
        error => Err(error),
    }
}

fn to_agent(answer: OfDevice, user: &UserId, is_first: bool) -> ToAgent {
    let OfDevice { next_batch, to_device, mut rooms } = answer;
    let relayed = to_device.understood().filter(|event| event.kind == RELAY);
    let relayed = relayed.filter_map(|event| Some((event.sender?, event.content)));
    let mut to_agent =
        ToAgent { next: next_batch, frames: relayed.collect(), ..ToAgent::default() };
    for (room, Invited { invite_state }) in rooms.invites() {
        to_agent.invites.insert(room, invited::by(user, &invite_state.events));
    }
    if is_first {
        return to_agent;
    }
    for (room, of) in rooms.joined_or_left() {
        for event in of.timeline.events {
            let Ok(event) = serde_json::from_str::<Typed>(event.get()) else { continue };
            if event.kind != relay_room::MESSAGE {
                to_agent.changed.insert(room.clone());
            } else if let Some(sender) = event.sender {
                to_agent.events.push((room.clone(), sender, event.content));
            }
        }
    }
    to_agent
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_stranger_made_up_keeps_nothing_else_away() {
        let frame = json!({"type": RELAY, "sender": "@_causeway:b.example", "content": {"n": 1}});
        let member = json!({"type": "m.room.member", "sender": "@_causeway:b.example",
            "state_key": "@_causeway:a.example", "content": {"membership": "invite"}});
        let invite = json!({"invite_state": {"events": [member]}});
        let me = user_id!("@_causeway:a.example");
        for bad in [
            json!({"type": RELAY, "sender": "x:evil.example", "content": {}}),
            json!({"type": 1, "sender": "@x:evil.example", "content": {}}),
            json!({"type": RELAY, "sender": ["@x:evil.example"]}),
            json!({"sender": "@x:evil.example"}),
            json!("a frame"),
            json!(null),
        ] {
            let answer = json!({
                "next_batch": "s1",
                "to_device": {"events": [bad, frame, bad]},
                "rooms": {
                    "invite": {"evil": invite, "": {}, "!x:evil.example": bad, "!r:b.example": invite},
                    "join": {"evil": {"timeline": {"events": []}}, "!y:evil.example": 1},
                    "leave": {"!z:evil.example": {"timeline": bad}},
                },
            });
            let answer: OfDevice = serde_json::from_str(&answer.to_string()).unwrap();
            let came = to_agent(answer, me, false);
            assert_eq!(came.frames.len(), 1, "{bad}");
            assert_eq!(came.frames[0].1, json!({"n": 1}));
            let by_somebody = came.invites.iter().filter(|(_, by)| by.is_some());
            let by_somebody: Vec<_> = by_somebody.map(|(room, _)| room.as_str()).collect();
            assert_eq!(by_somebody, ["!r:b.example"], "{bad}");
            assert_eq!(came.next, "s1");
        }
    }
}

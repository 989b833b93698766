//! Rooms: making them, being in them, speaking and reading there.

use causeway_protocol::ids::Timestamp;
use reqwest::Method;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomAliasId, RoomId, RoomOrAliasId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::{AGENT_DEVICE, Matrix, MatrixError};
use crate::domain::room::StateEvent;

/// Most of a room's state: a member is half a kilobyte.
const MAX_STATE: usize = 64 * 1024 * 1024;

/// A page of `GET /rooms/{room}/messages`.
#[derive(Debug, Clone, Deserialize)]
pub struct MessagesPage {
    /// Events in the asked direction.
    #[serde(default)]
    pub chunk: Vec<Box<RawValue>>,
    /// Where it begins: the other way from there comes what is on the other side.
    pub start: Option<String>,
    /// `from` of the next page; absent at the end of the room.
    pub end: Option<String>,
}

/// Which way `/messages` is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards the beginning.
    Backwards,
    /// Towards now.
    Forwards,
}

#[derive(Deserialize)]
struct Sent {
    event_id: OwnedEventId,
}

#[derive(Deserialize)]
struct Joined {
    joined_rooms: Vec<OwnedRoomId>,
}

#[derive(Deserialize)]
struct InRoom {
    room_id: OwnedRoomId,
}

impl Matrix {
    /// `POST /_matrix/client/v3/createRoom` – makes a room; `M_ROOM_IN_USE` means that the alias
    /// is taken, by an earlier try or by somebody else.
    pub async fn create_room(
        &self,
        user: &UserId,
        room: &impl Serialize,
    ) -> Result<OwnedRoomId, MatrixError> {
        let made: InRoom = self
            .v3("create_room", Method::POST, &["createRoom"])
            .acting_as(user)
            .json(room)
            .send()
            .await?;
        Ok(made.room_id)
    }

    /// `GET /_matrix/client/v3/directory/room/{alias}` – the room behind an alias, if any.
    pub async fn resolve_alias(
        &self,
        alias: &RoomAliasId,
    ) -> Result<Option<OwnedRoomId>, MatrixError> {
        self.v3("resolve_alias", Method::GET, &["directory", "room", alias.as_str()])
            .soon()
            .send::<InRoom>()
            .await
            .map(|found| Some(found.room_id))
            .or_else(absent)
    }

    /// `DELETE /_matrix/client/v3/directory/room/{alias}` – the alias leads nowhere then.
    pub async fn drop_alias(&self, user: &UserId, alias: &RoomAliasId) -> Result<(), MatrixError> {
        self.v3("drop_alias", Method::DELETE, &["directory", "room", alias.as_str()])
            .acting_as(user)
            .nothing()
            .await
    }

    /// `GET /_matrix/client/v3/joined_rooms` – the rooms that `user` is in.
    pub async fn joined_rooms(&self, user: &UserId) -> Result<Vec<OwnedRoomId>, MatrixError> {
        let joined: Joined =
            self.v3("joined_rooms", Method::GET, &["joined_rooms"]).acting_as(user).send().await?;
        Ok(joined.joined_rooms)
    }

    /// `POST /_matrix/client/v3/join/{room}` – the same however often.
    pub async fn join(
        &self,
        user: &UserId,
        room: &RoomOrAliasId,
    ) -> Result<OwnedRoomId, MatrixError> {
        let joined: InRoom = self
            .v3("join", Method::POST, &["join", room.as_str()])
            .soon()
            .acting_as(user)
            .json(json!({}))
            .send()
            .await?;
        Ok(joined.room_id)
    }

    /// `POST /_matrix/client/v3/rooms/{room}/leave` – also declines an invite.
    pub async fn leave(&self, user: &UserId, room: &RoomId) -> Result<(), MatrixError> {
        self.v3("leave", Method::POST, &["rooms", room.as_str(), "leave"])
            .soon()
            .acting_as(user)
            .json(json!({}))
            .nothing()
            .await
    }

    /// The same with a reason, which everybody there can read.
    pub async fn leave_saying(
        &self,
        user: &UserId,
        room: &RoomId,
        reason: &str,
    ) -> Result<(), MatrixError> {
        self.v3("leave", Method::POST, &["rooms", room.as_str(), "leave"])
            .soon()
            .acting_as(user)
            .json(json!({ "reason": reason }))
            .nothing()
            .await
    }

    /// `POST /_matrix/client/v3/rooms/{room}/forget` – of a room that `user` has left: it is in no list
    /// of theirs any more.
    pub async fn forget(&self, user: &UserId, room: &RoomId) -> Result<(), MatrixError> {
        self.v3("forget", Method::POST, &["rooms", room.as_str(), "forget"])
            .soon()
            .acting_as(user)
            .json(json!({}))
            .nothing()
            .await
    }

    /// `POST /_matrix/client/v3/rooms/{room}/kick` – 403 where `by` may not, or there is nobody to
    /// put out.
    pub async fn kick(
        &self,
        by: &UserId,
        room: &RoomId,
        user: &UserId,
        reason: &str,
    ) -> Result<(), MatrixError> {
        self.v3("kick", Method::POST, &["rooms", room.as_str(), "kick"])
            .soon()
            .acting_as(by)
            .json(json!({"user_id": user, "reason": reason}))
            .nothing()
            .await
    }

    /// `POST /_matrix/client/v3/rooms/{room}/invite` – 403 where the invitee is in already.
    pub async fn invite(
        &self,
        by: &UserId,
        room: &RoomId,
        invitee: &UserId,
        reason: Option<&str>,
    ) -> Result<(), MatrixError> {
        let mut body = json!({ "user_id": invitee });
        if let (Some(reason), Some(fields)) = (reason, body.as_object_mut()) {
            fields.insert("reason".to_owned(), json!(reason));
        }
        self.v3("invite", Method::POST, &["rooms", room.as_str(), "invite"])
            .soon()
            .acting_as(by)
            .json(body)
            .nothing()
            .await
    }

    /// `PUT /_matrix/client/v3/rooms/{room}/send/{type}/{txn}` – as the user's device; the
    /// same `txn` within 24 h is the same event, also across a crash of the homeserver.
    ///
    /// `txn` is unique over all ghosts: Synapse's memory cache does not look at the user. `at` is
    /// when it was said (spec v1.3, AS API, "Timestamp massaging"); `None`: now.
    pub async fn send(
        &self,
        user: &UserId,
        room: &RoomId,
        kind: &str,
        txn: &str,
        content: &RawValue,
        at: Option<Timestamp>,
    ) -> Result<OwnedEventId, MatrixError> {
        let mut call = self
            .v3("send", Method::PUT, &["rooms", room.as_str(), "send", kind, txn])
            .soon()
            .acting_as(user)
            .with_device()
            .json(content);
        if let Some(at) = at {
            call = call.query("ts", &at.0.to_string());
        }
        let sent: Sent = call.send().await?;
        Ok(sent.event_id)
    }

    /// `PUT /_matrix/client/v3/rooms/{room}/redact/{event}/{txn}` – takes an event of the user's own back.
    pub async fn redact(
        &self,
        user: &UserId,
        room: &RoomId,
        event: &EventId,
        txn: &str,
    ) -> Result<(), MatrixError> {
        let path = ["rooms", room.as_str(), "redact", event.as_str(), txn];
        let call = self.v3("redact", Method::PUT, &path).soon().acting_as(user).with_device();
        call.json(json!({})).nothing().await
    }

    /// `PUT /_matrix/client/v3/rooms/{room}/send/{type}/{txn}` – an event of the agent.
    pub async fn post(
        &self,
        user: &UserId,
        room: &RoomId,
        (kind, txn): (&str, &str),
        content: &RawValue,
    ) -> Result<(), MatrixError> {
        self.v3("post", Method::PUT, &["rooms", room.as_str(), "send", kind, txn])
            .soon()
            .acting_as(user)
            .query("device_id", AGENT_DEVICE)
            .json(content)
            .nothing()
            .await
    }

    /// `PUT /_matrix/client/v3/rooms/{room}/state/{type}/{key}` – the same content twice makes
    /// one event.
    pub async fn send_state(
        &self,
        user: &UserId,
        room: &RoomId,
        kind: &str,
        key: &str,
        content: &Value,
    ) -> Result<OwnedEventId, MatrixError> {
        let sent: Sent = self
            .v3("send_state", Method::PUT, &["rooms", room.as_str(), "state", kind, key])
            .soon()
            .acting_as(user)
            .json(content)
            .send()
            .await?;
        Ok(sent.event_id)
    }

    /// `GET /_matrix/client/v3/rooms/{room}/state/{type}/{key}` – its content, if there is one.
    pub async fn state(
        &self,
        user: &UserId,
        room: &RoomId,
        kind: &str,
        key: &str,
    ) -> Result<Option<Value>, MatrixError> {
        self.v3("state", Method::GET, &["rooms", room.as_str(), "state", kind, key])
            .soon()
            .acting_as(user)
            .send()
            .await
            .map(Some)
            .or_else(absent)
    }

    /// `GET /_matrix/client/v3/rooms/{room}/state` – all of it, members too; as it was when `user`
    /// left, where it has left.
    pub async fn whole_state(
        &self,
        user: &UserId,
        room: &RoomId,
    ) -> Result<Vec<StateEvent>, MatrixError> {
        self.v3("whole_state", Method::GET, &["rooms", room.as_str(), "state"])
            .acting_as(user)
            .up_to(MAX_STATE)
            .send()
            .await
    }

    /// `GET /_matrix/client/v3/rooms/{room}/messages` – at most `limit` events from `from`, or
    /// from the room's newest or oldest.
    pub async fn messages(
        &self,
        user: &UserId,
        room: &RoomId,
        direction: Direction,
        from: Option<&str>,
        limit: u32,
    ) -> Result<MessagesPage, MatrixError> {
        let way = match direction {
            Direction::Backwards => "b",
            Direction::Forwards => "f",
        };
        let call = self
            .v3("messages", Method::GET, &["rooms", room.as_str(), "messages"])
            .acting_as(user)
            .query("dir", way)
            .query("limit", &limit.to_string());
        match from {
            Some(from) => call.query("from", from).send().await,
            None => call.send().await,
        }
    }
}

/// 404 is an answer where one asks whether a thing is there.
fn absent<T>(error: MatrixError) -> Result<Option<T>, MatrixError> {
    match error {
        MatrixError::Refused(404, ..) => Ok(None),
        other => Err(other),
    }
}

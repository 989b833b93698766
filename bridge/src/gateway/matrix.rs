//! The homeserver's client-server API, spoken as the bot or as a ghost.
//!
//! Thin by design: one method is one request. Nothing here retries, remembers or decides; who
//! calls knows from [`MatrixError`] what may be tried again. Messages go out as the user's device
//! [`DEVICE`], because Synapse dedupes transaction ids in its database only for a device
//! (MSC4326, spec v1.17).

mod error;
mod request;

pub use error::MatrixError;

use std::{sync::Arc, time::Duration};

use reqwest::{Client, Method, Url, redirect};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, RoomOrAliasId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::secret::Secret;

/// The device that every ghost and the bot have, without keys: for deduplication.
pub const DEVICE: &str = "CAUSEWAY";

/// Longest that a request may take, answer included.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Longest that opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A homeserver, and the token with which it knows us. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Matrix {
    client: Client,
    base: Url,
    token: Arc<Secret>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Not `http://…` or `https://…`.
    #[error("`{0}` is not the address of a homeserver (http or https)")]
    Address(String),
    /// The TLS library has no roots, or alike.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// What `GET /versions` says.
#[derive(Debug, Clone, Deserialize)]
pub struct Versions {
    /// Spec versions, such as `v1.12`.
    pub versions: Vec<String>,
}

/// What `GET /account/whoami` says.
#[derive(Debug, Clone, Deserialize)]
pub struct Whoami {
    /// Who the homeserver takes us for.
    pub user_id: OwnedUserId,
    /// With which device.
    pub device_id: Option<String>,
}

/// A page of `GET /rooms/{room}/messages`.
#[derive(Debug, Clone, Deserialize)]
pub struct MessagesPage {
    /// Events in the asked direction.
    #[serde(default)]
    pub chunk: Vec<Box<RawValue>>,
    /// `from` of the next page; absent at the end of the room.
    pub end: Option<String>,
}

/// One of `GET /rooms/{room}/joined_members`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Member {
    /// As shown in that room.
    #[serde(default)]
    pub display_name: Option<String>,
}

/// Which way `/messages` is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards the beginning.
    Backwards,
    /// Towards now.
    Forwards,
}

/// What a new room is like.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NewRoom {
    /// Localpart of its alias: makes creation safe to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_alias_name: Option<String>,
    /// Shown name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Shown topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// `private_chat` and alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Invited from the beginning.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub invite: Vec<OwnedUserId>,
    /// Extra content of `m.room.create`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_content: Option<Value>,
    /// State after the preset's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub initial_state: Vec<InitialState>,
    /// Merged over the default power levels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_level_content_override: Option<Value>,
}

/// A state event that a room begins with.
#[derive(Debug, Clone, Serialize)]
pub struct InitialState {
    /// Type.
    #[serde(rename = "type")]
    pub kind: String,
    /// State key.
    pub state_key: String,
    /// Content.
    pub content: Value,
}

#[derive(Deserialize)]
struct Sent {
    event_id: OwnedEventId,
}

#[derive(Deserialize)]
struct InRoom {
    room_id: OwnedRoomId,
}

#[derive(Deserialize)]
struct Nothing {}

impl Matrix {
    /// A client of the homeserver at `address`, known to it by `token`.
    ///
    /// # Errors
    /// [`BuildError`]
    pub fn new(address: &str, token: Secret) -> Result<Self, BuildError> {
        let base = Url::parse(address)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && !url.cannot_be_a_base())
            .ok_or_else(|| BuildError::Address(address.to_owned()))?;
        // One provider for the whole process; a second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("Causeway/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, base, token: Arc::new(token) })
    }

    /// `GET /_matrix/client/versions` – whether a homeserver is there at all.
    pub async fn versions(&self) -> Result<Versions, MatrixError> {
        // With a token that it does not know, Synapse answers even this with 401.
        self.call("versions", Method::GET, &["_matrix", "client", "versions"])
            .without_token()
            .send()
            .await
    }

    /// `GET /_matrix/client/v3/account/whoami` – who we are, `user` where one is given.
    pub async fn whoami(&self, user: Option<&UserId>) -> Result<Whoami, MatrixError> {
        let call = self.v3("whoami", Method::GET, &["account", "whoami"]);
        match user {
            Some(user) => call.acting_as(user).send().await,
            None => call.send().await,
        }
    }

    /// `POST /_matrix/client/v1/appservice/{id}/ping` – has the homeserver call us (spec v1.7);
    /// on Synapse that also ends its back-off: what waits comes at once.
    pub async fn ping(&self, id: &str, transaction: &str) -> Result<(), MatrixError> {
        self.call("ping", Method::POST, &["_matrix", "client", "v1", "appservice", id, "ping"])
            .json(json!({ "transaction_id": transaction }))
            .nothing()
            .await
    }

    /// `POST /_matrix/client/v3/register` – makes a user of the namespace, without a device.
    /// One that is there already is as good as new.
    pub async fn register(&self, localpart: &str) -> Result<(), MatrixError> {
        let made = self
            .v3("register", Method::POST, &["register"])
            .json(json!({
                "type": "m.login.application_service",
                "username": localpart,
                // Spec v1.17 (MSC4190): an application service cannot have a login.
                "inhibit_login": true,
            }))
            .nothing()
            .await;
        match made {
            Err(error) if error.is_code("M_USER_IN_USE") => Ok(()),
            other => other,
        }
    }

    /// `PUT /_matrix/client/v3/devices/{DEVICE}` – gives `user` the device (MSC4190).
    pub async fn put_device(&self, user: &UserId) -> Result<(), MatrixError> {
        self.v3("put_device", Method::PUT, &["devices", DEVICE])
            .acting_as(user)
            .json(json!({ "display_name": "Causeway" }))
            .nothing()
            .await
    }

    /// `PUT /_matrix/client/v3/profile/{user}/displayname` – how `user` is shown.
    pub async fn set_display_name(&self, user: &UserId, name: &str) -> Result<(), MatrixError> {
        self.v3("set_display_name", Method::PUT, &["profile", user.as_str(), "displayname"])
            .acting_as(user)
            .json(json!({ "displayname": name }))
            .nothing()
            .await
    }

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
            .send::<InRoom>()
            .await
            .map(|found| Some(found.room_id))
            .or_else(absent)
    }

    /// `POST /_matrix/client/v3/join/{room}` – the same however often.
    pub async fn join(
        &self,
        user: &UserId,
        room: &RoomOrAliasId,
    ) -> Result<OwnedRoomId, MatrixError> {
        let joined: InRoom = self
            .v3("join", Method::POST, &["join", room.as_str()])
            .acting_as(user)
            .json(json!({}))
            .send()
            .await?;
        Ok(joined.room_id)
    }

    /// `POST /_matrix/client/v3/rooms/{room}/leave` – also declines an invite.
    pub async fn leave(&self, user: &UserId, room: &RoomId) -> Result<(), MatrixError> {
        self.v3("leave", Method::POST, &["rooms", room.as_str(), "leave"])
            .acting_as(user)
            .json(json!({}))
            .nothing()
            .await
    }

    /// `POST /_matrix/client/v3/rooms/{room}/invite` – 403 where the invitee is in already.
    pub async fn invite(
        &self,
        by: &UserId,
        room: &RoomId,
        invitee: &UserId,
    ) -> Result<(), MatrixError> {
        self.v3("invite", Method::POST, &["rooms", room.as_str(), "invite"])
            .acting_as(by)
            .json(json!({ "user_id": invitee }))
            .nothing()
            .await
    }

    /// `POST /_matrix/client/v3/rooms/{room}/kick` – takes `whom` out, or an invite back.
    pub async fn kick(
        &self,
        by: &UserId,
        room: &RoomId,
        whom: &UserId,
        reason: &str,
    ) -> Result<(), MatrixError> {
        self.v3("kick", Method::POST, &["rooms", room.as_str(), "kick"])
            .acting_as(by)
            .json(json!({ "user_id": whom, "reason": reason }))
            .nothing()
            .await
    }

    /// `PUT /_matrix/client/v3/rooms/{room}/send/{type}/{txn}` – as the user's [`DEVICE`]; the
    /// same `txn` within 24 h is the same event, also across a crash of the homeserver.
    ///
    /// `txn` is unique over all ghosts: Synapse's memory cache does not look at the user.
    pub async fn send(
        &self,
        user: &UserId,
        room: &RoomId,
        kind: &str,
        txn: &str,
        content: &RawValue,
    ) -> Result<OwnedEventId, MatrixError> {
        let sent: Sent = self
            .v3("send", Method::PUT, &["rooms", room.as_str(), "send", kind, txn])
            .acting_as(user)
            .with_device()
            .json(content)
            .send()
            .await?;
        Ok(sent.event_id)
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
            .acting_as(user)
            .send()
            .await
            .map(Some)
            .or_else(absent)
    }

    /// `GET /_matrix/client/v3/rooms/{room}/joined_members` – who is in.
    pub async fn joined_members(
        &self,
        user: &UserId,
        room: &RoomId,
    ) -> Result<Vec<(OwnedUserId, Member)>, MatrixError> {
        #[derive(Deserialize)]
        struct Joined {
            joined: std::collections::BTreeMap<OwnedUserId, Member>,
        }
        let members: Joined = self
            .v3("joined_members", Method::GET, &["rooms", room.as_str(), "joined_members"])
            .acting_as(user)
            .send()
            .await?;
        Ok(members.joined.into_iter().collect())
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

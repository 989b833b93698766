//! `MatrixRTC`: what a homeserver must have so that its users come into calls, where calls are carried,
//! and state that the homeserver sets when nobody holds it back (MSC4143, MSC4140).

use reqwest::Method;
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Matrix, MatrixError, request::Call};

/// Path of what is done with delayed events, below `/_matrix/client/unstable`.
const DELAYED: [&str; 5] =
    ["_matrix", "client", "unstable", "org.matrix.msc4140", "delayed_events"];
const TRANSPORTS: [&str; 6] =
    ["_matrix", "client", "unstable", "org.matrix.msc4143", "rtc", "transports"];

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// The listener that we use.
    #[error("its listener at homeserver.address has no `openid` among its `resources`")]
    OpenId,
    /// What it tells clients in place of our address.
    #[error("it sends clients to {0} for calls, and not to {1} (`matrix_rtc.transports`)")]
    Transport(String, String),
    /// MSC4140: who crashes in a call stays in it.
    #[error("it has no delayed events (`max_event_delay_duration`)")]
    Delayed,
}

/// One event that waits at the homeserver.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Delayed {
    /// Its name.
    pub delay_id: String,
    /// Of which room.
    pub room_id: OwnedRoomId,
    /// Of which type.
    #[serde(rename = "type")]
    pub kind: String,
    /// State of which key, if it is one.
    #[serde(default)]
    pub state_key: Option<String>,
}

#[derive(Deserialize)]
struct Waiting {
    #[serde(default)]
    delayed_events: Vec<Delayed>,
}

#[derive(Deserialize)]
struct Related {
    #[serde(default)]
    chunk: Vec<Reaction>,
}

#[derive(Deserialize)]
struct Reaction {
    event_id: OwnedEventId,
    sender: OwnedUserId,
    #[serde(default)]
    content: Value,
}

#[derive(Deserialize)]
struct Armed {
    delay_id: String,
}

#[derive(Deserialize)]
struct Transports {
    #[serde(default)]
    rtc_transports: Vec<Value>,
}

impl Matrix {
    /// What the homeserver lacks for calls of its users by the focus at `url`.
    ///
    /// # Errors
    /// [`MatrixError`]: it cannot be said.
    pub async fn lacks_for_calls(&self, bot: &UserId, url: &str) -> Result<Vec<Lack>, MatrixError> {
        let mut lacks = Vec::new();
        // Any token: whoever is asked says that he does not know it.
        match self.userinfo("causeway").await {
            Err(MatrixError::UnknownToken | MatrixError::Refused(401, ..)) | Ok(_) => {}
            Err(MatrixError::Refused(..)) => lacks.push(Lack::OpenId),
            Err(error) => return Err(error),
        }
        let first = self.rtc_transports(bot).await?.into_iter().next().unwrap_or_default();
        let theirs = first.get("livekit_service_url").and_then(Value::as_str);
        if theirs != Some(url) {
            let theirs = theirs.unwrap_or("nowhere").to_owned();
            lacks.push(Lack::Transport(theirs, url.to_owned()));
        }
        let features = self.versions().await?.unstable_features;
        if features.get("org.matrix.msc4140") != Some(&Value::Bool(true)) {
            lacks.push(Lack::Delayed);
        }
        Ok(lacks)
    }

    /// `GET /_matrix/client/unstable/org.matrix.msc4143/rtc/transports` – where clients go for calls;
    /// nowhere, where the homeserver does not know the question (MSC4143).
    async fn rtc_transports(&self, bot: &UserId) -> Result<Vec<Value>, MatrixError> {
        let said = self.call("rtc_transports", Method::GET, &TRANSPORTS).soon().acting_as(bot);
        match said.send::<Transports>().await {
            Ok(said) => Ok(said.rtc_transports),
            Err(MatrixError::Refused(404 | 405, ..)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The address of the first LiveKit service, as the homeserver tells it to clients; `None` if it
    /// names none.
    ///
    /// # Errors
    /// [`MatrixError`]: it cannot be said.
    pub async fn livekit_service(&self, user: &UserId) -> Result<Option<String>, MatrixError> {
        let transports = self.rtc_transports(user).await?;
        let is_livekit = |one: &&Value| one.get("type").is_some_and(|kind| kind == "livekit");
        let livekit = transports.iter().find(is_livekit);
        let url = livekit.and_then(|one| one.get("livekit_service_url")).and_then(Value::as_str);
        Ok(url.map(ToOwned::to_owned))
    }

    /// `PUT /_matrix/client/v3/rooms/{room}/state/{type}/{key}?org.matrix.msc4140.delay=` – empty state
    /// that the homeserver sets after so many ms, unless it is told to wait again; its name.
    pub async fn clear_state_later(
        &self,
        user: &UserId,
        (room, kind, key): (&RoomId, &str, &str),
        ms: u64,
    ) -> Result<String, MatrixError> {
        let armed: Armed = self
            .v3("clear_state_later", Method::PUT, &["rooms", room.as_str(), "state", kind, key])
            .soon()
            .acting_as(user)
            .query("org.matrix.msc4140.delay", &ms.to_string())
            .json(json!({}))
            .send()
            .await?;
        Ok(armed.delay_id)
    }

    /// `GET /_matrix/client/v1/rooms/{room}/relations/{event}/m.annotation/m.reaction` – the user's own
    /// reaction with this key to an event, if there is one.
    pub async fn own_reaction(
        &self,
        user: &UserId,
        (room, event): (&RoomId, &EventId),
        key: &str,
    ) -> Result<Option<OwnedEventId>, MatrixError> {
        let path = ["_matrix", "client", "v1", "rooms", room.as_str(), "relations", event.as_str()];
        let path = [&path[..], &["m.annotation", "m.reaction"]].concat();
        let call = self.call("own_reaction", Method::GET, &path).soon().acting_as(user);
        let Related { chunk } = call.send().await?;
        let is_it = |it: &&Reaction| {
            let relates = it.content.get("m.relates_to");
            let its = relates.and_then(|relates| relates.get("key")).and_then(Value::as_str);
            it.sender == *user && its == Some(key)
        };
        Ok(chunk.iter().find(is_it).map(|it| it.event_id.clone()))
    }

    /// `GET …/delayed_events` – those of `user` that wait.
    pub async fn delayed(&self, user: &UserId) -> Result<Vec<Delayed>, MatrixError> {
        let waiting: Waiting =
            self.call("delayed", Method::GET, &DELAYED).soon().acting_as(user).send().await?;
        Ok(waiting.delayed_events)
    }

    /// `POST …/delayed_events/{id}/restart` – the time begins anew.
    pub async fn restart_delayed(&self, user: &UserId, id: &str) -> Result<(), MatrixError> {
        self.about_delayed("restart_delayed", user, id, "restart").json(json!({})).nothing().await
    }

    /// `POST …/delayed_events/{id}/cancel` – it does not come.
    pub async fn cancel_delayed(&self, user: &UserId, id: &str) -> Result<(), MatrixError> {
        self.about_delayed("cancel_delayed", user, id, "cancel").json(json!({})).nothing().await
    }

    /// `POST …/delayed_events/{id}/send` – it comes now.
    pub async fn send_delayed(&self, user: &UserId, id: &str) -> Result<(), MatrixError> {
        self.about_delayed("send_delayed", user, id, "send").json(json!({})).nothing().await
    }

    fn about_delayed(&self, name: &'static str, user: &UserId, id: &str, what: &str) -> Call<'_> {
        self.call(name, Method::POST, &[&DELAYED[..], &[id, what]].concat()).soon().acting_as(user)
    }
}

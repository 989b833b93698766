//! A person in Matrix: a plain user of the homeserver, who knows nothing of Causeway.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::{Client, Method, Url};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::files::random_name;
use crate::secret::Secret;

/// Longest that one `/sync` waits for news.
const POLL: Duration = Duration::from_secs(10);
/// Before an invite is tried again, and how often it is tried.
const AGAIN: Duration = Duration::from_secs(1);
const TRIES: u32 = 30;

/// A logged-in user and how far his `/sync` came.
#[derive(Debug)]
pub struct MatrixUser {
    client: Client,
    base: Url,
    user_id: OwnedUserId,
    token: Secret,
    place: Mutex<Place>,
}

/// How far a `/sync` came.
#[derive(Debug, Default)]
struct Place {
    since: Option<String>,
    rooms: BTreeSet<OwnedRoomId>,
}

/// An event of a room's timeline as this user was given it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Where.
    pub room: OwnedRoomId,
    /// The whole event.
    pub event: Value,
}

impl Seen {
    /// A field of the event that is text.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.event.pointer(pointer)?.as_str()
    }
}

/// What one `/sync` brought.
#[derive(Debug, Default)]
pub struct News {
    /// Rooms he is invited to.
    pub invites: Vec<OwnedRoomId>,
    /// Timelines, in their order; state that `/sync` puts before the timeline is not in here.
    pub events: Vec<Seen>,
}

/// Why the user could not do something.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No answer.
    #[error("the homeserver did not answer: {0}")]
    NoAnswer(#[from] reqwest::Error),
    /// Status and body.
    #[error("the homeserver refused with {0}: {1}")]
    Refused(u16, String),
    /// Not the answer of the specification.
    #[error("the homeserver's answer is not understood: {0}")]
    Misunderstood(String),
}

#[derive(Deserialize)]
struct LoggedIn {
    user_id: OwnedUserId,
    access_token: Secret,
}

impl MatrixUser {
    /// Makes an account on a homeserver that lets anybody, and logs in.
    ///
    /// # Errors
    /// [`UserError`]
    pub async fn register(url: &str, name: &str, password: &str) -> Result<Self, UserError> {
        let body = json!({
            "username": name,
            "password": password,
            "auth": { "type": "m.login.dummy" },
            "initial_device_display_name": "Causeway demo",
        });
        Self::enter(url, "register", body).await
    }

    /// Logs in with a password.
    ///
    /// # Errors
    /// [`UserError`]
    pub async fn login(url: &str, user: &str, password: &str) -> Result<Self, UserError> {
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": user },
            "password": password,
            "initial_device_display_name": "Causeway demo",
        });
        Self::enter(url, "login", body).await
    }

    async fn enter(url: &str, how: &str, body: Value) -> Result<Self, UserError> {
        let base = Url::parse(url).map_err(|error| UserError::Misunderstood(error.to_string()))?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(Duration::from_mins(1)).build()?;
        let request = client.post(address(&base, &[how])).body(body.to_string());
        let entered: LoggedIn = parsed(&answer(request).await?)?;
        Ok(Self {
            client,
            base,
            user_id: entered.user_id,
            token: entered.access_token,
            place: Mutex::default(),
        })
    }

    /// Who he is.
    pub fn user_id(&self) -> &OwnedUserId {
        &self.user_id
    }

    /// His access token, for other clients of his.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// What came since the last call; waits up to ten seconds for it. One call at a time.
    ///
    /// # Errors
    /// [`UserError`]
    pub async fn sync(&self) -> Result<News, UserError> {
        #[derive(Deserialize)]
        struct Answer {
            next_batch: String,
            #[serde(default)]
            rooms: Rooms,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Rooms {
            join: std::collections::BTreeMap<OwnedRoomId, Joined>,
            invite: std::collections::BTreeMap<OwnedRoomId, Value>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Joined {
            timeline: Timeline,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Timeline {
            events: Vec<Value>,
            limited: bool,
        }
        let mut url = address(&self.base, &["sync"]);
        // A gap in a timeline would look like loss: the limit is above what any story sends.
        let filter = json!({
            "room": { "timeline": { "limit": 1000 } },
            "presence": { "types": [] },
        });
        url.query_pairs_mut()
            .append_pair("timeout", &POLL.as_millis().to_string())
            .append_pair("filter", &filter.to_string());
        let since = self.place().since.clone();
        if let Some(since) = &since {
            url.query_pairs_mut().append_pair("since", since);
        }
        let request = self.client.get(url).bearer_auth(self.token.expose());
        let news: Answer = parsed(&answer(request).await?)?;
        let mut place = self.place();
        place.since = Some(news.next_batch);
        let mut events = Vec::new();
        for (room, joined) in news.rooms.join {
            // What was before he came in is no gap.
            let known = !place.rooms.insert(room.clone());
            if joined.timeline.limited && known {
                return Err(UserError::Misunderstood(format!("a gap in the timeline of {room}")));
            }
            let room = &room;
            events.extend(
                joined.timeline.events.into_iter().map(|event| Seen { room: room.clone(), event }),
            );
        }
        Ok(News { invites: news.rooms.invite.into_keys().collect(), events })
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts an invite of whichever homeserver: one of another comes before that lets him in, since it
    /// puts its invite down when ours has signed it.
    ///
    /// # Errors
    /// [`UserError`], the last of half a minute's.
    pub async fn accept(&self, room: &RoomId) -> Result<(), UserError> {
        for _ in 1..TRIES {
            match self.join(room).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::debug!(%error, "an invite is not accepted yet"),
            }
            sleep(AGAIN).await;
        }
        self.join(room).await
    }

    /// Joins a room.
    ///
    /// # Errors
    /// [`UserError`]
    pub async fn join(&self, room: &RoomId) -> Result<(), UserError> {
        self.request(Method::POST, &["join", room.as_str()], json!({})).await.map(|_| ())
    }

    /// Leaves a room.
    ///
    /// # Errors
    /// [`UserError`]
    pub async fn leave(&self, room: &RoomId) -> Result<(), UserError> {
        self.request(Method::POST, &["rooms", room.as_str(), "leave"], json!({})).await.map(|_| ())
    }

    /// Makes a room with this body of `POST /createRoom`.
    ///
    /// # Errors
    /// [`UserError`]
    pub async fn create_room(&self, body: Value) -> Result<OwnedRoomId, UserError> {
        #[derive(Deserialize)]
        struct Made {
            room_id: OwnedRoomId,
        }
        let made: Made = parsed(&self.request(Method::POST, &["createRoom"], body).await?)?;
        Ok(made.room_id)
    }

    /// Says something.
    ///
    /// # Errors
    /// [`UserError`]
    pub async fn say(&self, room: &RoomId, text: &str) -> Result<OwnedEventId, UserError> {
        self.send(room, "m.room.message", json!({ "msgtype": "m.text", "body": text })).await
    }

    /// Sends an event of any type, under a transaction id of its own.
    ///
    /// # Errors
    /// [`UserError`]
    pub async fn send(
        &self,
        room: &RoomId,
        kind: &str,
        content: Value,
    ) -> Result<OwnedEventId, UserError> {
        #[derive(Deserialize)]
        struct Sent {
            event_id: OwnedEventId,
        }
        let txn = random_name(12).map_err(|error| UserError::Misunderstood(error.to_string()))?;
        let path = ["rooms", room.as_str(), "send", kind, &txn];
        let sent: Sent = parsed(&self.request(Method::PUT, &path, content).await?)?;
        Ok(sent.event_id)
    }

    /// Any other request below `/_matrix/client/v3`.
    ///
    /// # Errors
    /// [`UserError`]
    pub async fn request(
        &self,
        method: Method,
        path: &[&str],
        body: Value,
    ) -> Result<Vec<u8>, UserError> {
        let request = self
            .client
            .request(method.clone(), address(&self.base, path))
            .bearer_auth(self.token.expose());
        answer(if method == Method::GET { request } else { request.body(body.to_string()) }).await
    }
}

fn address(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["_matrix", "client", "v3"]).extend(path);
    }
    url
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Vec<u8>, UserError> {
    let response = request.send().await?;
    let status = response.status();
    let body = response.bytes().await?.to_vec();
    if status.is_success() {
        Ok(body)
    } else {
        Err(UserError::Refused(status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
    }
}

fn parsed<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, UserError> {
    serde_json::from_slice(body).map_err(|error| UserError::Misunderstood(error.to_string()))
}

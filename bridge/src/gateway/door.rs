//! The native server's door between servers: frames that are to leave, and frames that came
//! (protocol §7.1), rooms of agents (§7.4), and what lets those of Matrix into calls. What is in frames is the native server's
//! business alone.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use causeway_protocol::{
    api::{CallDevice, CallIntent},
    ids::{AccountId, CallId, DeviceId, GroupId},
};
use reqwest::{Client, Method, StatusCode, Url};
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{domain::relay_room::Wish, secret::Secret};

/// Longest that the door may take beyond what it was told to wait.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Frames that are handed in at once.
pub const MAX_FRAMES: usize = 128;

/// The door, and the token that opens it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Door {
    client: Client,
    frames: Url,
    rooms: Url,
    calls: Url,
    members: Url,
    abroad: Url,
    said: Url,
    there: Url,
    token: Arc<Secret>,
}

/// One of Matrix, who is to be let into the room of his group's calls.
#[derive(Debug, Clone, Serialize)]
pub struct Guest {
    /// The group whose room he is in; none where that is no group's.
    pub group: Option<GroupId>,
    /// What the room is called where it is no group's.
    pub room: String,
    /// Who he is.
    pub user: OwnedUserId,
    /// With which device.
    pub device: String,
    /// What he is called there.
    pub identity: String,
    /// Whether he sends there, too.
    pub publish: bool,
    /// What his room calls him.
    pub name: Option<String>,
}

/// A group's room says that one of Matrix is in its call, or is not any more.
#[derive(Debug, Clone, Serialize)]
pub struct Attends {
    /// The group.
    pub group: GroupId,
    /// Who.
    pub user: OwnedUserId,
    /// With which device; all of his, where none is named.
    pub device: Option<String>,
    /// Whether he is.
    pub is_in: bool,
    /// What the server for calls may know him by.
    pub identities: Vec<String>,
    /// The focus of the server for calls on which he speaks, where that is not ours.
    pub focus: Option<String>,
    /// The call that begins with him, where none runs.
    pub begins: Option<Begins>,
}

/// A native wants to hear who speaks on the server for calls of this focus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Abroad {
    /// By which it is answered.
    pub id: u64,
    /// Whose call it is.
    pub group: GroupId,
    /// The native's account.
    pub account: AccountId,
    /// His device.
    pub device: DeviceId,
    /// Where.
    pub focus: String,
}

/// What came of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FromAbroad {
    /// Of which.
    pub id: u64,
    /// What lets him in.
    pub given: Option<Given>,
    /// Why nothing does.
    pub why: String,
}

/// A group's room says something of the moment for one of Matrix.
#[derive(Debug, Clone, Serialize)]
pub struct Says {
    /// The group.
    pub group: GroupId,
    /// Who.
    pub user: OwnedUserId,
    /// What.
    pub what: Said,
}

/// What it is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// He does not come.
    Declines,
    /// His hand is raised.
    Raises {
        /// With which device he is in the call.
        device: String,
        /// By which event.
        event: String,
    },
    /// The event is taken back by which a hand may have been.
    Lowers {
        /// Which.
        event: String,
    },
    /// A sign.
    Shows {
        /// With which device he is in the call.
        device: String,
        /// An emoji.
        emoji: String,
    },
}

/// Where somebody of Matrix may be: in the room of a call, under that name.
#[derive(Debug, Clone, Serialize)]
pub struct Place {
    /// The group; none where the room is no group's.
    pub group: Option<GroupId>,
    /// What the room is called then.
    pub room: String,
    /// What he is called there.
    pub identity: String,
}

#[derive(Deserialize)]
struct There {
    there: Vec<Option<bool>>,
}

/// A call of a group that begins in its room.
#[derive(Debug, Clone, Serialize)]
pub struct Begins {
    /// Its id.
    pub call: CallId,
    /// What for.
    pub intent: CallIntent,
    /// The bridge's device.
    pub by: CallDevice,
}

/// What lets somebody into a call.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Where the server for calls is.
    pub url: String,
    /// What it lets in for.
    pub jwt: String,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
}

/// Why somebody is not let in, in words for him.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLetIn {
    /// The server for calls is away, or there is none: later, perhaps.
    #[error("{0}")]
    Away(String),
    /// Not into this call.
    #[error("{0}")]
    Refused(String),
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// Why the door did not open.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Not an address.
    #[error("`{0}` is not the address of a native server")]
    Address(String),
    /// Not reached, or no answer.
    #[error("the native server does not answer: {0}")]
    Request(#[from] reqwest::Error),
    /// The status.
    #[error("the native server answered {0}")]
    Refused(u16),
}

/// A frame for the agent of another server.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Leaving {
    /// Which server.
    pub to: OwnedServerName,
    /// The to-device message's content.
    pub content: Value,
}

/// A frame of the agent of another server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Came {
    /// Which server: the Matrix sender's.
    pub from: OwnedServerName,
    /// The room of agents in which it stood; none: it is a to-device message's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<OwnedRoomId>,
    /// The message's content.
    pub content: Value,
}

/// An event for a room of agents.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Post {
    /// Which room.
    pub room: OwnedRoomId,
    /// The event's content.
    pub content: Value,
}

/// What is to leave.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Fetched {
    /// To-device messages.
    pub frames: Vec<Leaving>,
    /// Events.
    #[serde(default)]
    pub posts: Vec<Post>,
    /// Another one than before: there may be other wishes for rooms.
    #[serde(default)]
    pub moved: u64,
}

/// The rooms in which the agent is to be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Wishes {
    /// All of them.
    pub rooms: Vec<Wish>,
    /// Another one than before: what was said of rooms is forgotten.
    pub began: u32,
    /// As in [`Fetched`].
    pub moved: u64,
}

/// What the agent says of a room.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Of which group it is.
    pub group: GroupId,
    /// Which room.
    pub room: OwnedRoomId,
    /// The servers whose agents are there; absent where this server's is not.
    pub joined: Option<BTreeSet<OwnedServerName>>,
    /// Those whose agents are there and should not be any more.
    pub leaving: BTreeSet<OwnedServerName>,
}

#[derive(Deserialize)]
struct Answer {
    frames: Vec<Leaving>,
}

impl Door {
    /// The door of the native server at `address`.
    ///
    /// # Errors
    /// [`DoorError::Address`], [`DoorError::Request`].
    pub fn new(address: &str, token: Secret) -> Result<Self, DoorError> {
        let bad = || DoorError::Address(address.to_owned());
        let below = |path: &[&str]| {
            let mut url = Url::parse(address).map_err(|_| bad())?;
            let mut segments = url.path_segments_mut().map_err(|()| bad())?;
            segments.pop_if_empty().extend(["_causeway", "relay", "v1"]).extend(path);
            drop(segments);
            Ok::<_, DoorError>(url)
        };
        let (frames, rooms) = (below(&["frames"])?, below(&["rooms"])?);
        let (calls, members) = (below(&["calls", "token"])?, below(&["calls", "member"])?);
        let abroad = below(&["calls", "abroad"])?;
        let token = Arc::new(token);
        let (said, there) = (below(&["calls", "said"])?, below(&["calls", "there"])?);
        // One provider for the whole process; a second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { client, frames, rooms, calls, members, abroad, said, there, token })
    }

    /// What is to leave now, waited for at most so long, or until there may be other wishes than when `moved`
    /// was said.
    ///
    /// # Errors
    /// [`DoorError`]; whatever was on its way leaves again later.
    pub async fn fetch(&self, wait: Duration, moved: Option<u64>) -> Result<Fetched, DoorError> {
        let mut url = self.frames.clone();
        url.query_pairs_mut().append_pair("wait_ms", &wait.as_millis().to_string());
        if let Some(moved) = moved {
            url.query_pairs_mut().append_pair("moved", &moved.to_string());
        }
        self.ask(self.client.request(Method::GET, url).timeout(wait + TIMEOUT)).await
    }

    /// The rooms in which the agent is to be.
    ///
    /// # Errors
    /// [`DoorError`]
    pub async fn rooms(&self) -> Result<Wishes, DoorError> {
        self.ask(self.client.request(Method::GET, self.rooms.clone()).timeout(TIMEOUT)).await
    }

    /// Says what the agent found there.
    ///
    /// # Errors
    /// [`DoorError`]; to say the same again is safe.
    pub async fn report(&self, rooms: &[Report]) -> Result<(), DoorError> {
        let request = self.client.request(Method::POST, self.rooms.clone()).timeout(TIMEOUT);
        let request = request.bearer_auth(self.token.expose()).json(&json!({ "rooms": rooms }));
        let status = request.send().await?.status();
        if status.is_success() { Ok(()) } else { Err(DoorError::Refused(status.as_u16())) }
    }

    /// Hands in what came, at most [`MAX_FRAMES`]; it is committed when this returns. What is to go
    /// back beside the links.
    ///
    /// # Errors
    /// [`DoorError`]; to hand in the same again is safe.
    pub async fn hand_in(&self, frames: &[Came]) -> Result<Vec<Leaving>, DoorError> {
        let request = self.client.request(Method::POST, self.frames.clone()).timeout(TIMEOUT);
        let answer: Answer = self.ask(request.json(&json!({ "frames": frames }))).await?;
        Ok(answer.frames)
    }

    /// What lets one of Matrix into a call; one that runs prepares for him.
    ///
    /// # Errors
    /// [`NotLetIn`]
    pub async fn let_in(&self, guest: &Guest) -> Result<Given, NotLetIn> {
        self.about_calls(&self.calls, guest).await
    }

    /// Says of one of Matrix that he is in a call, or is not any more.
    ///
    /// # Errors
    /// [`NotLetIn`]
    pub async fn attend(&self, attends: &Attends) -> Result<(), NotLetIn> {
        self.about_calls::<Value>(&self.members, attends).await.map(drop)
    }

    /// What natives want to hear elsewhere, waited for at most so long.
    ///
    /// # Errors
    /// [`DoorError`]; what was on its way is asked for again.
    pub async fn abroad(&self, wait: Duration) -> Result<Vec<Abroad>, DoorError> {
        let mut url = self.abroad.clone();
        url.query_pairs_mut().append_pair("wait_ms", &wait.as_millis().to_string());
        self.ask(self.client.request(Method::GET, url).timeout(wait + TIMEOUT)).await
    }

    /// Says what came of one of them.
    ///
    /// # Errors
    /// [`DoorError`]
    pub async fn fetched(&self, fetched: &FromAbroad) -> Result<(), DoorError> {
        let request = self.client.request(Method::POST, self.abroad.clone()).timeout(TIMEOUT);
        let request = request.bearer_auth(self.token.expose()).json(fetched);
        let status = request.send().await?.status();
        if status.is_success() { Ok(()) } else { Err(DoorError::Refused(status.as_u16())) }
    }

    /// Says something of the moment for one of Matrix.
    ///
    /// # Errors
    /// [`NotLetIn`]
    pub async fn says(&self, says: &Says) -> Result<(), NotLetIn> {
        self.about_calls::<Value>(&self.said, says).await.map(drop)
    }

    /// Who of these is there, in their order; none of whom that is not known.
    ///
    /// # Errors
    /// [`NotLetIn`]
    pub async fn who_is_there(&self, places: &[Place]) -> Result<Vec<Option<bool>>, NotLetIn> {
        let asked = json!({ "places": places });
        Ok(self.about_calls::<There>(&self.there, &asked).await?.there)
    }

    async fn about_calls<T: DeserializeOwned>(
        &self,
        url: &Url,
        body: &(impl Serialize + Sync),
    ) -> Result<T, NotLetIn> {
        let away = |error: reqwest::Error| {
            tracing::warn!(error = %error.without_url(), "nobody is let into calls: the native server is away");
            NotLetIn::Away("The server that carries calls is not reachable.".to_owned())
        };
        let request = self.client.request(Method::POST, url.clone()).timeout(TIMEOUT);
        let request = request.bearer_auth(self.token.expose()).json(body);
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        if status.is_success() {
            return answer.json().await.map_err(away);
        }
        let said: Refusal = answer.json().await.map_err(away)?;
        if status.is_client_error() && status != StatusCode::UNAUTHORIZED {
            return Err(NotLetIn::Refused(said.error));
        }
        tracing::info!(%status, why = said.error, "nobody of Matrix is let into calls");
        Err(NotLetIn::Away(said.error))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, DoorError> {
        let answer = request.bearer_auth(self.token.expose()).send().await?;
        if !answer.status().is_success() {
            return Err(DoorError::Refused(answer.status().as_u16()));
        }
        Ok(answer.json().await?)
    }
}

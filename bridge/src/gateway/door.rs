//! The native server's door between servers: frames that are to leave, and frames that came
//! (protocol §7.1). What is in them is the native server's business alone.

use std::{sync::Arc, time::Duration};

use reqwest::{Client, Method, Url};
use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::secret::Secret;

/// Longest that the door may take beyond what it was told to wait.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Frames that are handed in at once.
pub const MAX_FRAMES: usize = 128;

/// The door, and the token that opens it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Door {
    client: Client,
    frames: Url,
    token: Arc<Secret>,
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
    /// The to-device message's content.
    pub content: Value,
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
        let mut frames = Url::parse(address).map_err(|_| bad())?;
        frames.path_segments_mut().map_err(|()| bad())?.pop_if_empty().extend([
            "_causeway",
            "relay",
            "v1",
            "frames",
        ]);
        // One provider for the whole process; a second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { client, frames, token: Arc::new(token) })
    }

    /// What is to leave now, waited for at most so long.
    ///
    /// # Errors
    /// [`DoorError`]; whatever was on its way leaves again later.
    pub async fn fetch(&self, wait: Duration) -> Result<Vec<Leaving>, DoorError> {
        let mut url = self.frames.clone();
        url.query_pairs_mut().append_pair("wait_ms", &wait.as_millis().to_string());
        self.ask(self.client.request(Method::GET, url).timeout(wait + TIMEOUT)).await
    }

    /// Hands in what came, at most [`MAX_FRAMES`]; it is committed when this returns. What is to go
    /// back beside the links.
    ///
    /// # Errors
    /// [`DoorError`]; to hand in the same again is safe.
    pub async fn hand_in(&self, frames: &[Came]) -> Result<Vec<Leaving>, DoorError> {
        let request = self.client.request(Method::POST, self.frames.clone()).timeout(TIMEOUT);
        self.ask(request.json(&json!({ "frames": frames }))).await
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Vec<Leaving>, DoorError> {
        let answer = request.bearer_auth(self.token.expose()).send().await?;
        if !answer.status().is_success() {
            return Err(DoorError::Refused(answer.status().as_u16()));
        }
        Ok(answer.json::<Answer>().await?.frames)
    }
}

//! The homeserver's client-server API, spoken as the bot or as a ghost.
//!
//! Thin by design: one method is one request. Nothing here retries, remembers or decides; who
//! calls knows from [`MatrixError`] what may be tried again. Messages go out as the user's device
//! [`DEVICE`], because Synapse dedupes transaction ids in its database only for a device
//! (MSC4326, spec v1.17).

mod error;
mod invited;
mod request;
mod rooms;
mod rtc;
mod sync;
mod users;

pub use error::MatrixError;
pub use invited::Invitations;
pub use rooms::{Direction, MessagesPage};
pub use rtc::{Delayed, Lack};
pub use sync::{Behind, Synced, SyncedRoom, ToAgent};
pub use users::{Standing, Userinfo};

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, Method, Url, redirect};
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::clocks::Clocks;
use crate::secret::Secret;

/// The device that every ghost and the bot have, without keys: for deduplication.
pub const DEVICE: &str = "CAUSEWAY";

/// The device of every server's agent.
pub const AGENT_DEVICE: &str = "CAUSEWAY_RELAY";

/// Type of the messages between two agents.
const RELAY: &str = "dev.causeway.relay";

/// Type of the message from device to device by which `causeway doctor` sees that they arrive.
pub const TRIED: &str = "dev.causeway.doctor";

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
    trouble: Arc<Notify>,
    clocks: Arc<Clocks>,
    /// Requests of all clones that were not answered by the homeserver.
    breaks: Arc<AtomicU64>,
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
    /// What it can do of what is not in the specification yet.
    #[serde(default)]
    pub unstable_features: BTreeMap<String, Value>,
}

/// What `GET /account/whoami` says.
#[derive(Debug, Clone, Deserialize)]
pub struct Whoami {
    /// Who the homeserver takes us for.
    pub user_id: OwnedUserId,
    /// With which device.
    pub device_id: Option<String>,
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
        Ok(Self {
            client,
            base,
            token: Arc::new(token),
            trouble: Arc::default(),
            clocks: Arc::default(),
            breaks: Arc::default(),
        })
    }

    /// How often the homeserver may have been away until now, a request not answered or a connection of
    /// its own at its end: what was known of it before the last time may have changed unheard.
    pub fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Relaxed)
    }

    /// A request was not answered, or a connection of its own has ended.
    pub fn broke_off(&self) {
        self.breaks.fetch_add(1, Ordering::Relaxed);
    }

    /// Done when a request was not answered, by whichever clone; one call hears of it.
    pub async fn trouble(&self) {
        self.trouble.notified().await;
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
}

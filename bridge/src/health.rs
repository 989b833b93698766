//! How well things are: written by the tasks that know, read by `/ready` and by the admin API.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use serde::Serialize;
use utoipa::ToSchema;

/// What others must be like for us to work. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<State>);

#[derive(Debug, Default)]
struct State {
    homeserver: Mutex<Option<String>>,
    homeserver_seen: AtomicBool,
    native: AtomicBool,
}

/// A look at everything.
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Report {
    /// All of the others.
    pub ready: bool,
    /// The database answers.
    pub database: bool,
    /// The homeserver answers us and reaches us.
    pub homeserver: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homeserver_error: Option<String>,
    /// The native side answers and knows us.
    pub native: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native_error: Option<String>,
    /// Keys are loaded.
    pub keys: bool,
}

impl Health {
    /// The last exchange with the homeserver went well, or this is why it did not.
    pub fn set_homeserver(&self, outcome: Result<(), String>) {
        self.0.homeserver_seen.store(true, Ordering::Relaxed);
        *self.0.homeserver.lock().unwrap_or_else(PoisonError::into_inner) = outcome.err();
    }

    /// The native side answers or not.
    pub fn set_native(&self, open: bool) {
        self.0.native.store(open, Ordering::Relaxed);
    }

    /// What is known, with what the caller found of the database, of our token on the homeserver and
    /// of our session on the native side. Keys are loaded by whoever has a vault, and nothing is
    /// served without one.
    pub fn report(
        &self,
        database: bool,
        token_taken: bool,
        native_error: Option<String>,
    ) -> Report {
        let error = self.0.homeserver.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let error = if token_taken { error } else { Some("our as_token is not taken".to_owned()) };
        let homeserver = self.0.homeserver_seen.load(Ordering::Relaxed) && error.is_none();
        let native = self.0.native.load(Ordering::Relaxed) && native_error.is_none();
        Report {
            ready: database && homeserver && native,
            database,
            homeserver,
            homeserver_error: error,
            native,
            native_error,
            keys: true,
        }
    }
}

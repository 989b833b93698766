//! How well things are: written by the tasks that know, read by `/ready` and by the admin API.

mod troubles;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use utoipa::ToSchema;

pub use troubles::{Kind, Trouble, Troubles};

/// How long the homeserver may be away and we still are ready: it starts again, now and then.
const PATIENCE: Duration = Duration::from_mins(1);

/// What others must be like for us to work. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// What stands.
    pub troubles: Troubles,
    seen: Arc<Seen>,
}

/// Who has answered us since the start.
#[derive(Debug, Default)]
struct Seen {
    homeserver: AtomicBool,
    native: AtomicBool,
}

/// What whoever asks has found out by himself.
#[derive(Debug, Clone)]
pub struct Found {
    /// Whether the database takes what is written.
    pub database: bool,
    /// Whether the homeserver takes our token.
    pub token_taken: bool,
    /// Why the native server does not know our session, if it does not.
    pub locked_out: Option<String>,
}

/// A look at everything.
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Report {
    /// Messages can pass: the database can be written to, the native side is open to us, and the
    /// homeserver was well within the last minute.
    pub ready: bool,
    /// The database can be read and written.
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
    /// The last exchange with the homeserver went well, or this is why it did not; when it is asked
    /// again.
    pub fn set_homeserver(&self, outcome: Result<(), String>, again: Duration) {
        match outcome {
            Ok(()) => {
                self.seen.homeserver.store(true, Ordering::Relaxed);
                self.troubles.goes(Kind::Homeserver, "");
            }
            Err(why) => self.troubles.stands(Kind::Homeserver, "", &why, Some(again)),
        }
    }

    /// The native side answers, or this is why not; when it is asked again.
    pub fn set_native(&self, outcome: Result<(), String>, again: Duration) {
        match outcome {
            Ok(()) => {
                self.seen.native.store(true, Ordering::Relaxed);
                self.troubles.goes(Kind::Native, "");
            }
            Err(why) => self.troubles.stands(Kind::Native, "", &why, Some(again)),
        }
    }

    /// What is known, with what the caller found. Keys are loaded by whoever has a vault, and nothing
    /// is served without one.
    pub fn report(&self, found: Found) -> Report {
        let Found { database, token_taken, locked_out } = found;
        let seen = |who: &AtomicBool| who.load(Ordering::Relaxed);
        // Without its account nothing that is doubted goes on: as bad as its silence.
        let gone = self.troubles.of(Kind::Homeserver, "");
        let mute = self.troubles.of(Kind::Account, "");
        let is_away = |stood: &Option<(Duration, String)>| {
            stood.as_ref().is_some_and(|(stood, _)| *stood >= PATIENCE)
        };
        let is_there = seen(&self.seen.homeserver) && token_taken;
        let homeserver_error = if token_taken {
            gone.as_ref().or(mute.as_ref()).map(|(_, why)| why.clone())
        } else {
            Some("our as_token is not taken".to_owned())
        };
        let native_error =
            locked_out.or_else(|| self.troubles.of(Kind::Native, "").map(|(_, why)| why));
        let native = seen(&self.seen.native) && native_error.is_none();
        Report {
            ready: database && native && is_there && !is_away(&gone) && !is_away(&mute),
            database,
            homeserver: is_there && homeserver_error.is_none(),
            homeserver_error,
            native,
            native_error,
            keys: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGAIN: Duration = Duration::from_secs(2);

    fn found() -> Found {
        Found { database: true, token_taken: true, locked_out: None }
    }

    fn well() -> Health {
        let health = Health::default();
        health.set_homeserver(Ok(()), AGAIN);
        health.set_native(Ok(()), AGAIN);
        health
    }

    #[test]
    fn nobody_is_ready_who_has_not_seen_both() {
        assert!(well().report(found()).ready);
        let health = Health::default();
        health.set_native(Ok(()), AGAIN);
        assert!(!health.report(found()).ready);
        let health = Health::default();
        health.set_homeserver(Ok(()), AGAIN);
        assert!(!health.report(found()).ready);
    }

    #[test]
    fn what_the_caller_found_counts_at_once() {
        let locked_out = Some("no".to_owned());
        for found in [
            Found { database: false, ..found() },
            Found { token_taken: false, ..found() },
            Found { locked_out, ..found() },
        ] {
            assert!(!well().report(found.clone()).ready, "{found:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_homeserver_that_is_gone_is_said_at_once_and_waited_for_a_minute() {
        for kind in [Kind::Homeserver, Kind::Account] {
            let health = well();
            health.troubles.stands(kind, "", "gone", None);
            let report = health.report(found());
            assert!(report.ready && !report.homeserver, "{report:?}");
            assert_eq!(report.homeserver_error.as_deref(), Some("gone"));
            tokio::time::advance(PATIENCE).await;
            assert!(!health.report(found()).ready);
            health.troubles.goes(kind, "");
            assert!(health.report(found()).ready);
        }
    }
}

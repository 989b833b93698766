//! What of the configuration is in force, and what SIGHUP changes of it while everything runs.

use std::sync::{Mutex, OnceLock, PoisonError};

use causeway_server::{App, EdgeLimits};
use tokio::sync::watch;

use super::{edges, edges::Listener, logging::Level, native};
use crate::{
    config::{Config, ConfigError, WrongValue},
    domain::share::Terms,
};

/// The one who knows, and who tells those who go by it.
pub(super) struct InForce {
    level: Level,
    /// As the process was started: what it says of all else counts until it ends.
    started: Config,
    /// As it was read last.
    present: Mutex<Config>,
    appservice: watch::Sender<EdgeLimits>,
    terms: watch::Sender<Terms>,
    /// The native server, where it runs here.
    server: OnceLock<App>,
}

/// Whether a key counts as soon as it is read again.
fn is_live(key: &str) -> bool {
    key == "logging.level" || key.starts_with("limits.") || key.starts_with("bridge.")
}

impl InForce {
    /// What `config` says.
    pub(super) fn new(level: Level, config: &Config) -> Result<Self, WrongValue> {
        Ok(Self {
            level,
            started: config.clone(),
            present: Mutex::new(config.clone()),
            appservice: watch::Sender::new(edges::limits(config, Listener::Appservice)),
            terms: watch::Sender::new(config.terms()?),
            server: OnceLock::new(),
        })
    }

    /// What the listener of the homeserver bears.
    pub(super) fn appservice(&self) -> watch::Receiver<EdgeLimits> {
        self.appservice.subscribe()
    }

    /// What the bridge does for one account.
    pub(super) fn terms(&self) -> watch::Receiver<Terms> {
        self.terms.subscribe()
    }

    /// The native server runs here, and goes by this from now on.
    pub(super) fn serves(&self, server: &App) {
        // It was told what is in force when the process began, which may have changed since.
        native::limit(server, &self.present.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = self.server.set(server.clone());
    }

    /// Takes over what may change, and says what waits for a restart. A configuration that is not
    /// right changes nothing.
    pub(super) fn reload(&self, read: Result<Config, ConfigError>) {
        let taken = read.map_err(|error| error.to_string()).and_then(|config| self.take(config));
        if let Err(error) = taken {
            tracing::error!("nothing has changed: {error}");
        }
    }

    fn take(&self, config: Config) -> Result<(), String> {
        let terms = config.terms().map_err(|error| error.to_string())?;
        self.level.set(&config.logging).map_err(|error| error.to_string())?;
        self.terms.send_replace(terms);
        self.appservice.send_replace(edges::limits(&config, Listener::Appservice));
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = self.server.get() {
            native::limit(server, &config);
        }
        let changed = config.changed(&present).into_iter().filter(|key| is_live(key));
        let changed = changed.collect::<Vec<_>>().join(", ");
        let waits = config.changed(&self.started).into_iter().filter(|key| !is_live(key));
        let waits = waits.collect::<Vec<_>>().join(", ");
        *present = config;
        drop(present);
        if changed.is_empty() {
            tracing::info!(
                "the configuration was read again: no limit and no log level has changed"
            );
        } else {
            tracing::info!("the configuration was read again, and counts from now on: {changed}");
        }
        if !waits.is_empty() {
            tracing::warn!("needs a restart: {waits}");
        }
        Ok(())
    }
}

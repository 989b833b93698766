//! What of the configuration is in force, and what SIGHUP changes of it while everything runs.

use std::sync::{Mutex, OnceLock, PoisonError};

use causeway_server::{AccountQuotas, App, EdgeLimits, GuestQuotas};
use tokio::sync::watch;

use super::{edges, edges::Listener, logging::Level};
use crate::{
    config::{Config, ConfigError, Limits, WrongValue},
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

    /// The native server runs here, and goes by this from now on: it has no limits of its own yet.
    pub(super) fn serves(&self, server: &App) {
        // Held until it is known here: what is read meanwhile is for it, too.
        let present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        limit(server, &present);
        let _ = self.server.set(server.clone());
        drop(present);
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
            limit(server, &config);
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

fn limit(server: &App, config: &Config) {
    let (accounts, guests) = quotas(&config.limits);
    server.set_limits(accounts, guests, edges::limits(config, Listener::Native));
}

/// Of an account, and of an address without one.
fn quotas(limits: &Limits) -> (AccountQuotas, GuestQuotas) {
    let accounts = AccountQuotas {
        envelopes: Some(limits.envelopes.into()),
        ops: Some(limits.ops.into()),
        op_kib: Some(limits.op_kib.into()),
        groups: Some(limits.new_groups.into()),
        groups_in_all: limits.groups,
        strangers: Some(limits.strangers.into()),
        keys: Some(limits.key_uploads.into()),
        claims: Some(limits.claims.into()),
        lists: Some(limits.device_lists.into()),
        devices: limits.devices,
        invites: limits.invites,
        joins: Some(limits.joins.into()),
        link_joins: Some(limits.link_joins.into()),
        envelope_kib: Some(limits.envelope_kib.into()),
        parked: limits.parked,
        parked_kib: limits.parked_kib,
        reports: Some(limits.key_reports.into()),
        traffic_kib: Some(limits.traffic_kib.into()),
        waiting_kib: limits.waiting_kib,
        mailbox_kib: limits.mailbox_kib,
    };
    let guests = GuestQuotas {
        register: Some(limits.registrations.into()),
        login: Some(limits.logins.into()),
        link: Some(limits.links.into()),
    };
    (accounts, guests)
}

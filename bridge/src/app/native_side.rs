//! The bridge's way to the native side, and whether its database is the newest of itself.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use causeway_groups::{
    Vault, machine,
    sdk::{self, Client, Keep},
};
use causeway_protocol::ids::DeviceId;
use causeway_store::Db;

use super::{RunError, token};
use crate::{
    clock,
    config::Config,
    domain::ghost::Names,
    gateway::{
        hint::hint,
        matrix::{Matrix, MatrixError},
        native,
    },
    health::Health,
    init::BRIDGE_TOKEN,
    services::{
        restored::{self, AgainError},
        standing,
    },
    storage::{self, sealed::Sealer},
};

/// Localpart of the bridge's native account; the server keeps it for the bridge.
const BRIDGE: &str = "bridge";
/// Between looks for a native side that is not there yet.
const WAIT: Duration = Duration::from_millis(200);
/// Between two words on the same.
const MINUTE: Duration = Duration::from_mins(1);
/// Looks at a homeserver that answers and says nothing.
const ODD: u32 = 12;
/// Between looks at a native side that was there.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// What the bridge needs to be on the native side.
pub(super) struct Side<'a> {
    pub(super) config: &'a Config,
    pub(super) db: &'a Db,
    pub(super) vault: &'a Vault,
    pub(super) rows: Arc<dyn Keep>,
    pub(super) matrix: &'a Matrix,
    pub(super) names: &'a Names,
    pub(super) sealer: &'a Sealer,
    pub(super) health: &'a Health,
    /// Whether somebody said that the database was put back.
    pub(super) after_restore: bool,
    /// What was said last of what is waited for, and how often it was so since.
    pub(super) said: Mutex<Said>,
}

impl Side<'_> {
    /// The bridge's device, once it is sure that nothing newer of its database was ever there, or
    /// that this is meant; waits until everybody who is to be asked can be reached. `is_told`:
    /// whether it is known to have been put back, and the groups are told.
    pub(super) async fn enter(&self, mut is_told: bool) -> Result<Client, RunError> {
        let failed = |error: storage::Error| RunError::Bridge(error.to_string());
        loop {
            let native = self.connect().await?;
            let at_native = match native.known().await {
                Ok(known) => known,
                Err(sdk::SdkError::Call(error)) if error.is_transient() => {
                    self.waits_for_native(&error).await;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "the native side does not say what it knows of bridge.db");
                    0
                }
            };
            let at_homeserver = self.at_homeserver(native.me().record.device_id).await;
            let behind = standing::behind(self.db, at_homeserver, at_native).await;
            if let Some(known) = behind.map_err(failed)? {
                let noted = machine::is_behind(self.db, known).await;
                noted.map_err(|error| RunError::Bridge(error.to_string()))?;
                if !self.after_restore {
                    return Err(RunError::PutBack(self.config.data_file("bridge.db")));
                }
                if is_told {
                    let mut tx = self.db.begin().await?;
                    storage::restored::is_known(tx.conn(), known).await.map_err(failed)?;
                    tx.commit().await?;
                } else {
                    restored::go_on(self.db, clock::now(), known).await.map_err(failed)?;
                    is_told = true;
                }
                // Loaded again, it begins new keys.
                continue;
            }
            self.is_compared().await?;
            match native.compare().await {
                Err(sdk::SdkError::Call(error)) if error.is_transient() => {
                    self.waits_for_native(&error).await;
                    continue;
                }
                // Whoever logs in again asks again, with the chores.
                Err(error) => tracing::warn!(%error, "this device is not compared with the server"),
                Ok(()) => {}
            }
            let now = clock::now();
            match restored::ask(self.db, self.sealer, self.names, now, &native).await {
                Err(AgainError::Native(sdk::SdkError::Call(error))) if error.is_transient() => {
                    self.waits_for_native(&error).await;
                    continue;
                }
                done => done.map_err(|error| RunError::Bridge(error.to_string()))?,
            }
            if self.after_restore && !is_told {
                tracing::info!("bridge.db was not put back; it goes on as it is");
            }
            return Ok(native);
        }
    }

    /// What the homeserver knows of the database. One that is away is waited for; one whose answer
    /// says nothing, as a gateway's does, for a minute.
    async fn at_homeserver(&self, device: DeviceId) -> u64 {
        let mut odd = 0;
        loop {
            match standing::at_homeserver(self.matrix, self.names.bot(), device).await {
                Ok(known) => return known,
                Err(error) if error.is_passing() || odd < ODD && says_nothing(&error) => {
                    odd += u32::from(!error.is_passing());
                    let why =
                        format!("the homeserver does not say what it knows of bridge.db: {error}");
                    self.waits(LOOK, why).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the homeserver does not say what it knows of bridge.db");
                    return 0;
                }
            }
        }
    }

    /// Waits for the native server, which `error` says that it does not answer.
    async fn waits_for_native(&self, error: &impl Display) {
        let (url, key) = (&self.config.native.address, self.config.key("native.address"));
        let hint =
            hint(url, &error.to_string()).map(|hint| format!("; {hint}")).unwrap_or_default();
        self.waits(
            WAIT,
            format!("the native server at {url}: {error}{hint}. Its address is {key}"),
        )
        .await;
    }

    /// Says what is waited for, when that is something else and once a minute, and waits.
    async fn waits(&self, pause: Duration, why: String) {
        if self.said.lock().unwrap_or_else(PoisonError::into_inner).is_news(&why, pause) {
            tracing::warn!(why, "not on the native side yet; trying again");
        }
        self.health.set_native(Err(why), pause);
        tokio::time::sleep(pause).await;
    }

    async fn is_compared(&self) -> Result<(), RunError> {
        let mut tx = self.db.begin().await?;
        let done = storage::restored::is_compared(tx.conn()).await;
        done.map_err(|error| RunError::Bridge(error.to_string()))?;
        Ok(tx.commit().await?)
    }

    /// The bridge's device; waits until the native side can be reached.
    async fn connect(&self) -> Result<Client, RunError> {
        let token = token(self.config, BRIDGE_TOKEN)?;
        let account = format!("{BRIDGE}:{}", self.config.homeserver.server_name);
        let url = &self.config.native.address;
        loop {
            let rows = Arc::clone(&self.rows);
            let opened = native::open(self.db, self.vault, url, &account, &token, rows, clock::now);
            match opened.await {
                Ok(client) => return Ok(client),
                Err(error) if error.is_passing() => {
                    self.waits_for_native(&error).await;
                }
                Err(error) => {
                    let key = self.config.key("native.address");
                    return Err(RunError::Bridge(format!(
                        "{url} does not take it: {error}. Its address is {key}, and its token in {}",
                        self.config.data_file(BRIDGE_TOKEN).display()
                    )));
                }
            }
        }
    }
}

/// What was said last of what is waited for, and for how long it was so since.
#[derive(Debug, Default)]
pub(super) struct Said {
    why: String,
    since: Duration,
}

impl Said {
    /// Whether `why` is to be said now, before `pause`: when it is something else, and once a minute.
    fn is_news(&mut self, why: &str, pause: Duration) -> bool {
        let is_news = self.why != why || self.since >= MINUTE;
        if is_news {
            *self = Self { why: why.to_owned(), since: Duration::ZERO };
        }
        self.since += pause;
        is_news
    }
}

/// Whether it is no homeserver's answer, by all that can be seen: a gateway's.
fn says_nothing(error: &MatrixError) -> bool {
    match error {
        MatrixError::Refused(_, code, _) => code.is_empty(),
        MatrixError::Misunderstood(_) | MatrixError::TooLong(..) => true,
        _ => false,
    }
}

/// Asks the native side now and then whether it is there.
pub(super) async fn watch(http: sdk::Http, health: Health) {
    loop {
        tokio::time::sleep(LOOK).await;
        let outcome = http.server().await;
        health.set_native(outcome.map(drop).map_err(|error| error.to_string()), LOOK);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Said;

    #[test]
    fn what_is_waited_for_is_said_once_a_minute_and_when_it_is_something_else() {
        let mut said = Said::default();
        let mut times = |why, pauses: u32| {
            (0..pauses).filter(|_| said.is_news(why, Duration::from_millis(200))).count()
        };
        assert_eq!(times("nobody there", 300), 1);
        assert_eq!(times("nobody there", 300), 1);
        assert_eq!(times("no key", 1), 1);
        assert_eq!(times("nobody there", 1), 1);
    }
}

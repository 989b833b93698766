//! The machine's rows. Every function works inside its caller's transaction, and knows SQL only.

pub(crate) mod accounts;
pub(crate) mod batches;
pub(crate) mod chains;
pub(crate) mod chores;
pub(crate) mod data_keys;
pub(crate) mod failures;
pub(crate) mod fallback;
pub(crate) mod fan_outs;
pub(crate) mod forgotten;
pub(crate) mod groups;
#[cfg(feature = "cli")]
pub(crate) mod history;
pub(crate) mod holds;
pub(crate) mod identities;
#[cfg(feature = "cli")]
pub(crate) mod imported;
pub(crate) mod invites;
pub(crate) mod joins;
pub(crate) mod legacy;
pub(crate) mod link_words;
#[cfg(feature = "cli")]
pub(crate) mod mirrors;
#[cfg(feature = "cli")]
pub(crate) mod not_taken;
pub(crate) mod offers;
pub(crate) mod olm;
pub(crate) mod ops;
#[cfg(feature = "cli")]
pub(crate) mod outbox;
pub(crate) mod owed;
pub(crate) mod own;
pub(crate) mod parked;
pub(crate) mod place;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod shared_keys;
#[cfg(feature = "cli")]
pub(crate) mod shared_lines;
pub(crate) mod shares;

use causeway_protocol::ids::Timestamp;
use causeway_store::Schema;
use sqlx::migrate::Migrator;

use crate::vault::VaultError;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/client/sqlite");

/// The machine's tables; a database may hold others beside them.
pub const SCHEMA: Schema<'static> =
    Schema { name: "client", migrator: &MIGRATOR, is_counted: false };

/// How long ops' rosters, chains and names of what was seen are kept.
pub(crate) const KEPT_MS: u64 = 31 * 24 * 3_600_000;

/// Why rows could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database's.
    #[error(transparent)]
    Store(#[from] causeway_store::Error),
    /// A sealed record does not open, or cannot be made.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A row of this table is not as this program writes it.
    #[error("a row of {0} is broken")]
    Broken(&'static str),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// SQLite's integers are signed: times and places are far below 2^63.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time or place as it was stored.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(crate) fn ms(time: Timestamp) -> i64 {
    signed(time.0)
}

/// Turns a wrong length or spelling in a row into [`Error::Broken`].
pub(crate) trait Whole<T> {
    /// The value, if the row is whole.
    fn whole(self, table: &'static str) -> Result<T, Error>;
}

impl<T, E> Whole<T> for Result<T, E> {
    fn whole(self, table: &'static str) -> Result<T, Error> {
        self.map_err(|_| Error::Broken(table))
    }
}

impl<T> Whole<T> for Option<T> {
    fn whole(self, table: &'static str) -> Result<T, Error> {
        self.ok_or(Error::Broken(table))
    }
}

/// JSON of a value that always has one.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

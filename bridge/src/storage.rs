//! The bridge's rows in `bridge.db`, one file per table or pair of tables.
//!
//! Every function works inside its caller's transaction, and many rows are one statement: nothing
//! here begins, commits or decides. Texts at rest are sealed (`docs/security.md`).
//!
//! Statements of the hot path have their LIMIT written out: one that is bound has SQLite plan the
//! statement anew whenever it runs.

pub mod agents;
pub mod answered;
pub mod callers;
pub mod dead_letters;
pub mod delegated;
pub mod effects;
pub mod errands;
pub mod expired;
pub mod ghosts;
pub mod inbox;
pub mod lanes;
pub mod late;
pub mod links;
pub mod outbox;
pub mod portals;
pub mod quarantine;
pub mod reading;
pub mod restored;
pub mod rows;
pub mod sealed;
pub mod shares;
pub mod stats;

use causeway_store::Schema;
use sqlx::migrate::Migrator;

/// Woken when there are events to route.
const TO_ROUTE: &str = "inbox";

static MIGRATOR: Migrator = sqlx::migrate!("../migrations/bridge/sqlite");

/// The bridge's tables, to be opened beside the client machine's.
pub const SCHEMA: Schema<'static> =
    Schema { name: "bridge", migrator: &MIGRATOR, is_counted: true };

/// Why rows could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database's.
    #[error(transparent)]
    Store(#[from] causeway_store::Error),
    /// Table and column whose value is not what we write there.
    #[error("{0} holds what was never written there")]
    Row(&'static str),
    /// A sealed row does not open, or no randomness to seal one.
    #[error(transparent)]
    Sealed(#[from] sealed::SealError),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Milliseconds as the column holds them.
fn at(time: causeway_protocol::ids::Timestamp) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// Milliseconds from the column.
fn time(column: i64) -> causeway_protocol::ids::Timestamp {
    causeway_protocol::ids::Timestamp(u64::try_from(column).unwrap_or_default())
}

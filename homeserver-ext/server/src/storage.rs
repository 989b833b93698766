//! Rows of `server.db`: one file per kind of thing, functions that take a connection.
//!
//! No rule lives here, and no transaction begins or ends here: services do both. What a row holds
//! is said in `migrations/server`.

pub(crate) mod accounts;
pub(crate) mod call_rooms;
pub(crate) mod calls;
pub(crate) mod devices;
pub(crate) mod event_log;
pub(crate) mod events;
pub(crate) mod former;
pub(crate) mod group_rooms;
pub(crate) mod groups;
pub(crate) mod invites;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod mailbox;
mod many;
pub(crate) mod sender_keys;
pub(crate) mod servers;
pub(crate) mod standing;

use causeway_protocol::ids::Timestamp;
use causeway_store::Schema;
use sqlx::migrate::Migrator;

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/server/sqlite");

/// The server's tables.
pub const SCHEMA: Schema<'static> =
    Schema { name: "server", migrator: &MIGRATOR, is_counted: false };

/// Why rows could not be read or changed; always ours to log, never the caller's to read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The database's own.
    #[error(transparent)]
    Store(#[from] causeway_store::Error),
    /// A row says what nothing here ever writes: which column.
    #[error("a row has a {0} that is none")]
    Row(&'static str),
    /// The machine's.
    #[error("nothing can be drawn: {0}")]
    Entropy(#[from] getrandom::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A device's number in this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub(crate) struct DeviceRow(pub(crate) i64);

/// A group's number in this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub(crate) struct GroupRow(pub(crate) i64);

/// The last moment that a column can have.
pub(crate) const LAST: Timestamp = Timestamp(i64::MAX as u64);

/// As a column has it.
pub(crate) fn ms(time: Timestamp) -> i64 {
    time.0.try_into().unwrap_or(i64::MAX)
}

/// As everything else has it.
fn time(ms: i64) -> Timestamp {
    Timestamp(ms.try_into().unwrap_or(0))
}

/// Reads a column of a fixed length; `column` is for the error.
macro_rules! name_of {
    ($name:ty, $bytes:expr, $column:literal) => {
        <$name>::from_slice($bytes).map_err(|_| $crate::storage::Error::Row($column))
    };
}
use name_of;

/// Reads a number that cannot be negative or too large.
fn number<N: TryFrom<i64>>(value: i64, column: &'static str) -> Result<N, Error> {
    value.try_into().map_err(|_| Error::Row(column))
}

//! Why rows could not be read or changed, as those who asked are told.

use std::sync::Arc;

/// Why rows could not be read or changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The statement failed; the transaction may be dropped, others go on.
    #[error(transparent)]
    Sqlite(Arc<sqlx::Error>),
    /// Nothing of this transaction is kept; try again.
    #[error("the change could not be committed")]
    Commit(#[source] Arc<sqlx::Error>),
    /// There is no room on the disk for what would grow; nothing of it is kept. Deleting goes on.
    #[error("the disk is full: nothing new can be kept until there is room")]
    Full,
    /// It is committed, and the count beside the file does not say so: do not act on it, read it.
    #[error("the count beside the database cannot be written")]
    Count(#[source] Arc<std::io::Error>),
    /// Another process has been writing for longer than the busy timeout of 30 s; try again.
    #[error("the database is busy: another process has been writing to it for 30 s")]
    Busy,
    /// Others have been reading for so long that no connection became free; try again.
    #[error("every reading connection of the database has been in use for 30 s")]
    Readers,
    /// [`Db::close`](crate::Db::close) was called.
    #[error("the database is closed")]
    Closed,
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_busy(&error) {
            Self::Busy
        } else if is_full(&error) {
            Self::Full
        } else {
            Self::Sqlite(Arc::new(error))
        }
    }
}

impl Error {
    /// Whether a unique or primary-key constraint refused a row.
    pub fn is_unique_violation(&self) -> bool {
        match self {
            Self::Sqlite(error) => error
                .as_database_error()
                .is_some_and(sqlx::error::DatabaseError::is_unique_violation),
            Self::Commit(_)
            | Self::Full
            | Self::Count(_)
            | Self::Busy
            | Self::Readers
            | Self::Closed => false,
        }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    // SQLITE_BUSY, and SQLITE_BUSY_SNAPSHOT.
    has_code(error, &["5", "517"])
}

pub(crate) fn is_full(error: &sqlx::Error) -> bool {
    // SQLITE_FULL, and SQLITE_IOERR_SHMSIZE: the log's index could not be made larger.
    has_code(error, &["13", "4874"])
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| codes.contains(&&*code))
}

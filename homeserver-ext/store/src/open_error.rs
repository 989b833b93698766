//! Why a database was not opened.

use std::{io, path::PathBuf};

use crate::lock::Holder;

/// Why a database was not opened. Nothing was written, except as [`OpenError::Sqlite`] may tell.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Stop that process, or use its interface.
    #[error("{0} is in use by {1}")]
    Held(PathBuf, Holder),
    /// Restore again; or, to go on with the database that is there, remove that file.
    #[error(
        "a backup was being put back, and that was cut off: {0} is there. Restore it again. What was \
         there before may be in the folder before-restore-… beside it: only where the database itself \
         is in its place, remove that file to go on with it"
    )]
    Restoring(PathBuf),
    /// Put a backup back; or, to begin with an empty one, remove the count beside it.
    #[error(
        "{0} is not there, and {0}.generation says that there was one. Put a backup back, or move \
         the database there from where it is; to begin with an empty one, remove {0}.generation"
    )]
    Missing(PathBuf),
    /// Run the newer program, or restore the backup made before it ran: schema, version in the
    /// file, newest version known here.
    #[error(
        "the database has version {1} of its {0} tables; this program knows versions up to {2}"
    )]
    Newer(String, i64, i64),
    /// A migration was changed after it had been applied: schema, version.
    #[error("migration {1} of the {0} tables is not the one that made this database")]
    Altered(String, i64),
    /// This program was linked with a version that can corrupt the file.
    #[error("SQLite {0} is older than 3.51.3, which can corrupt a database in WAL mode")]
    OldSqlite(String),
    /// Restore a backup; what `PRAGMA quick_check` found.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The lock file or the database file could not be made.
    #[error("cannot open the database file: {0}")]
    Io(#[from] io::Error),
    /// The engine's own words.
    #[error("cannot open the database: {0}")]
    Sqlite(sqlx::Error),
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        // SQLITE_CORRUPT and SQLITE_NOTADB: what a quick check would have found.
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if matches!(code.as_deref(), Some("11" | "26")) {
            return Self::Damaged(error.to_string());
        }
        Self::Sqlite(error)
    }
}

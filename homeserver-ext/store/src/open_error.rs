//! Why a database was not opened.

use std::{io, path::PathBuf};

use crate::lock::Holder;

/// A database that was not opened. Nothing was written, except as [`OpenCause::Sqlite`] may tell.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub struct OpenError {
    /// The database's file.
    pub path: PathBuf,
    /// Why.
    pub cause: OpenCause,
}

/// Why a database was not opened; the file is named by whoever shows it.
#[derive(Debug, thiserror::Error)]
pub enum OpenCause {
    /// Stop that process, or use its interface.
    #[error("it is in use by {0}")]
    Held(Holder),
    /// Restore again; or, to go on with the database that is there, remove that file.
    #[error(
        "a backup was being put back, and that was cut off: {0} is there. Restore it again. What was \
         there before may be in the folder before-restore-… beside it: only where the database itself \
         is in its place, remove that file to go on with it"
    )]
    Restoring(PathBuf),
    /// Put a backup back; or, to begin with an empty one, remove the count beside it.
    #[error(
        "it is not there, and {0} says that there was one. Put a backup back, or move the database \
         there from where it is; to begin with an empty one, remove {0}"
    )]
    Missing(PathBuf),
    /// Run the newer program, or restore the backup made before it ran: schema, version in the
    /// file, newest version known here.
    #[error("it has version {1} of its {0} tables; this program knows versions up to {2}")]
    Newer(String, i64, i64),
    /// A migration was changed after it had been applied: schema, version.
    #[error("migration {1} of its {0} tables is not the one that made it")]
    Altered(String, i64),
    /// This program was linked with a version that can corrupt the file.
    #[error("SQLite {0} is older than 3.51.3, which can corrupt a database in WAL mode")]
    OldSqlite(String),
    /// Restore a backup; what `PRAGMA quick_check` found.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The lock file or the database file could not be made.
    #[error("it cannot be opened: {0}")]
    Io(#[from] io::Error),
    /// The engine's own words.
    #[error("it cannot be opened: {0}")]
    Sqlite(sqlx::Error),
}

impl From<sqlx::Error> for OpenCause {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        match code.as_deref() {
            // SQLITE_CORRUPT and SQLITE_NOTADB: what a quick check would have found.
            Some("11" | "26") => Self::Damaged(error.to_string()),
            // SQLITE_FULL.
            Some("13") => Self::Io(io::ErrorKind::StorageFull.into()),
            // SQLITE_READONLY.
            Some("8") => Self::Io(io::ErrorKind::PermissionDenied.into()),
            _ => Self::Sqlite(error),
        }
    }
}

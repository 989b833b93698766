//! The native side: `causeway-server` with its own database and listener.

use causeway_store::Db;

use super::{RunError, tasks::Tasks};
use crate::config::Config;

/// The running native side.
pub(super) struct Native {
    db: Option<Db>,
}

impl Native {
    /// Its database, for counting.
    pub(super) fn db(&self) -> Option<Db> {
        self.db.clone()
    }

    /// Closes the database.
    pub(super) async fn close(self) {
        if let Some(db) = self.db {
            db.close().await;
        }
    }
}

/// Opens the database and starts to listen.
pub(super) async fn start(_config: &Config, _tasks: &Tasks) -> Result<Native, RunError> {
    Ok(Native { db: None })
}

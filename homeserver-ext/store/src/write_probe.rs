//! Whether a database takes what is written: found out by writing.

use std::time::Duration;

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::Db;

/// For how long an answer holds: whoever asks more often makes no more writes.
const HOLDS: Duration = Duration::from_secs(5);
/// Longest that a write may wait for its turn and the disk. A database that another process writes
/// to is busy for 5 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// One database's last answer.
#[derive(Debug, Default)]
pub struct WriteProbe(Mutex<Option<(Instant, bool)>>);

impl WriteProbe {
    /// Whether something can be committed to `db`, which is called `name` in the log. Those who ask
    /// meanwhile wait for the same answer.
    pub async fn is_well(&self, db: &Db, name: &'static str) -> bool {
        let mut last = self.0.lock().await;
        if let Some((at, is_well)) = *last
            && at.elapsed() < HOLDS
        {
            return is_well;
        }
        let is_well = match timeout(PATIENCE, db.probe()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, db = name, "the database takes nothing");
                false
            }
            Err(_) => {
                tracing::warn!(db = name, "the database does not answer");
                false
            }
        };
        *last = Some((Instant::now(), is_well));
        is_well
    }
}

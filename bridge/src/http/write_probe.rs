//! Whether a database takes what is written: found out by writing.

use std::time::Duration;

use causeway_store::Error;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// For how long an answer holds: whoever asks more often makes no more writes.
const HOLDS: Duration = Duration::from_secs(5);
/// Longest that a write may wait for its turn and the disk. A database that another process writes
/// to is busy for 5 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// One database's last answer.
#[derive(Debug, Default)]
pub struct WriteProbe(Mutex<Option<(Instant, bool)>>);

impl WriteProbe {
    /// Whether something can be committed: `write` is done where that is not known. Those who ask
    /// meanwhile wait for the same answer.
    pub(super) async fn is_well(
        &self,
        db: &'static str,
        write: impl Future<Output = Result<(), Error>>,
    ) -> bool {
        let mut last = self.0.lock().await;
        if let Some((at, is_well)) = *last
            && at.elapsed() < HOLDS
        {
            return is_well;
        }
        let is_well = match timeout(PATIENCE, write).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, db, "the database takes nothing");
                false
            }
            Err(_) => {
                tracing::warn!(db, "the database does not answer");
                false
            }
        };
        *last = Some((Instant::now(), is_well));
        is_well
    }
}

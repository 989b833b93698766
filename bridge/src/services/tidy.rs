//! What is kept for people to look at ends: by age, by number, by size.

use std::time::Duration;

use causeway_protocol::ids::Timestamp;

use super::Spine;
use crate::storage::{self, dead_letters, late, quarantine};

/// Between two rounds.
const EVERY: Duration = Duration::from_mins(10);

/// Tidies until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        spine.markers.tidy(spine.steady());
        // A clock that is wrong for a moment ends nothing.
        match step(spine, spine.leases.agreed(spine)).await {
            Ok((0, 0)) => {}
            Ok((letters, aside)) => {
                tracing::info!(letters, aside, "what was kept long enough is gone");
            }
            Err(error) => tracing::warn!(%error, "what was kept long enough stays for now"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = &mut stop => return,
        }
    }
}

/// One round of what has ended at `now`: how many dead letters, and how much of the quarantine.
///
/// # Errors
/// [`storage::Error`]: everything is still there.
pub async fn step(spine: &Spine, now: Timestamp) -> Result<(u64, u64), storage::Error> {
    let mut tx = spine.db.begin().await?;
    let letters = dead_letters::end(&mut tx, now).await?;
    late::end(&mut tx, now).await?;
    let aside = quarantine::prune(&mut tx, now, quarantine::LIMITS).await?;
    tx.commit().await?;
    Ok((letters, aside))
}

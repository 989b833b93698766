//! What waits in a lane that stands still lives its time and no longer: nobody serves the lane, so
//! somebody has to look.

use std::time::Duration;

use causeway_protocol::ids::Timestamp;

use super::{Spine, bury, bury_unreadable, lanes, outbox};
use crate::storage;

/// Between two looks.
const EVERY: Duration = Duration::from_mins(10);
/// Rows of one commit.
const AT_ONCE: usize = 64;

/// Looks until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        // A clock that is wrong for a moment ends nothing.
        match end_in_paused(spine, spine.leases.agreed(spine)).await {
            Ok(0) => {}
            Ok(over) => tracing::info!(over, "what waited for a lane that stands still is over"),
            Err(error) => tracing::warn!(%error, "what is over still waits"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = &mut stop => return,
        }
    }
}

/// Gives up what is over at `now`, and tells whoever waits for it; how many rows.
///
/// # Errors
/// [`storage::Error`]: the rest still waits.
pub async fn end_in_paused(spine: &Spine, now: Timestamp) -> Result<u64, storage::Error> {
    let mut ended = 0;
    loop {
        let mut tx = spine.db.begin().await?;
        let over = outbox::over_in_paused(&mut tx, now).await?;
        let mut looked_at = 0;
        for (lane, txn) in &over {
            // What is just being tried is over at the next look.
            let Some(_lease) = spine.leases.lend_by_hand(lane) else { continue };
            looked_at += 1;
            let why = lanes::why_paused(tx.conn(), lane).await?.unwrap_or_default();
            match outbox::named(tx.conn(), &spine.sealer, lane, txn).await? {
                Some(Ok(row)) => {
                    outbox::remove(&mut tx, row.id).await?;
                    let reason = format!("{why}, and its time is over");
                    bury(spine.rites(), &mut tx, &row, &reason, row.refused).await?;
                }
                Some(Err(row)) => bury_unreadable(spine.rites(), &mut tx, &row).await?,
                None => {}
            }
        }
        tx.commit().await?;
        ended += looked_at;
        if over.len() < AT_ONCE || looked_at == 0 {
            return Ok(ended);
        }
    }
}

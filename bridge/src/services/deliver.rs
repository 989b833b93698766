//! Outbox → out: lanes, each by one worker at a time, first in, first out.
//!
//! A row stays until its outcome is committed; trying it twice is safe. No transaction stays open
//! across the network.

mod to_matrix;

use causeway_protocol::ids::Timestamp;

use super::{AFTER_FAULT, Spine, Step, StepError};
use crate::{
    domain::{
        Outcome,
        retry::{Failure, Tries, judge},
    },
    gateway::matrix::MatrixError,
    steps,
    storage::{
        dead_letters,
        lanes::{self, Lane, Leased},
        outbox::{self, Stored},
    },
};

/// Rows that are carried out before their outcomes are committed.
const AT_ONCE: u32 = 64;
/// Time after which outcomes are committed, even of fewer rows.
const SOON: std::time::Duration = std::time::Duration::from_millis(20);
/// Commits after which a lane gives way to others.
const ROUNDS: u32 = 16;
/// Wait between looks at whether the homeserver takes our token again.
const TOKEN_WAIT_MS: u64 = 30_000;

/// Delivers until `stop` is done. Several may run at once.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut woken = spine.db.listen(lanes::TOPIC);
    loop {
        let wait = match step(spine).await {
            Ok(Step::Did) => continue,
            Ok(Step::Idle(until)) => until.map(|until| until.0.saturating_sub(spine.now().0)),
            Err(error) => {
                tracing::error!(%error, "a lane could not be served; trying again");
                Some(u64::try_from(AFTER_FAULT.as_millis()).unwrap_or(u64::MAX))
            }
        };
        let due = async {
            match wait {
                Some(ms) => tokio::time::sleep(std::time::Duration::from_millis(ms)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = woken.changed() => {}
            () = due => {}
            () = &mut stop => return,
        }
    }
}

/// Serves the lane that has waited longest.
///
/// # Errors
/// [`StepError`]: its rows are still there.
pub async fn step(spine: &Spine) -> Result<Step, StepError> {
    if !*spine.token_taken.borrow() && !token_is_taken(spine).await {
        return Ok(Step::Idle(Some(spine.now().plus_ms(TOKEN_WAIT_MS))));
    }
    let mut tx = spine.db.begin().await?;
    let Some(leased) = lanes::claim(&mut tx, spine.now()).await? else {
        drop(tx);
        return Ok(Step::Idle(lanes::next_due(&mut spine.db.read().await?).await?));
    };
    match leased.lane {
        Lane::ToMatrix(_) | Lane::Bot(_) => to_matrix::serve(spine, tx, leased).await?,
        Lane::ToNative(_) => return Err(StepError::Entropy),
    }
    Ok(Step::Did)
}

/// Whether the homeserver takes our token again, after it had not.
async fn token_is_taken(spine: &Spine) -> bool {
    match spine.matrix.whoami(None).await {
        Err(MatrixError::UnknownToken) => false,
        Ok(_) | Err(_) => {
            spine.token_taken.send_replace(true);
            true
        }
    }
}

impl From<MatrixError> for Failure {
    fn from(error: MatrixError) -> Self {
        let text = error.to_string();
        match error {
            MatrixError::NotReached(_) => Self::NotNow(text, None),
            MatrixError::RateLimited(after) => {
                let ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
                Self::NotNow(text, ms)
            }
            MatrixError::NoAnswer(_) | MatrixError::Server(..) | MatrixError::Misunderstood(_) => {
                Self::Unknown(text)
            }
            MatrixError::UnknownToken => Self::Token,
            MatrixError::Refused(..) => Self::Refused(text),
        }
    }
}

/// What `failure` means for `row`.
fn judged(
    spine: &Spine,
    leased: Leased,
    row: &Stored,
    failure: &Failure,
) -> Result<Outcome, StepError> {
    let tries = Tries {
        refused: row.refused,
        limit: spine.delivery_limit,
        failures: leased.failures,
        expires_at: row.entry.expires_at,
    };
    let outcome = judge(failure, tries, spine.now(), super::random()?);
    tracing::debug!(lane = %leased.lane, row = row.id, %failure, ?outcome, "not delivered");
    Ok(outcome)
}

/// Buries a row; the lane goes on.
async fn bury(
    spine: &Spine,
    tx: &mut causeway_store::Tx,
    now: Timestamp,
    row: &Stored,
    reason: &str,
) -> Result<(), StepError> {
    tracing::warn!(lane = %row.entry.lane, author = row.entry.author, reason, "given up");
    metrics::counter!("causeway_dead_letters_total").increment(1);
    let attempts = row.refused + 1;
    dead_letters::put(tx, &spine.sealer, now, &row.entry, reason, attempts, row.tried_at).await?;
    Ok(())
}

//! Whether `bridge.db` is the newest of itself: others remember how far it had counted.
//!
//! The count beside the database says that it was put back only if it was left where it was. So the
//! homeserver keeps the count too, in the bot's account data, half a minute old at most; and the
//! native server has the highest that came with a message. A folder that is put back whole is known
//! by either.

use std::time::Duration;

use causeway_groups::machine::{MOST_COMMITS, MachineError};
use causeway_protocol::ids::DeviceId;
use causeway_store::Db;
use ruma::UserId;

use super::Spine;
use crate::{
    gateway::matrix::{Matrix, MatrixError, Standing},
    storage::{self, restored},
};

/// Between two tellings.
const EVERY: Duration = Duration::from_secs(30);

/// Why the homeserver was not told.
#[derive(Debug, thiserror::Error)]
pub enum StandingError {
    /// The homeserver.
    #[error("the homeserver: {0}")]
    Matrix(#[from] MatrixError),
    /// The client machine's rows.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// How far the homeserver knows the database of `device` to have counted; 0 if it does not.
///
/// # Errors
/// [`MatrixError`]
pub async fn at_homeserver(
    matrix: &Matrix,
    bot: &UserId,
    device: DeviceId,
) -> Result<u64, MatrixError> {
    let standing = matrix.standing(bot).await?.filter(|standing| standing.device == device);
    Ok(standing.map_or(0, |standing| standing.count))
}

/// What others know of the database's commits, where it is more than it had counted when it was
/// opened: then it was put back from a copy.
///
/// # Errors
/// [`storage::Error`]
pub async fn behind(
    db: &Db,
    at_homeserver: u64,
    at_native: u64,
) -> Result<Option<u64>, storage::Error> {
    let mut read = db.read().await?;
    let since = restored::uncompared_since(read.conn()).await?;
    drop(read);
    let Some(since) = since else { return Ok(None) };
    // No more is believed than can be.
    let known = at_homeserver.max(at_native).min(MOST_COMMITS);
    Ok((known > since).then_some(known))
}

/// Tells the homeserver now and then how far the database has counted, until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut told = None;
    loop {
        match tell(spine, told).await {
            Ok(count) => told = Some(count),
            Err(error) => tracing::debug!(%error, "the homeserver was not told the count"),
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = &mut stop => return,
        }
    }
}

/// Tells the homeserver how far the database has counted, unless that is what it was `told`.
///
/// # Errors
/// [`StandingError`]: it was not told.
pub async fn tell(spine: &Spine, told: Option<u64>) -> Result<u64, StandingError> {
    let count = spine.native.machine().count(&spine.db).await?;
    if told != Some(count) {
        let device = spine.native.me().record.device_id;
        let standing = Standing { device, count };
        spine.matrix.put_standing(spine.names.bot(), &standing).await?;
    }
    Ok(count)
}

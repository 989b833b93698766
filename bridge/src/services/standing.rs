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

/// Why nobody could be asked, or told.
#[derive(Debug, thiserror::Error)]
pub enum StandingError {
    /// The homeserver.
    #[error("the homeserver: {0}")]
    Matrix(#[from] MatrixError),
    /// The client machine's rows.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The rows.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl StandingError {
    /// Whether the same may work later, without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Matrix(error) => error.is_passing(),
            Self::Machine(_) | Self::Storage(_) => false,
        }
    }
}

/// What others know of commits of the database of `device`, where it is more than it had counted when
/// it was opened: then it was put back from a copy. `at_native`: what the native server knows.
///
/// # Errors
/// [`StandingError`]
pub async fn behind(
    db: &Db,
    matrix: &Matrix,
    bot: &UserId,
    device: DeviceId,
    at_native: u64,
) -> Result<Option<u64>, StandingError> {
    let mut read = db.read().await.map_err(storage::Error::from)?;
    let since = restored::uncompared_since(read.conn()).await?;
    drop(read);
    let Some(since) = since else { return Ok(None) };
    let at_homeserver = match matrix.standing(bot).await {
        Ok(standing) => standing.filter(|standing| standing.device == device),
        Err(error) if error.is_passing() => return Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "the homeserver does not say what it knows of bridge.db");
            None
        }
    };
    // No more is believed than can be.
    let known = at_homeserver.map_or(0, |standing| standing.count).max(at_native).min(MOST_COMMITS);
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

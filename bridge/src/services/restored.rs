//! After `bridge.db` was put back: nothing is said twice or lost, or the groups are told.
//!
//! What the copy has in its outbox may have gone since, so each of it is looked for in its room by
//! its marker before it is sent. What was said in rooms since is read again from the copy's place
//! and has the same client ids as then. What was read from the native side since is there too, kept
//! by its server for a time: it is read again, and what it brings about is looked for likewise.
//! The groups are told where that is not all, and where something of it cannot be opened any more.

use causeway_groups::sdk::{Client, ReadingAgain, SdkError};
use causeway_protocol::ids::Timestamp;
use causeway_store::Db;

use crate::{
    domain::ghost::Names,
    storage::{self, effects::Decided, portals, restored, sealed::Sealer},
};

/// Why it is not known what comes again.
#[derive(Debug, thiserror::Error)]
pub enum AgainError {
    /// The native server, or the way to it.
    #[error(transparent)]
    Native(#[from] SdkError),
    /// Our rows.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<causeway_store::Error> for AgainError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// Makes a database that was put back fit to go on; the same again does nothing more. `known` is the
/// count beside it, or what others know of it. What it lacks is still to be [asked for](ask).
///
/// # Errors
/// [`storage::Error`]; nothing was changed.
pub async fn go_on(db: &Db, now: Timestamp, known: u64) -> Result<(), storage::Error> {
    let mut tx = db.begin().await?;
    let count = restored::may_have_gone(tx.conn(), now).await?;
    restored::is_known(tx.conn(), known).await?;
    restored::begins(tx.conn(), known).await?;
    tx.commit().await?;
    tracing::warn!(
        rows = count,
        "bridge.db was put back: what waits is looked for before it is sent"
    );
    Ok(())
}

/// Where the database was put back, and it was not done yet: has what it lacks come again, or tells
/// the groups that this cannot be.
///
/// # Errors
/// [`AgainError`]: it is still to be done.
pub async fn ask(
    db: &Db,
    sealer: &Sealer,
    names: &Names,
    now: Timestamp,
    native: &Client,
) -> Result<(), AgainError> {
    let Some(known) = restored::unasked(db.read().await?.conn()).await? else { return Ok(()) };
    let again = match native.read_again().await {
        Err(SdkError::Call(error)) if !error.is_transient() => {
            tracing::warn!(%error, "the native server does not say what comes again");
            None
        }
        again => again?,
    };
    let mut tx = db.begin().await?;
    match again {
        Some(ReadingAgain { until, since, .. }) => {
            restored::reads_again(tx.conn(), until, since).await?;
        }
        None => restored::is_over(tx.conn()).await?,
    }
    let is_whole = again.is_some_and(|again| again.whole);
    if !is_whole {
        let mut portals = portals::all(&mut tx, names).await?;
        let mut decided = Decided::default();
        for portal in &mut portals {
            restored::tell(portal, known, now, &mut decided);
        }
        decided.keep(&mut tx, sealer, now, portals.iter_mut()).await?;
    }
    tx.commit().await?;
    tracing::info!(is_whole, "what was acknowledged since the backup is read again");
    Ok(())
}

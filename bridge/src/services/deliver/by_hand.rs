//! What the operator does with a row that waits: has it tried now, or gives it up.
//!
//! Its lane is his meanwhile, as it is a worker's else; while a worker has it, he is told so.

use causeway_groups::sdk::Sending;
use causeway_protocol::ids::Timestamp;
use causeway_store::Db;

use super::{Leases, Rites, bury, bury_unreadable, leases::Lease, outbox, portals};
use crate::{
    domain::{ghost::Names, lane::Lane},
    storage::{self, dead_letters, lanes, sealed::Sealer},
};

/// Why a row was given up, where the operator has it so.
const REASON: &str = "dropped by the operator";
/// As [`REASON`], of what may have been carried out nevertheless.
const TRIED: &str = "dropped by the operator; it may have arrived all the same";

/// What the operator works with.
pub struct Bench<'a> {
    /// `bridge.db`.
    pub db: &'a Db,
    /// Seals what is given up.
    pub sealer: &'a Sealer,
    /// Who is who on our server.
    pub names: &'a Names,
    /// Who serves which lane.
    pub leases: &'a Leases,
    /// What time it is.
    pub now: Timestamp,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ByHandError {
    /// It was carried out, or given up, or never was.
    #[error("no row of this name waits")]
    Gone,
    /// In a moment it may be done.
    #[error("its lane is being tried right now")]
    Busy,
    /// Nothing of its lane is tried until that is over.
    #[error("its lane stands still until somebody acts")]
    Paused,
    /// The rows'.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<causeway_store::Error> for ByHandError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

impl Bench<'_> {
    /// Has the lane of the row that is named so tried now, from its first row on.
    ///
    /// # Errors
    /// [`ByHandError`]
    pub async fn retry(&self, name: &str) -> Result<(), ByHandError> {
        let (lane, lease) = self.lease(name).await?.ok_or(ByHandError::Gone)?;
        let mut tx = self.db.begin().await?;
        if lanes::why_paused(tx.conn(), &lane).await?.is_some() {
            return Err(ByHandError::Paused);
        }
        self.leases.goes_on(&mut tx, &lane);
        tx.commit().await?;
        drop(lease);
        tracing::info!(%lane, row = name, "to be tried now, says the operator");
        Ok(())
    }

    /// Gives up the row that is named so; the same again does nothing more. Its author's side is told
    /// as of all that is given up, and the lane goes on.
    ///
    /// # Errors
    /// [`ByHandError`]
    pub async fn give_up(&self, name: &str) -> Result<(), ByHandError> {
        let Some((lane, lease)) = self.lease(name).await? else {
            let mut read = self.db.read().await?;
            let is_given_up = dead_letters::is_kept(read.conn(), name).await?;
            return if is_given_up { Ok(()) } else { Err(ByHandError::Gone) };
        };
        let mut tx = self.db.begin().await?;
        let row = outbox::named(tx.conn(), self.sealer, &lane, name).await?;
        // A worker had it between our look and our having the lane.
        let row = row.ok_or(ByHandError::Busy)?;
        let rites = Rites { sealer: self.sealer, names: self.names, now: self.now };
        let id = match &row {
            Ok(row) => {
                // Nobody knows of one that was on its way.
                let may_be_out = row.tried_at.is_some() || matches!(lane, Lane::ToNative(_));
                let reason = if may_be_out { TRIED } else { REASON };
                bury(rites, &mut tx, row, reason, row.refused).await?;
                row.id
            }
            Err(row) => {
                bury_unreadable(rites, &mut tx, row).await?;
                row.id
            }
        };
        outbox::remove(&mut tx, id).await?;
        if let Lane::ToNative(portal) = lane {
            // What is sealed may be out already; sealed anew, the rest has the ids that it had.
            let group = portals::place(tx.conn(), self.names, portal).await?.group;
            Sending::drop_of(&mut tx, group).await?;
        }
        self.leases.goes_on(&mut tx, &lane);
        tx.commit().await?;
        drop(lease);
        tracing::info!(%lane, row = name, "given up, says the operator");
        Ok(())
    }

    /// The lane of a row, and nobody else's; `None` if the row does not wait.
    async fn lease(&self, name: &str) -> Result<Option<(Lane, Lease)>, ByHandError> {
        let mut read = self.db.read().await?;
        let Some(lane) = outbox::lane_of(read.conn(), name).await? else { return Ok(None) };
        let lease = self.leases.lend_by_hand(&lane).ok_or(ByHandError::Busy)?;
        Ok(Some((lane, lease)))
    }
}

//! What is decided for a group of which nothing waits is sealed in the transaction that decides it, and
//! posted by whoever serves next.
//!
//! After the commit it is as if a worker had sealed it: its rows wait, with the batch that carries them.
//! Where it cannot be sealed so, the transaction is committed as it is, and a worker sees why.

use causeway_store::Tx;

use super::{
    Begun, Head, Leases, Ready, Spine, StepError, Stored, Way,
    first::{First, first},
    outbox, steps,
};
use crate::{domain::lane::Lane, services::deliver::leases::Lease, storage::lanes};

impl Leases {
    /// Ends a transaction that put rows into `lane` and nothing into any other, with the rows sealed if
    /// that can be done at once.
    ///
    /// # Errors
    /// [`StepError`]: nothing of the transaction is kept.
    pub(in crate::services) async fn commit_sealed(
        &self,
        spine: &Spine,
        tx: Tx,
        lane: Lane,
    ) -> Result<(), StepError> {
        let may_serve = *spine.token_taken.borrow() && spine.locked_out.borrow().is_none();
        match if may_serve { self.lend_ahead(&lane) } else { None } {
            Some(lease) => commit_sealed(spine, tx, lease, lane).await,
            None => Ok(tx.commit().await?),
        }
    }
}

/// Has the lane until the transaction is committed, at least.
async fn commit_sealed(
    spine: &Spine,
    mut tx: Tx,
    lease: Lease,
    lane: Lane,
) -> Result<(), StepError> {
    let script = std::mem::take(tx.later());
    let (mut tx, First { portal, head, sending, to_seal }) =
        first(spine, Some(tx), &lane, script).await?;
    let Head::Rows(mut rows) = head else { return Ok(tx.commit().await?) };
    let is_new = |row: &Stored<_>| row.refused == 0 && row.tried_at.is_none() && !row.taken_back;
    let is_new = rows.iter().all(is_new);
    if sending.is_some() || !is_new || !(1..outbox::HEAD).contains(&rows.len()) {
        return Ok(tx.commit().await?);
    }
    let (leased, group) = (Ready::new(lane), portal.group);
    let way = Way { spine, leased: &leased, group };
    let items = way.all_outgoing(&mut tx, &rows).await?;
    // Where it was not, the transaction is as it was.
    let Ok(sealed) = way.seal_what_fits(&mut tx, to_seal, &items).await? else {
        return Ok(tx.commit().await?);
    };
    lanes::is_seen_to(&mut tx);
    lease.looks_if_left(&mut tx);
    let sending = way.keep(tx, &rows, sealed, steps::Step::SealingAtOnce).await?;
    let seen = rows.len();
    rows.truncate(sending.rows.len());
    let is_all = rows.len() == seen;
    lease.hand_over(Begun { group, rows, is_all, sending });
    Ok(())
}

//! What is decided for a group of which nothing waits is sealed in the transaction that decides it, and
//! posted by whoever serves next.
//!
//! After the commit it is as if a worker had sealed it: its rows wait, with the batch that carries them.
//! Where it cannot be sealed so, the transaction is committed as it is, and a worker sees why.

use causeway_groups::sdk::Sending;
use causeway_protocol::ids::GroupId;
use causeway_store::Tx;

use super::{
    Head, InGroup, Ready, Spine, StepError, Stored, Way,
    first::{First, first},
    outbox, steps,
};
use crate::{domain::lane::Lane, storage::lanes};

/// Rows of a lane that are sealed and kept, and wait for being posted.
pub(in crate::services::deliver) struct Begun {
    /// The group that the lane leads into.
    pub(super) group: GroupId,
    /// All that the lane had.
    pub(super) rows: Vec<Stored<InGroup>>,
    pub(super) sending: Sending,
}

/// Ends a transaction that put rows into `lane` and nothing into any other, with the rows sealed if that
/// can be done at once.
///
/// # Errors
/// [`StepError`]: nothing of the transaction is kept.
pub(in crate::services) async fn commit_sealed(
    spine: &Spine,
    mut tx: Tx,
    lane: Lane,
) -> Result<(), StepError> {
    let may_serve = *spine.token_taken.borrow() && spine.locked_out.borrow().is_none();
    let lease = if may_serve { spine.leases.lend_ahead(&lane) } else { None };
    let Some(lease) = lease else { return Ok(tx.commit().await?) };
    let script = std::mem::take(tx.later());
    let (tx, First { portal, head, sending, to_seal }) =
        first(spine, Some(tx), &lane, script).await?;
    let Head::Rows(rows) = head else { return Ok(tx.commit().await?) };
    let is_new = rows.iter().all(|row| row.refused == 0 && row.tried_at.is_none());
    if sending.is_some() || !is_new || !(1..outbox::HEAD).contains(&rows.len()) {
        return Ok(tx.commit().await?);
    }
    let (leased, group) = (Ready::new(lane), portal.group);
    let way = Way { spine, leased: &leased, group };
    let mut tx = tx;
    let items = way.all_outgoing(&mut tx, &rows).await?;
    let Ok((batch, mut script)) = way.seal_what_fits(&mut tx, to_seal, &items).await? else {
        return Ok(tx.commit().await?);
    };
    if batch.messages.len() < rows.len() {
        return Ok(tx.commit().await?);
    }
    let sealed: Vec<i64> = rows.iter().map(|row| row.id).collect();
    spine.native.keep_sending_last(&mut script, &batch, &sealed)?;
    lanes::is_seen_to(&mut tx);
    spine.steps.reached(steps::Step::SealingAtOnce).await;
    let kept = tx.commit_with(script).await?;
    let sending = Sending::kept(batch, sealed, &kept)?;
    lease.hand_over(Begun { group, rows, sending });
    Ok(())
}

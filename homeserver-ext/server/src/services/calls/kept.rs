//! Calls that run and those that have ended, as they are looked at.

use causeway_protocol::{
    api::{CallPage, CallState},
    ids::{CallId, Seq, Timestamp},
};
use causeway_store::Db;

use super::{CallError, Of};
use crate::{
    calls as change,
    live::Live,
    quota::{PAGE_BYTES, Shares},
    storage::{self, call_rooms, calls, group_rooms, groups},
};

/// How long a call that ended is kept.
const KEPT_MS: u64 = 30 * 86_400_000;
/// Rows that one transaction forgets.
const BATCH: u32 = 200;
/// Calls of which one look is taken.
const PAGE: u32 = 64;

/// A page of the group's calls, the newest first.
pub(crate) async fn page(
    of: Of<'_>,
    shares: &Shares,
    from: Option<Seq>,
    limit: u32,
) -> Result<CallPage, CallError> {
    shares.traffic(of.now, &of.caller.account, PAGE_BYTES)?;
    let mut read = of.db.read().await?;
    let (group, _) = of.group(read.conn()).await?;
    let from = from.map_or(i64::MAX, |from| i64::try_from(from.0).unwrap_or(i64::MAX));
    let mut rows = calls::of_group(read.conn(), group.row, from, limit + 1).await?;
    let next = rows.get(limit as usize).map(|row| Seq(u64::try_from(row.number).unwrap_or(0)));
    rows.truncate(limit as usize);
    let page = CallPage { calls: rows.iter().map(calls::Row::state).collect(), next };
    let bytes = serde_json::to_vec(&page).map_or(PAGE_BYTES, |bytes| bytes.len());
    shares.was_less(&of.caller.account, PAGE_BYTES, bytes);
    Ok(page)
}

/// How one call stands, or stood when it ended.
pub(crate) async fn state(of: Of<'_>, call: CallId) -> Result<CallState, CallError> {
    let mut read = of.db.read().await?;
    let (group, _) = of.group(read.conn()).await?;
    let row = calls::by_id(read.conn(), group.row, call).await?;
    row.map(|row| row.state()).ok_or(CallError::Unknown)
}

/// Forgets a batch of calls that ended long ago; whether there are more.
pub(crate) async fn forget(db: &Db, now: Timestamp) -> Result<bool, storage::Error> {
    let mut tx = db.begin().await?;
    let gone = calls::forget(tx.conn(), now.minus_ms(KEPT_MS), BATCH).await?;
    tx.commit().await?;
    Ok(gone >= u64::from(BATCH))
}

/// The database was put back from a copy: who came and went since is not known, so the calls that it
/// says are running end, and their groups have other rooms.
pub(crate) async fn put_back(db: &Db, live: &Live, now: Timestamp) -> Result<(), storage::Error> {
    let mut tx = db.begin().await?;
    group_rooms::forget_all(tx.conn()).await?;
    tx.commit().await?;
    loop {
        let mut tx = db.begin().await?;
        let rows = calls::all_running(tx.conn(), 0, PAGE).await?;
        if rows.is_empty() {
            return Ok(());
        }
        for mut row in rows {
            let Some(group) = groups::by_id(tx.conn(), row.group_id).await? else { continue };
            change::put_back(&mut row, now);
            change::put((&mut tx, live), now, group.head.epoch, &row).await?;
            // It may have moved since.
            call_rooms::put(tx.conn(), row.number, &row.room()).await?;
        }
        tx.commit().await?;
    }
}

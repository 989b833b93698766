//! Calls, for the operator: that they run, and how one is ended.

use causeway_protocol::{
    call::Event,
    ids::{CallId, Timestamp},
};
use causeway_store::Db;

use crate::{
    calls as change,
    live::Live,
    storage::{
        self,
        calls::{self, Row},
        groups,
    },
};

/// Calls that run, in the order in which they began, after `after`.
pub(crate) async fn running(db: &Db, after: i64, limit: u32) -> Result<Vec<Row>, storage::Error> {
    calls::all_running(db.read().await?.conn(), after, limit).await
}

/// Ends what runs under this id; false where no call has it or had it.
pub(crate) async fn end_by_operator(
    db: &Db,
    live: &Live,
    now: Timestamp,
    call: CallId,
) -> Result<bool, storage::Error> {
    let mut tx = db.begin().await?;
    if !calls::is_known(tx.conn(), call).await? {
        return Ok(false);
    }
    for number in calls::running_by_id(tx.conn(), call).await? {
        let Some(mut row) = calls::by_number(tx.conn(), number).await? else { continue };
        let Some(group) = groups::by_id(tx.conn(), row.group_id).await? else { continue };
        change::of_itself(&mut row, Event::End, now);
        change::put((&mut tx, live), now, group.head.epoch, &row).await?;
    }
    tx.commit().await?;
    Ok(true)
}

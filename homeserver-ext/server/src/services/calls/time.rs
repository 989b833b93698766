//! What time does to calls, and streams that are lost: one task looks after all of them.

use causeway_protocol::{
    call::{Event, Who},
    ids::{DeviceId, Timestamp},
};
use causeway_store::{Db, Tx};

use crate::{
    calls as change,
    live::Live,
    storage::{
        self,
        calls::{self, Elsewhere, Person, Row},
        groups,
    },
};

/// Calls of which one look is taken.
const PAGE: u32 = 64;

/// Does what is due in calls; whether there may be more.
pub(crate) async fn tick(db: &Db, live: &Live, now: Timestamp) -> Result<bool, storage::Error> {
    let due = calls::due(db.read().await?.conn(), now, PAGE).await?;
    for call in &due {
        let mut tx = db.begin().await?;
        let row = match calls::by_number(tx.conn(), *call).await {
            Ok(row) => row,
            Err(error @ storage::Error::Row(_)) => {
                tracing::error!(%error, call, "a call's row cannot be read: the call is over");
                calls::set_aside(tx.conn(), *call, now).await?;
                tx.commit().await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(mut row) = row else { continue };
        let before = row.kept.call.version;
        change::of_itself(&mut row, Event::Tick, now);
        put(tx, live, now, (&row, before)).await?;
    }
    Ok(due.len() >= PAGE as usize)
}

/// Whether no call runs.
pub(crate) async fn is_quiet(db: &Db) -> Result<bool, storage::Error> {
    Ok(calls::count(db.read().await?.conn()).await?.0 == 0)
}

/// Takes in which participants have no stream any more, and which have one again. Those of other servers
/// than `here`, who are to be asked for.
pub(crate) async fn presence(
    (db, live): (&Db, &Live),
    now: Timestamp,
    here: &str,
    is_there: impl Fn(DeviceId, &Person) -> bool + Send + Sync,
) -> Result<Elsewhere, storage::Error> {
    let (mut after, mut elsewhere) = (0, Elsewhere::new());
    loop {
        let rows = calls::all_running(db.read().await?.conn(), after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(elsewhere) };
        after = last.number;
        for row in &rows {
            for (device, server) in row.kept.elsewhere(here) {
                let groups = elsewhere.entry(server.to_owned()).or_default();
                groups.entry(row.group_id).or_default().insert(device);
            }
        }
        for row in rows.iter().filter(|row| !moved(row, &is_there).is_empty()) {
            let mut tx = db.begin().await?;
            // As it is now, and not as it was when it was looked at.
            let Some(mut row) = calls::by_number(tx.conn(), row.number).await? else { continue };
            let before = row.kept.call.version;
            // What is due by now is done as well: what is written down is when the next thing is.
            for event in moved(&row, &is_there).into_iter().chain([Event::Tick]) {
                change::of_itself(&mut row, event, now);
            }
            put(tx, live, now, (&row, before)).await?;
        }
    }
}

/// What is another with the streams of a call's participants.
fn moved(row: &Row, is_there: impl Fn(DeviceId, &Person) -> bool) -> Vec<Event> {
    let of = |(device, person): (&_, &Person)| {
        let who = Who::Native(*device);
        let is_lost = row.kept.call.participants.get(&who)?.lost.is_some();
        match (is_there(*device, person), is_lost) {
            (false, false) => Some(Event::Lost(who)),
            (true, true) => Some(Event::Back(who)),
            (true, false) | (false, true) => None,
        }
    };
    row.kept.people.iter().filter_map(of).collect()
}

/// Puts down what was done to a call that nobody asked for, or only when the next thing is due.
pub(super) async fn put(
    mut tx: Tx,
    live: &Live,
    now: Timestamp,
    (row, before): (&Row, u64),
) -> Result<(), storage::Error> {
    let group = groups::by_id(tx.conn(), row.group_id).await?;
    match group.filter(|_| row.kept.call.version != before) {
        Some(group) => change::put((&mut tx, live), now, group.head.epoch, row).await?,
        None => calls::put(tx.conn(), row, row.kept.call.deadline(now)).await?,
    }
    Ok(tx.commit().await?)
}

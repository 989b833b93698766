//! Calls, for the operator: that they run, how one is ended or moved, and how somebody is taken out of one
//! or muted.

use causeway_protocol::{
    call::{Event, Refused, Who},
    ids::{CallId, Timestamp},
};
use causeway_store::Db;

use super::{KICKED_MS, MAX_KICKED, time};
use crate::{
    calls as change,
    gateway::livekit::{LiveKit, SfuError},
    live::Live,
    storage::{
        self,
        calls::{self, Kicked, Row},
        groups,
    },
};

/// Calls that run, in the order in which they began, after `after`.
pub(crate) async fn running(db: &Db, after: i64, limit: u32) -> Result<Vec<Row>, storage::Error> {
    calls::all_running(db.read().await?.conn(), after, limit).await
}

/// What runs under this id.
pub(crate) async fn shown(db: &Db, call: CallId) -> Result<Row, WishError> {
    let mut read = db.read().await?;
    if !calls::is_known(read.conn(), call).await? {
        return Err(WishError::Unknown);
    }
    for number in calls::running_by_id(read.conn(), call).await? {
        if let Some(row) = calls::by_number(read.conn(), number).await? {
            return Ok(row);
        }
    }
    Err(Refused::Ended.into())
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

/// Why an operator's wish was not fulfilled; nothing changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WishError {
    /// None runs, and none ran.
    #[error("no such call")]
    Unknown,
    /// What the rules of calls say.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What is said there does not pass LiveKit.
    #[error("nothing of that device passes LiveKit")]
    NotThere,
    /// LiveKit's.
    #[error(transparent)]
    Sfu(#[from] SfuError),
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<causeway_store::Error> for WishError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// Has the rules take in what the operator wants of what runs under this id: [`Event::ToSfu`],
/// [`Event::ToMesh`], [`Event::Kick`].
pub(crate) async fn wish(
    db: &Db,
    live: &Live,
    livekit: Option<&LiveKit>,
    now: Timestamp,
    (call, event): (CallId, Event),
) -> Result<(), WishError> {
    let mut tx = db.begin().await?;
    if !calls::is_known(tx.conn(), call).await? {
        return Err(WishError::Unknown);
    }
    let running = calls::running_by_id(tx.conn(), call).await?;
    if running.is_empty() {
        return Err(Refused::Ended.into());
    }
    // One that is known to be away moves nobody.
    if let (Event::ToSfu, Some(ms)) = (&event, livekit.and_then(|livekit| livekit.rests(now))) {
        return Err(Refused::SfuUnavailable(0, ms).into());
    }
    for number in running {
        let Some(mut row) = calls::by_number(tx.conn(), number).await? else { continue };
        let Some(group) = groups::by_id(tx.conn(), row.group_id).await? else { continue };
        if let Event::Kick(who) = &event {
            note_kicked(&mut row, who, now);
        }
        if change::apply(&mut row, event.clone(), now)?.changed {
            change::put((&mut tx, live), now, group.head.epoch, &row).await?;
        }
    }
    Ok(tx.commit().await?)
}

/// Remembers that one of Matrix was taken out, who is in the call.
pub(super) fn note_kicked(row: &mut Row, who: &Who, now: Timestamp) {
    let Who::Matrix(user, device) = who else { return };
    let kicked = &mut row.kept.kicked;
    kicked.retain(|it| (&it.user, &it.device) != (user, device) && it.until_ms > now);
    let beyond = (kicked.len() + 1).saturating_sub(MAX_KICKED);
    kicked.drain(..beyond);
    let until_ms = now.plus_ms(KICKED_MS);
    kicked.push(Kicked { user: user.clone(), device: device.clone(), until_ms });
}

/// Mutes what somebody sends through LiveKit; he may go on by himself.
pub(crate) async fn mute(
    (db, live): (&Db, &Live),
    livekit: Option<&LiveKit>,
    now: Timestamp,
    (call, who): (CallId, Who),
) -> Result<(), WishError> {
    let mut read = db.read().await?;
    if !calls::is_known(read.conn(), call).await? {
        return Err(WishError::Unknown);
    }
    let mut found = None;
    for number in calls::running_by_id(read.conn(), call).await? {
        let row = calls::by_number(read.conn(), number).await?;
        let is_in = |it: &Row| it.kept.call.participants.contains_key(&who);
        found = found.or(row.filter(is_in));
    }
    drop(read);
    let row = found.ok_or(Refused::NotInCall)?;
    let livekit = livekit.filter(|_| row.kept.call.has_room()).ok_or(WishError::NotThere)?;
    if !mute_there(livekit, now, &row, &who).await? {
        return Err(WishError::NotThere);
    }
    Ok(note_muted((db, live), now, (row.number, &who)).await?)
}

/// Writes down that a native was muted, by which all know it and his client holds to it: what he sends by another
/// connection, to another room for example, LiveKit has not muted.
pub(super) async fn note_muted(
    (db, live): (&Db, &Live),
    now: Timestamp,
    (call, who): (i64, &Who),
) -> Result<(), storage::Error> {
    let Who::Native(device) = who else { return Ok(()) };
    let mut tx = db.begin().await?;
    let Some(mut row) = calls::by_number(tx.conn(), call).await? else { return Ok(()) };
    let person = row.kept.people.get_mut(device).filter(|it| !it.muted);
    let Some(person) = person else { return Ok(()) };
    person.muted = true;
    let before = row.kept.call.version;
    row.kept.call.version += 1;
    row.kept.out.clear();
    time::put(tx, live, now, (&row, before)).await
}

/// Mutes it; whether there was anything.
pub(super) async fn mute_there(
    livekit: &LiveKit,
    now: Timestamp,
    row: &Row,
    who: &Who,
) -> Result<bool, SfuError> {
    let room = row.room();
    let names = row.names_there(who);
    let inside = livekit.participants(now, &room).await?;
    let those = inside.iter().filter(|it| it.publishes && names.contains(&it.identity));
    let mut is_any = false;
    for it in those {
        livekit.mute(now, &room, it).await?;
        is_any = true;
    }
    Ok(is_any)
}

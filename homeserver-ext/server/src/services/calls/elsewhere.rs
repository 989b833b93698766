//! Calls over several servers: what their home tells, and who is there for it (protocol §7.2, §9).

use std::collections::BTreeSet;

use causeway_protocol::{
    api::{CallState, CallTopology},
    envelope::Envelope,
    ids::{CallId, DeviceId, GroupId, Timestamp},
    json,
};
use causeway_store::Db;

use crate::{
    calls as change,
    live::Live,
    storage::{
        self, DeviceRow,
        calls::elsewhere,
        devices, groups,
        servers::{self, Told},
        standing::{self, Standing},
    },
};

/// Tells the group's devices here how a call stands, as `from`, the group's home, does. One that comes twice
/// is told twice: a device passes over a version that it knows.
pub(crate) async fn told_by_home(
    (db, live): (&Db, &Live),
    now: Timestamp,
    from: &str,
    envelope: &Envelope,
) -> Result<Told, storage::Error> {
    let state: Option<CallState> = serde_json::from_slice(&envelope.payload)
        .ok()
        .and_then(|state| json::from_value(&state).ok());
    let Some(state) = state.filter(|state| state.group == envelope.group) else {
        return Ok(Told::Refused("malformed"));
    };
    let mut tx = db.begin_growing().await?;
    let group = match servers::of_home(tx.conn(), from, (envelope.group, envelope.epoch)).await? {
        Ok(group) => group,
        Err(told) => return Ok(told),
    };
    if state.topology == CallTopology::Ended {
        elsewhere::end(tx.conn(), group.row, state.call).await?;
    }
    let of = (group.row, envelope.group, envelope.epoch);
    change::tell_of_home((&mut tx, live), now, of, envelope.payload.clone()).await?;
    tx.commit().await?;
    Ok(Told::Done)
}

/// Notes that a device takes part in a call of a group that another server keeps; none: in none any more.
pub(crate) async fn takes_part(
    db: &Db,
    now: Timestamp,
    (device, group): (DeviceRow, GroupId),
    call: Option<CallId>,
) -> Result<(), storage::Error> {
    let mut read = db.read().await?;
    let Some(group) = groups::by_id(read.conn(), group).await? else { return Ok(()) };
    let place = (device, group.row);
    let known = elsewhere::of(read.conn(), place).await?;
    drop(read);
    if known.as_deref() == call.as_ref().map(AsRef::as_ref) {
        return Ok(());
    }
    let mut tx = db.begin_growing().await?;
    match call {
        Some(call) => elsewhere::put(tx.conn(), now, place, call).await?,
        None => elsewhere::leave(tx.conn(), place).await?,
    }
    Ok(tx.commit().await?)
}

/// Which of these devices of this server's accounts, which count in a group of `from`'s and have asked to take
/// part in its call, have a stream: of the others nothing is said.
pub(crate) async fn who_is_there(
    db: &Db,
    (here, from): (&str, &str),
    group: GroupId,
    named: &[DeviceId],
    has_stream: impl Fn(DeviceRow) -> bool + Send + Sync,
) -> Result<BTreeSet<DeviceId>, storage::Error> {
    let mut there = BTreeSet::new();
    let mut read = db.read().await?;
    let conn = read.conn();
    let Some(group) = groups::by_id(conn, group).await? else { return Ok(there) };
    if groups::home(conn, group.head.group).await?.as_deref() != Some(from) {
        return Ok(there);
    }
    for id in named {
        let Some(device) = devices::by_id(conn, id).await? else { continue };
        if device.account.server() != here || !has_stream(device.row) {
            continue;
        }
        let account = device.account.as_str();
        let standing = standing::of_device(conn, group.row, &device.of(), account).await?;
        let takes_part = elsewhere::of(conn, (device.row, group.row)).await?.is_some();
        if takes_part && matches!(standing, Standing::Counts(..)) {
            there.insert(*id);
        }
    }
    Ok(there)
}

//! Calls over several servers: what their home tells, and who is there for it (protocol §7.2, §9).

use std::collections::BTreeSet;

use causeway_protocol::{
    api::CallState,
    envelope::Envelope,
    ids::{DeviceId, GroupId, Timestamp},
    json,
};
use causeway_store::Db;

use crate::{
    calls as change,
    live::Live,
    storage::{
        self, DeviceRow, devices, groups,
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
    if state.is_none_or(|state| state.group != envelope.group) {
        return Ok(Told::Refused("malformed"));
    }
    let mut tx = db.begin_growing().await?;
    let group = match servers::of_home(tx.conn(), from, (envelope.group, envelope.epoch)).await? {
        Ok(group) => group,
        Err(told) => return Ok(told),
    };
    let of = (group.row, envelope.group, envelope.epoch);
    change::tell_of_home((&mut tx, live), now, of, envelope.payload.clone()).await?;
    tx.commit().await?;
    Ok(Told::Done)
}

/// Which of these devices of this server's accounts, which count in a group of `from`'s, have a stream: of
/// the others nothing is said.
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
        if matches!(standing, Standing::Counts(..)) {
            there.insert(*id);
        }
    }
    Ok(there)
}

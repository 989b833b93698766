//! Devices of this server that take part in calls that another server keeps.

use causeway_protocol::ids::{CallId, Timestamp};
use causeway_store::Conn;

use crate::storage::{DeviceRow, Error, GroupRow, ms};

/// Notes that a device takes part, in no other call of the group.
pub(crate) async fn put(
    conn: &mut Conn,
    now: Timestamp,
    (device, group): (DeviceRow, GroupRow),
    call: CallId,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO calls_elsewhere (device, grp, call_id, since_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (device, grp) DO UPDATE SET call_id = excluded.call_id,
            since_ms = excluded.since_ms",
    )
    .bind(device)
    .bind(group)
    .bind(call.as_ref())
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// In which call of the group a device takes part.
pub(crate) async fn of(
    conn: &mut Conn,
    (device, group): (DeviceRow, GroupRow),
) -> Result<Option<Vec<u8>>, Error> {
    Ok(sqlx::query_scalar("SELECT call_id FROM calls_elsewhere WHERE device = $1 AND grp = $2")
        .bind(device)
        .bind(group)
        .fetch_optional(conn)
        .await?)
}

/// A device takes part in no call of the group any more.
pub(crate) async fn leave(
    conn: &mut Conn,
    (device, group): (DeviceRow, GroupRow),
) -> Result<(), Error> {
    sqlx::query("DELETE FROM calls_elsewhere WHERE device = $1 AND grp = $2")
        .bind(device)
        .bind(group)
        .execute(conn)
        .await?;
    Ok(())
}

/// Nobody takes part in a call any more.
pub(crate) async fn end(conn: &mut Conn, group: GroupRow, call: CallId) -> Result<(), Error> {
    sqlx::query("DELETE FROM calls_elsewhere WHERE grp = $1 AND call_id = $2")
        .bind(group)
        .bind(call.as_ref())
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets who began to take part before `before`: that a call ended nobody may have told.
pub(crate) async fn forget(conn: &mut Conn, before: Timestamp, most: u32) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM calls_elsewhere WHERE (device, grp) IN
            (SELECT device, grp FROM calls_elsewhere WHERE since_ms < $1 LIMIT $2)",
    )
    .bind(ms(before))
    .bind(i64::from(most))
    .execute(conn)
    .await?;
    Ok(())
}

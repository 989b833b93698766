//! What is left of devices that are gone, and of keys that were claimed: noticed, and forgotten later.

use std::collections::BTreeMap;

use causeway_protocol::ids::Timestamp;
use causeway_store::Conn;

use super::{DeviceRow, Error, ms};

/// Notes since when devices are on no list, or out of a group, where that was not noted yet; so many
/// of each. How many.
pub(crate) async fn notice(conn: &mut Conn, now: Timestamp, most: u32) -> Result<u64, Error> {
    let devices = sqlx::query(
        "UPDATE devices SET former_ms = $1 WHERE device IN (
            SELECT device FROM devices WHERE listed = FALSE AND former_ms IS NULL LIMIT $2)",
    )
    .bind(ms(now))
    .bind(i64::from(most))
    .execute(&mut *conn)
    .await?;
    let in_groups = sqlx::query(
        "UPDATE group_devices SET former_ms = $1
         WHERE (grp, device_id, member_id, from_epoch) IN (
            SELECT grp, device_id, member_id, from_epoch FROM group_devices
            WHERE until_epoch IS NOT NULL AND former_ms IS NULL LIMIT $2)",
    )
    .bind(ms(now))
    .bind(i64::from(most))
    .execute(conn)
    .await?;
    Ok(devices.rows_affected().max(in_groups.rows_affected()))
}

/// Forgets in which groups devices were that were taken out before `before`; so many. How many.
pub(crate) async fn forget_in_groups(
    conn: &mut Conn,
    before: Timestamp,
    most: u32,
) -> Result<u64, Error> {
    let gone = sqlx::query(
        "DELETE FROM group_devices WHERE (grp, device_id, member_id, from_epoch) IN (
            SELECT grp, device_id, member_id, from_epoch FROM group_devices
            WHERE until_epoch IS NOT NULL AND former_ms < $1 LIMIT $2)",
    )
    .bind(ms(before))
    .bind(i64::from(most))
    .execute(conn)
    .await?;
    Ok(gone.rows_affected())
}

/// Devices that are on no list since before `before`, that no group counts any more, and of which
/// something is left; so many.
pub(crate) async fn devices(
    conn: &mut Conn,
    before: Timestamp,
    most: u32,
) -> Result<Vec<DeviceRow>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT device FROM devices d WHERE listed = FALSE AND former_ms < $1
            AND NOT EXISTS (SELECT 1 FROM group_devices g WHERE g.device_id = d.device_id)
            AND EXISTS (SELECT 1 FROM mailboxes b WHERE b.device = d.device)
         ORDER BY former_ms LIMIT $2",
    )
    .bind(ms(before))
    .bind(i64::from(most))
    .fetch_all(conn)
    .await?)
}

/// Forgets what a device left: at most so many rows of its mailbox, and, where these are all, its place
/// and its keys. Its name stays, since it is this account's for good. How many rows went; fewer than
/// `most` where all is gone.
pub(crate) async fn forget(conn: &mut Conn, device: DeviceRow, most: u32) -> Result<u64, Error> {
    let envelopes: Vec<i64> = sqlx::query_scalar(
        "DELETE FROM mailbox WHERE device = $1 AND seq IN (
            SELECT seq FROM mailbox WHERE device = $1 ORDER BY seq LIMIT $2) RETURNING envelope",
    )
    .bind(device)
    .bind(i64::from(most))
    .fetch_all(&mut *conn)
    .await?;
    for envelope in &envelopes {
        // What was for others too stays, and what is broadcast has no row of its own.
        sqlx::query(
            "DELETE FROM envelopes WHERE envelope = $1
                AND NOT EXISTS (SELECT 1 FROM mailbox WHERE envelope = $1)
                AND NOT EXISTS (SELECT 1 FROM parked WHERE envelope = $1)
                AND NOT EXISTS (SELECT 1 FROM broadcasts WHERE seq = $1)",
        )
        .bind(envelope)
        .execute(&mut *conn)
        .await?;
    }
    let gone = u64::try_from(envelopes.len()).unwrap_or(u64::MAX);
    if gone >= u64::from(most) {
        return Ok(gone);
    }
    sqlx::query("DELETE FROM mailboxes WHERE device = $1").bind(device).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM one_time_keys WHERE device = $1")
        .bind(device)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM sender_key_reports WHERE device = $1")
        .bind(device)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM passed WHERE device = $1").bind(device).execute(conn).await?;
    Ok(gone)
}

/// Forgets one-time keys that were claimed before `before`, so many; none of them is taken again. How
/// many.
pub(crate) async fn forget_claimed(
    conn: &mut Conn,
    before: Timestamp,
    most: u32,
) -> Result<usize, Error> {
    let claimed: Vec<(DeviceRow, Vec<u8>)> = sqlx::query_as(
        "SELECT device, key_id FROM one_time_keys WHERE claimed_ms < $1
         ORDER BY claimed_ms LIMIT $2",
    )
    .bind(ms(before))
    .bind(i64::from(most))
    .fetch_all(&mut *conn)
    .await?;
    let mut spent: BTreeMap<i64, (DeviceRow, &[u8])> = BTreeMap::new();
    for (device, key) in &claimed {
        sqlx::query("DELETE FROM one_time_keys WHERE device = $1 AND key_id = $2")
            .bind(device)
            .bind(key)
            .execute(&mut *conn)
            .await?;
        let highest = spent.entry(device.0).or_insert((*device, key));
        highest.1 = highest.1.max(key);
    }
    for (device, key) in spent.values() {
        sqlx::query(
            "UPDATE devices SET spent_key = $2
             WHERE device = $1 AND (spent_key IS NULL OR spent_key < $2)",
        )
        .bind(device)
        .bind(*key)
        .execute(&mut *conn)
        .await?;
    }
    Ok(claimed.len())
}

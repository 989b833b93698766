//! The end of what is known of other servers and of their accounts, where nothing here needs it any more.

use causeway_protocol::ids::Timestamp;
use causeway_store::Conn;

use crate::storage::{DeviceRow, Error, former, ms, time};

/// Accounts of other servers, by name behind `after`, so many at most, each with when it was asked for, or shown
/// anew, last.
pub(crate) async fn accounts(
    conn: &mut Conn,
    after: &str,
    most: u32,
) -> Result<Vec<(String, Timestamp)>, Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT account, asked_ms FROM remote_accounts WHERE account > $1
         ORDER BY account LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(most))
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|(account, asked)| (account, time(asked))).collect())
}

/// Whether an account of another server, or a device of it, is in a group or was in one of which that is still
/// remembered, said something that waits, or has made a link that is open. A request to join names no account
/// that is known here: whoever lets in asks for it.
pub(crate) async fn is_needed(
    conn: &mut Conn,
    account: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM group_members WHERE account = $1)
            OR EXISTS (SELECT 1 FROM devices d
                JOIN group_devices g ON g.device_id = d.device_id WHERE d.account = $1)
            OR EXISTS (SELECT 1 FROM remote_devices r
                JOIN group_devices g ON g.device_id = r.device_id WHERE r.account = $1)
            OR EXISTS (SELECT 1 FROM devices d
                JOIN envelopes e ON e.sender = d.device WHERE d.account = $1)
            OR EXISTS (SELECT 1 FROM invites
                WHERE account = $1 AND revoked = FALSE AND expires_ms > $2)",
    )
    .bind(account)
    .bind(ms(now))
    .fetch_one(conn)
    .await?)
}

/// Forgets an account of another server, with its list, its records and its devices, and so many rows at most
/// of their mailboxes. Whether all of it is gone.
pub(crate) async fn forget_account(
    conn: &mut Conn,
    account: &str,
    most: u32,
) -> Result<bool, Error> {
    let devices: Vec<DeviceRow> =
        sqlx::query_scalar("SELECT device FROM devices WHERE account = $1 AND server IS NOT NULL")
            .bind(account)
            .fetch_all(&mut *conn)
            .await?;
    for device in devices {
        if former::forget(conn, device, most).await? >= u64::from(most) {
            return Ok(false);
        }
        sqlx::query("DELETE FROM devices WHERE device = $1")
            .bind(device)
            .execute(&mut *conn)
            .await?;
    }
    // Those that registered here have a time.
    sqlx::query("DELETE FROM accounts WHERE account = $1 AND created_ms = 0")
        .bind(account)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM remote_devices WHERE account = $1")
        .bind(account)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM remote_accounts WHERE account = $1")
        .bind(account)
        .execute(conn)
        .await?;
    Ok(true)
}

/// Forgets accounts of a server that no group has named, but for the newest so many; how many.
pub(crate) async fn forget_oldest(conn: &mut Conn, server: &str, most: u32) -> Result<u64, Error> {
    let gone: Vec<String> = sqlx::query_scalar(
        "DELETE FROM remote_accounts WHERE account IN (
            SELECT account FROM remote_accounts WHERE server = $1 AND named = FALSE
            ORDER BY asked_ms DESC, account DESC LIMIT 64 OFFSET $2)
         RETURNING account",
    )
    .bind(server)
    .bind(i64::from(most))
    .fetch_all(&mut *conn)
    .await?;
    for account in &gone {
        sqlx::query("DELETE FROM remote_devices WHERE account = $1")
            .bind(account)
            .execute(&mut *conn)
            .await?;
    }
    Ok(gone.len() as u64)
}

/// Forgets a server of which nothing was heard since `before`, unless it is paused, or something is kept of it,
/// or for it, or a group names somebody of it; whether it did.
pub(crate) async fn forget_server(
    conn: &mut Conn,
    name: &str,
    before: Timestamp,
) -> Result<bool, Error> {
    let gone: Option<i64> = sqlx::query_scalar(
        "DELETE FROM servers WHERE name = $1 AND heard_ms < $2 AND paused_ms IS NULL
            AND NOT EXISTS (SELECT 1 FROM devices d WHERE d.server = servers.server)
            AND NOT EXISTS (SELECT 1 FROM replicas r JOIN group_members m ON m.grp = r.grp
                WHERE r.server = servers.server AND m.account LIKE '%:' || servers.name)
            AND NOT EXISTS (SELECT 1 FROM taken t WHERE t.server = servers.server)
            AND NOT EXISTS (SELECT 1 FROM owed_progress o WHERE o.server = servers.server)
            AND NOT EXISTS (SELECT 1 FROM cut_fan_outs c WHERE c.server = servers.server)
            AND NOT EXISTS (SELECT 1 FROM given g WHERE g.server = servers.server)
         RETURNING server",
    )
    .bind(name)
    .bind(ms(before))
    .fetch_optional(&mut *conn)
    .await?;
    let Some(gone) = gone else { return Ok(false) };
    // Of groups that it was in.
    sqlx::query("DELETE FROM replicas WHERE server = $1").bind(gone).execute(conn).await?;
    Ok(true)
}

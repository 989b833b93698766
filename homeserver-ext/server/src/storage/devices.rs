//! Devices, their access tokens (hashed) and the nonces of logins.

use causeway_protocol::{
    device::{DeviceOf, DeviceRecord},
    ids::{AccountId, DeviceId, MemberId, Nonce, Timestamp},
};
use causeway_store::{Conn, Script};

use super::{DeviceRow, Error, accounts::PUT_BACK_MS, ms, name_of, number};

/// A device that this server knows.
#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "what the protocol calls it")]
pub(crate) struct Device {
    pub(crate) row: DeviceRow,
    pub(crate) device_id: DeviceId,
    pub(crate) member_id: MemberId,
    pub(crate) account: AccountId,
    /// Whether its account's newest list names it.
    pub(crate) listed: bool,
}

impl Device {
    pub(crate) fn of(&self) -> DeviceOf {
        DeviceOf { member_id: self.member_id, device_id: self.device_id }
    }
}

#[derive(sqlx::FromRow)]
struct DeviceColumns {
    device: DeviceRow,
    device_id: Vec<u8>,
    member_id: Vec<u8>,
    account: String,
    listed: bool,
}

impl TryFrom<DeviceColumns> for Device {
    type Error = Error;

    fn try_from(columns: DeviceColumns) -> Result<Self, Error> {
        Ok(Self {
            row: columns.device,
            device_id: name_of!(DeviceId, &columns.device_id, "device_id")?,
            member_id: name_of!(MemberId, &columns.member_id, "member_id")?,
            account: columns.account.parse().map_err(|_| Error::Row("account"))?,
            listed: columns.listed,
        })
    }
}

/// Puts a device and its empty mailbox in, or lists it again; `None` if another account has it.
pub(crate) async fn list(
    conn: &mut Conn,
    account: &AccountId,
    record: &DeviceRecord,
) -> Result<Option<DeviceRow>, Error> {
    let json = serde_json::to_string(record).map_err(|_| Error::Row("record"))?;
    let row: Option<DeviceRow> = sqlx::query_scalar(
        "INSERT INTO devices (device_id, member_id, account, record, listed)
         VALUES ($1, $2, $3, $4, TRUE)
         ON CONFLICT (device_id) DO UPDATE
            SET record = excluded.record, listed = TRUE, former_ms = NULL
         WHERE devices.account = excluded.account AND devices.member_id = excluded.member_id
         RETURNING device",
    )
    .bind(record.device_id.as_ref())
    .bind(record.member_id.as_ref())
    .bind(account.as_str())
    .bind(json)
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(row) = row {
        give_mailbox(conn, row).await?;
    }
    Ok(row)
}

/// A device has a mailbox from now on, where it has none. What groups already name it for is in it: a server
/// that was put back learns of it from their rosters before its account lists it again.
pub(super) async fn give_mailbox(conn: &mut Conn, device: DeviceRow) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO mailboxes (device, acked_seq)
         SELECT d.device, COALESCE((SELECT min(g.after_seq) FROM group_devices g
            WHERE d.server IS NULL AND g.until_epoch IS NULL
            AND g.device_id = d.device_id AND g.member_id = d.member_id), n.last)
         FROM devices d CROSS JOIN numbers n WHERE d.device = $1
         ON CONFLICT (device) DO NOTHING",
    )
    .bind(device)
    .execute(conn)
    .await?;
    Ok(())
}

/// A group names a device of an account here that was linked after the copy from which this database was put back
/// not long ago: what is for it waits until its account lists it again.
pub(crate) async fn know_lost(
    conn: &mut Conn,
    now: Timestamp,
    account: &AccountId,
    device: &DeviceOf,
) -> Result<(), Error> {
    let row: Option<DeviceRow> = sqlx::query_scalar(
        "INSERT INTO devices (device_id, member_id, account, record, listed)
         SELECT $1, $2, $3, '', FALSE
         WHERE EXISTS (SELECT 1 FROM put_back WHERE at_ms > $4)
            AND EXISTS (SELECT 1 FROM accounts WHERE account = $3 AND member_id = $2)
         ON CONFLICT (device_id) DO NOTHING RETURNING device",
    )
    .bind(device.device_id.as_ref())
    .bind(device.member_id.as_ref())
    .bind(account.as_str())
    .bind(ms(now.minus_ms(PUT_BACK_MS)))
    .fetch_optional(&mut *conn)
    .await?;
    match row {
        Some(row) => give_mailbox(conn, row).await,
        None => Ok(()),
    }
}

/// Takes all devices of an account off its list; those without a place on the next list lose
/// their tokens with [`log_out_unlisted`].
pub(crate) async fn unlist_all(conn: &mut Conn, account: &AccountId) -> Result<(), Error> {
    sqlx::query("UPDATE devices SET listed = FALSE WHERE account = $1")
        .bind(account.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends the sessions of devices that are not on the list any more; returns which.
pub(crate) async fn log_out_unlisted(
    conn: &mut Conn,
    account: &AccountId,
) -> Result<Vec<DeviceRow>, Error> {
    let rows = sqlx::query_scalar(
        "UPDATE devices SET token_hash = NULL
         WHERE account = $1 AND listed = FALSE AND token_hash IS NOT NULL RETURNING device",
    );
    Ok(rows.bind(account.as_str()).fetch_all(conn).await?)
}

/// The records of the devices on an account's newest list, in its order.
pub(crate) async fn records(
    conn: &mut Conn,
    account: &AccountId,
) -> Result<Vec<DeviceRecord>, Error> {
    let rows: Vec<String> = sqlx::query_scalar(
        "SELECT record FROM devices WHERE account = $1 AND listed = TRUE ORDER BY device_id",
    )
    .bind(account.as_str())
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| serde_json::from_str(row).map_err(|_| Error::Row("record"))).collect()
}

/// The records of devices of this identity that are not on the account's list any more: so many, those
/// that came last first.
pub(crate) async fn former(
    conn: &mut Conn,
    account: &AccountId,
    member: &MemberId,
    most: usize,
) -> Result<Vec<DeviceRecord>, Error> {
    let rows: Vec<String> = sqlx::query_scalar(
        "SELECT record FROM devices WHERE account = $1 AND listed = FALSE AND member_id = $2
            AND record <> ''
         ORDER BY device DESC LIMIT $3",
    )
    .bind(account.as_str())
    .bind(member.as_bytes().as_slice())
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| serde_json::from_str(row).map_err(|_| Error::Row("record"))).collect()
}

/// Whose token this is.
pub(crate) async fn by_token(
    conn: &mut Conn,
    token_hash: &[u8; 32],
) -> Result<Option<Device>, Error> {
    let row: Option<DeviceColumns> = sqlx::query_as(
        "SELECT device, device_id, member_id, account, listed FROM devices WHERE token_hash = $1",
    )
    .bind(token_hash.as_slice())
    .fetch_optional(conn)
    .await?;
    row.map(Device::try_from).transpose()
}

/// A device by its key.
pub(crate) async fn by_id(conn: &mut Conn, device: &DeviceId) -> Result<Option<Device>, Error> {
    let row: Option<DeviceColumns> = sqlx::query_as(
        "SELECT device, device_id, member_id, account, listed FROM devices WHERE device_id = $1",
    )
    .bind(device.as_ref())
    .fetch_optional(conn)
    .await?;
    row.map(Device::try_from).transpose()
}

/// Whose account a device is.
pub(crate) async fn account(
    conn: &mut Conn,
    device: DeviceRow,
) -> Result<Option<AccountId>, Error> {
    let account: Option<String> =
        sqlx::query_scalar("SELECT account FROM devices WHERE device = $1")
            .bind(device)
            .fetch_optional(conn)
            .await?;
    account.map(|account| account.parse().map_err(|_| Error::Row("account"))).transpose()
}

/// Gives a device its one token, or none.
pub(crate) async fn set_token(
    conn: &mut Conn,
    device: DeviceRow,
    token_hash: Option<&[u8; 32]>,
) -> Result<(), Error> {
    sqlx::query("UPDATE devices SET token_hash = $2 WHERE device = $1")
        .bind(device)
        .bind(token_hash.map(<[u8; 32]>::as_slice))
        .execute(conn)
        .await?;
    Ok(())
}

/// Keeps a nonce until it is used or too old.
pub(crate) async fn put_nonce(
    conn: &mut Conn,
    nonce: &Nonce,
    expires: Timestamp,
) -> Result<(), Error> {
    sqlx::query("INSERT INTO login_nonces (nonce, expires_ms) VALUES ($1, $2)")
        .bind(nonce.as_ref())
        .bind(ms(expires))
        .execute(conn)
        .await?;
    Ok(())
}

/// Uses a nonce up; whether it was there and still good.
pub(crate) async fn take_nonce(
    conn: &mut Conn,
    nonce: &Nonce,
    now: Timestamp,
) -> Result<bool, Error> {
    let expires: Option<i64> =
        sqlx::query_scalar("DELETE FROM login_nonces WHERE nonce = $1 RETURNING expires_ms")
            .bind(nonce.as_ref())
            .fetch_optional(conn)
            .await?;
    Ok(expires.is_some_and(|expires| ms(now) <= expires))
}

/// Drops nonces that are too old.
pub(crate) async fn prune_nonces(conn: &mut Conn, now: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM login_nonces WHERE expires_ms < $1")
        .bind(ms(now))
        .execute(conn)
        .await?;
    Ok(())
}

/// The highest count that a device has posted with.
pub(crate) async fn count(conn: &mut Conn, device: DeviceRow) -> Result<u64, Error> {
    let count: i64 = sqlx::query_scalar("SELECT counted FROM devices WHERE device = $1")
        .bind(device)
        .fetch_one(conn)
        .await?;
    number(count, "counted")
}

/// A device has posted with this count.
pub(crate) fn counted(script: &mut Script, device: DeviceRow, count: u64) {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let query = script.add("UPDATE devices SET counted = $2 WHERE device = $1 AND counted < $2");
    query.bind(device).bind(count);
}

/// The first device of an account that has one: it stands for all of them.
pub(crate) async fn first(conn: &mut Conn, account: &AccountId) -> Result<DeviceRow, Error> {
    Ok(sqlx::query_scalar("SELECT min(device) FROM devices WHERE account = $1")
        .bind(account.as_str())
        .fetch_one(conn)
        .await?)
}

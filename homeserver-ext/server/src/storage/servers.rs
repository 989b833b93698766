//! Other servers: how far what comes from them was taken, and what they said of their accounts.

pub(crate) mod forward;
pub(crate) mod shared;

use std::collections::{BTreeMap, VecDeque};

use causeway_protocol::{
    api::AccountAnswer,
    device::DeviceOf,
    ids::{AccountId, DeviceId, ServerLinkId, Timestamp},
    link::{Ack, Place},
};
use causeway_store::Conn;
use sqlx::Row as _;

use super::{DeviceRow, Error, devices::give_mailbox, ms, name_of, number, time};

/// What is known of a server.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// How far what it sends was taken.
    pub(crate) place: Place,
    /// When something came of it last; 0 where nothing has.
    pub(crate) heard: Timestamp,
}

/// What is known of the server of this name.
pub(crate) async fn load(conn: &mut Conn, name: &str) -> Result<Known, Error> {
    let row = sqlx::query("SELECT link, taken, former, heard_ms FROM servers WHERE name = $1")
        .bind(name)
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(Known::default()) };
    let link: Option<&[u8]> = row.try_get(0)?;
    let seq = number(row.try_get(1)?, "taken")?;
    let present = match link {
        Some(link) => Some(Ack { link: name_of!(ServerLinkId, link, "link")?, seq }),
        None => None,
    };
    let former = row.try_get::<&[u8], _>(2)?.chunks(ServerLinkId::LEN);
    let former = former.map(|link| name_of!(ServerLinkId, link, "former"));
    let former = former.collect::<Result<VecDeque<_>, Error>>()?;
    Ok(Known { place: Place { present, former }, heard: time(row.try_get(3)?) })
}

/// Notes how far what the server sends was taken.
pub(crate) async fn set_place(
    conn: &mut Conn,
    now: Timestamp,
    name: &str,
    place: &Place,
) -> Result<(), Error> {
    let present = place.present.as_ref();
    let former: Vec<u8> = place.former.iter().flat_map(|link| *link.as_bytes()).collect();
    sqlx::query(
        "INSERT INTO servers (name, link, taken, former, heard_ms, forwarded)
         SELECT $1, $2, $3, $4, $5, last FROM numbers WHERE TRUE
         ON CONFLICT (name) DO UPDATE SET link = excluded.link, taken = excluded.taken,
         former = excluded.former, heard_ms = excluded.heard_ms",
    )
    .bind(name)
    .bind(present.map(|present| present.link.as_bytes().to_vec()))
    .bind(present.map_or(0, |present| i64::try_from(present.seq).unwrap_or(i64::MAX)))
    .bind(former)
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// The number of a server in this database.
pub(crate) async fn row(conn: &mut Conn, name: &str) -> Result<i64, Error> {
    sqlx::query(
        "INSERT INTO servers (name, taken, former, heard_ms, forwarded)
         SELECT $1, 0, $2, 0, last FROM numbers WHERE TRUE ON CONFLICT (name) DO NOTHING",
    )
    .bind(name)
    .bind(Vec::new())
    .execute(&mut *conn)
    .await?;
    Ok(sqlx::query_scalar("SELECT server FROM servers WHERE name = $1")
        .bind(name)
        .fetch_one(conn)
        .await?)
}

/// Has a device of another server's account known here, with a mailbox from which its server is served; its
/// number. `None` where its server has not shown that the account has it, or it is known as somebody
/// else's.
pub(crate) async fn know_device(
    conn: &mut Conn,
    account: &AccountId,
    device: &DeviceOf,
) -> Result<Option<DeviceRow>, Error> {
    let Some((shown, _)) = self::account(conn, account).await? else { return Ok(None) };
    let has = shown.list.devices.contains(&device.device_id);
    if shown.list.member_id != device.member_id || !has {
        return Ok(None);
    }
    let server = row(conn, account.server()).await?;
    // An identity that is somebody's here is nobody's elsewhere.
    let list = serde_json::to_string(&shown.list).map_err(|_| Error::Row("list"))?;
    let is_known: Option<i64> = sqlx::query_scalar(
        "INSERT INTO accounts (account, member_id, list, created_ms) VALUES ($1, $2, $3, 0)
         ON CONFLICT DO NOTHING RETURNING created_ms",
    )
    .bind(account.as_str())
    .bind(device.member_id.as_ref())
    .bind(list)
    .fetch_optional(&mut *conn)
    .await?;
    if is_known.is_none() && !has_identity(conn, account, device).await? {
        return Ok(None);
    }
    let row: Option<DeviceRow> = sqlx::query_scalar(
        "INSERT INTO devices (device_id, member_id, account, record, listed, server)
         VALUES ($1, $2, $3, '', TRUE, $4)
         ON CONFLICT (device_id) DO UPDATE SET listed = TRUE
         WHERE devices.account = excluded.account AND devices.member_id = excluded.member_id
            AND devices.server = excluded.server
         RETURNING device",
    )
    .bind(device.device_id.as_ref())
    .bind(device.member_id.as_ref())
    .bind(account.as_str())
    .bind(server)
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(row) = row {
        give_mailbox(conn, row).await?;
    }
    Ok(row)
}

/// Whether an account is known with the identity of this device.
async fn has_identity(
    conn: &mut Conn,
    account: &AccountId,
    device: &DeviceOf,
) -> Result<bool, Error> {
    let query = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM accounts WHERE account = $1 AND member_id = $2)",
    );
    Ok(query.bind(account.as_str()).bind(device.member_id.as_ref()).fetch_one(conn).await?)
}

/// Who claims in the name of this server: no device of ours, which all have numbers above 0.
pub(crate) async fn claimer(conn: &mut Conn, name: &str) -> Result<DeviceRow, Error> {
    let row: Option<i64> = sqlx::query_scalar("SELECT server FROM servers WHERE name = $1")
        .bind(name)
        .fetch_optional(conn)
        .await?;
    Ok(DeviceRow(-row.unwrap_or(0)))
}

/// What was said last of an account, and when that was asked.
pub(crate) async fn account(
    conn: &mut Conn,
    account: &AccountId,
) -> Result<Option<(AccountAnswer, Timestamp)>, Error> {
    let row = sqlx::query("SELECT answer, asked_ms FROM remote_accounts WHERE account = $1")
        .bind(account.as_str())
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let answer = serde_json::from_str(row.try_get(0)?).map_err(|_| Error::Row("answer"))?;
    Ok(Some((answer, time(row.try_get(1)?))))
}

/// Keeps what was said now of an account, and whose its devices are.
pub(crate) async fn keep_account(
    conn: &mut Conn,
    now: Timestamp,
    said: &AccountAnswer,
) -> Result<(), Error> {
    let account = &said.list.account;
    let answer = serde_json::to_string(said).map_err(|_| Error::Row("answer"))?;
    sqlx::query(
        "INSERT INTO remote_accounts (account, version, answer, asked_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (account) DO UPDATE SET version = excluded.version,
         answer = excluded.answer, asked_ms = excluded.asked_ms",
    )
    .bind(account.as_str())
    .bind(i64::from(said.list.version))
    .bind(answer)
    .bind(ms(now))
    .execute(&mut *conn)
    .await?;
    // Where a group names it, it is among the accounts.
    sqlx::query("UPDATE accounts SET list = $3 WHERE account = $1 AND member_id = $2")
        .bind(account.as_str())
        .bind(said.list.member_id.as_ref())
        .bind(serde_json::to_string(&said.list).map_err(|_| Error::Row("list"))?)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM remote_devices WHERE account = $1")
        .bind(account.as_str())
        .execute(&mut *conn)
        .await?;
    for device in &said.list.devices {
        // Another account that names it has shown that it is its own, as this one has: the newest word
        // counts, and a key of it opens for the device alone.
        sqlx::query(
            "INSERT INTO remote_devices (device_id, account) VALUES ($1, $2)
             ON CONFLICT (device_id) DO UPDATE SET account = excluded.account",
        )
        .bind(device.as_bytes().as_slice())
        .bind(account.as_str())
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// On which other server each of these devices is, as far as that is known.
pub(crate) async fn servers_of(
    conn: &mut Conn,
    devices: &[DeviceId],
) -> Result<BTreeMap<String, Vec<DeviceId>>, Error> {
    let mut by_server: BTreeMap<String, Vec<DeviceId>> = BTreeMap::new();
    for device in devices {
        let account: Option<String> =
            sqlx::query_scalar("SELECT account FROM remote_devices WHERE device_id = $1")
                .bind(device.as_bytes().as_slice())
                .fetch_optional(&mut *conn)
                .await?;
        let Some(account) = account else { continue };
        let account: AccountId = account.parse().map_err(|_| Error::Row("account"))?;
        by_server.entry(account.server().to_owned()).or_default().push(*device);
    }
    Ok(by_server)
}

/// Forgets accounts that nobody has asked for since `before`, so many at most; how many there were.
pub(crate) async fn forget_accounts(
    conn: &mut Conn,
    before: Timestamp,
    most: u32,
) -> Result<u64, Error> {
    let gone: Vec<String> = sqlx::query_scalar(
        "DELETE FROM remote_accounts WHERE account IN (
             SELECT account FROM remote_accounts a WHERE asked_ms < $1
                AND NOT EXISTS (SELECT 1 FROM devices d WHERE d.account = a.account)
             ORDER BY asked_ms LIMIT $2)
         RETURNING account",
    )
    .bind(ms(before))
    .bind(most)
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

//! Accounts and devices as they signed themselves, and what the server was asked about them.

use causeway_protocol::{
    device::{DeviceList, DeviceRecord},
    ids::{AccountId, DeviceId, MemberId, Timestamp},
};
use causeway_store::{Conn, Row, Script};
use sqlx::Row as _;

use super::{Error, Whole as _, json, ms};

/// Devices that are looked up in one errand; the engine looks each of a list up among all before it.
const AT_ONCE: usize = 64;

/// A device whose record verifies, and the account that named it.
#[derive(Debug, Clone)]
pub(crate) struct KnownDevice {
    pub(crate) account: AccountId,
    pub(crate) record: DeviceRecord,
}

pub(crate) async fn device(
    conn: &mut Conn,
    device: &DeviceId,
) -> Result<Option<KnownDevice>, Error> {
    let mut script = Script::default();
    select_devices(&mut script, &[*device]);
    Ok(read_devices(&script.run(conn).await?)?.pop())
}

/// Those of them whose records are here.
pub(crate) async fn devices(
    conn: &mut Conn,
    devices: &[DeviceId],
) -> Result<Vec<KnownDevice>, Error> {
    let mut known = Vec::with_capacity(devices.len());
    for some in devices.chunks(AT_ONCE) {
        let mut script = Script::default();
        select_devices(&mut script, some);
        known.extend(read_devices(&script.run(conn).await?)?);
    }
    Ok(known)
}

/// Asks for the records of these devices, for [`read_devices`].
pub(crate) fn select_devices(script: &mut Script, devices: &[DeviceId]) {
    let ids: Vec<Vec<u8>> = devices.iter().map(|device| device.as_bytes().to_vec()).collect();
    script.add_list("SELECT account, record FROM devices WHERE device_id IN (", ids);
}

/// Reads what [`select_devices`] asked for.
pub(crate) fn read_devices(rows: &[Row]) -> Result<Vec<KnownDevice>, Error> {
    let known = |row: &Row| {
        Ok(KnownDevice {
            account: row.try_get::<String, _>(0)?.parse().whole("devices")?,
            record: serde_json::from_str(row.try_get(1)?).whole("devices")?,
        })
    };
    rows.iter().map(known).collect()
}

/// Keeps a record; a device that is known stays as it is.
pub(crate) async fn insert_device(
    conn: &mut Conn,
    account: &AccountId,
    record: &DeviceRecord,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO devices (device_id, account, record) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
    )
    .bind(record.device_id.as_bytes().as_slice())
    .bind(account.as_str())
    .bind(json(record))
    .execute(conn)
    .await?;
    Ok(())
}

/// The newest list of this account and identity that was ever seen.
pub(crate) async fn list(
    conn: &mut Conn,
    account: &AccountId,
    member: &MemberId,
) -> Result<Option<DeviceList>, Error> {
    let list: Option<String> =
        sqlx::query_scalar("SELECT list FROM accounts WHERE account = $1 AND member_id = $2")
            .bind(account.as_str())
            .bind(member.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    list.map(|list| serde_json::from_str(&list).whole("accounts")).transpose()
}

/// The list of this account that was seen last, whatever its identity.
pub(crate) async fn newest_list(
    conn: &mut Conn,
    account: &AccountId,
) -> Result<Option<DeviceList>, Error> {
    let list: Option<String> = sqlx::query_scalar(
        "SELECT list FROM accounts WHERE account = $1 ORDER BY seen_ms DESC LIMIT 1",
    )
    .bind(account.as_str())
    .fetch_optional(conn)
    .await?;
    list.map(|list| serde_json::from_str(&list).whole("accounts")).transpose()
}

pub(crate) async fn save_list(
    conn: &mut Conn,
    list: &DeviceList,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO accounts (account, member_id, list, seen_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (account, member_id) DO UPDATE SET list = excluded.list,
             seen_ms = excluded.seen_ms",
    )
    .bind(list.account.as_str())
    .bind(list.member_id.as_bytes().as_slice())
    .bind(json(list))
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Something to be asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// An account's list and records.
    Account,
    /// A device's one-time key.
    Claim,
    /// A new session with a device whose old one is wedged.
    Heal,
    /// How many one-time keys the server has of this device.
    Count,
    /// Never to be asked: an account of which its server said nothing when it was asked for last.
    Away,
}

impl Ask {
    const fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Claim => "claim",
            Self::Heal => "heal",
            Self::Count => "count",
            Self::Away => "away",
        }
    }
}

/// Notes that something is to be asked, unless it was asked in vain since `since`.
pub(crate) async fn ask(
    conn: &mut Conn,
    what: Ask,
    name: &[u8],
    since: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO asked (what, name) VALUES ($1, $2)
         ON CONFLICT (what, name) DO UPDATE SET done_ms = NULL WHERE asked.done_ms < $3",
    )
    .bind(what.name())
    .bind(name)
    .bind(ms(since))
    .execute(conn)
    .await?;
    Ok(())
}

/// What is to be asked of this kind.
pub(crate) async fn to_ask(conn: &mut Conn, what: Ask) -> Result<Vec<Vec<u8>>, Error> {
    Ok(sqlx::query_scalar("SELECT name FROM asked WHERE what = $1 AND done_ms IS NULL LIMIT 1000")
        .bind(what.name())
        .fetch_all(conn)
        .await?)
}

/// Whether it was asked in vain since `since`.
pub(crate) async fn was_asked(
    conn: &mut Conn,
    what: Ask,
    name: &[u8],
    since: Timestamp,
) -> Result<bool, Error> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM asked WHERE what = $1 AND name = $2 AND done_ms >= $3")
            .bind(what.name())
            .bind(name)
            .bind(ms(since))
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// It was asked, and this is when.
pub(crate) async fn answered(
    conn: &mut Conn,
    what: Ask,
    name: &[u8],
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO asked (what, name, done_ms) VALUES ($1, $2, $3)
         ON CONFLICT (what, name) DO UPDATE SET done_ms = excluded.done_ms",
    )
    .bind(what.name())
    .bind(name)
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// As [`answered`], where it was to be asked.
pub(crate) async fn answered_if_due(
    conn: &mut Conn,
    what: Ask,
    name: &[u8],
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query("UPDATE asked SET done_ms = $3 WHERE what = $1 AND name = $2 AND done_ms IS NULL")
        .bind(what.name())
        .bind(name)
        .bind(ms(now))
        .execute(conn)
        .await?;
    Ok(())
}

/// It is as if it had never been asked.
pub(crate) async fn unasked(conn: &mut Conn, what: Ask, name: &[u8]) -> Result<(), Error> {
    sqlx::query("DELETE FROM asked WHERE what = $1 AND name = $2")
        .bind(what.name())
        .bind(name)
        .execute(conn)
        .await?;
    Ok(())
}

/// Lets everything be asked again that was asked before.
pub(crate) async fn forget_answers(conn: &mut Conn) -> Result<(), Error> {
    sqlx::query("DELETE FROM asked WHERE done_ms IS NOT NULL").execute(conn).await?;
    Ok(())
}

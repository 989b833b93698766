//! One-time and fallback keys, and who claimed how many.

use std::collections::BTreeMap;

use causeway_protocol::{
    device::OneTimeKey,
    ids::{CurveKey, DeviceId, KeyId, Signature, Timestamp},
};
use causeway_store::{Conn, Row, Script};
use sqlx::Row as _;

use super::{DeviceRow, Error, many, ms, name_of, number};

const HOUR_MS: i64 = 3_600_000;

/// Puts one-time keys in; those whose number is known, claimed or not, stay as they are, and those whose
/// number was claimed and is forgotten are not taken.
pub(crate) async fn insert(
    conn: &mut Conn,
    device: DeviceRow,
    keys: &[OneTimeKey],
) -> Result<(), Error> {
    let spent: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT spent_key FROM devices WHERE device = $1")
            .bind(device)
            .fetch_one(&mut *conn)
            .await?;
    let is_new = |key: &&OneTimeKey| {
        spent.as_ref().is_none_or(|spent| key.key_id.as_ref() > spent.as_slice())
    };
    let keys: Vec<&OneTimeKey> = keys.iter().filter(is_new).collect();
    many::insert(
        conn,
        "INSERT INTO one_time_keys (device, key_id, curve25519, signature) ",
        &keys,
        " ON CONFLICT DO NOTHING",
        |values, key| {
            values
                .bind(device)
                .bind(key.key_id.as_ref().to_vec())
                .bind(key.curve25519.as_ref().to_vec())
                .bind(key.signature.as_ref().to_vec());
        },
    )
    .await?;
    Ok(())
}

/// Takes back the keys of a device that nobody has claimed; what was claimed is given to nobody else.
pub(crate) async fn withdraw(conn: &mut Conn, device: DeviceRow) -> Result<(), Error> {
    sqlx::query("DELETE FROM one_time_keys WHERE device = $1 AND claimed_ms IS NULL")
        .bind(device)
        .execute(conn)
        .await?;
    Ok(())
}

/// Takes back the keys of all devices that nobody has claimed.
pub(crate) async fn withdraw_all(conn: &mut Conn) -> Result<(), causeway_store::Error> {
    sqlx::query("DELETE FROM one_time_keys WHERE claimed_ms IS NULL").execute(conn).await?;
    Ok(())
}

/// How many keys of a device nobody has claimed.
pub(crate) async fn count(conn: &mut Conn, device: DeviceRow) -> Result<u32, Error> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM one_time_keys WHERE device = $1 AND claimed_ms IS NULL",
    )
    .bind(device)
    .fetch_one(conn)
    .await?;
    number(count, "count")
}

/// A device of which a key is wanted.
pub(crate) struct Target {
    row: DeviceRow,
    pub(crate) device_id: DeviceId,
    fallback: Option<String>,
}

impl Target {
    fn fallback(&self) -> Result<Option<OneTimeKey>, Error> {
        let json = self.fallback.as_deref();
        json.map(serde_json::from_str).transpose().map_err(|_| Error::Row("fallback_key"))
    }
}

/// Asks which of these devices are this server's, and on their account's list.
pub(crate) fn select_targets(script: &mut Script, devices: &[DeviceId]) {
    script.add_list(
        "SELECT device, device_id, fallback_key FROM devices
         WHERE server IS NULL AND listed = TRUE AND device_id IN (",
        devices.iter().map(|device| device.as_ref().to_vec()).collect(),
    );
}

/// Reads what [`select_targets`] asked for.
pub(crate) fn read_targets(rows: &[Row]) -> Result<Vec<Target>, Error> {
    let target = |row: &Row| {
        let device_id = name_of!(DeviceId, row.try_get::<&[u8], _>(1)?, "device_id")?;
        Ok(Target { row: row.try_get(0)?, device_id, fallback: row.try_get(2)? })
    };
    rows.iter().map(target).collect()
}

/// Claims a key of each, for ever, as one more claim within this hour; the fallback key where there is none
/// left, or where there were more than `per_hour`. `claimer`: the first device of the account.
pub(crate) async fn claim(
    conn: &mut Conn,
    now: Timestamp,
    (claimer, per_hour): (DeviceRow, u32),
    targets: &[Target],
) -> Result<Vec<(DeviceId, OneTimeKey)>, Error> {
    let counts = count_claims(conn, now, claimer, targets).await?;
    let is_over = |target: &&Target| counts.get(&target.row).is_some_and(|count| *count > per_hour);
    let within: Vec<_> = targets.iter().filter(|one| !is_over(one)).map(|one| one.row).collect();
    let mut keys = take(conn, now, within).await?;
    let key = |target: &Target| {
        let key = match keys.remove(&target.row) {
            Some(key) => Some(key),
            None => target.fallback()?,
        };
        Ok(key.map(|key| (target.device_id, key)))
    };
    targets.iter().map(key).filter_map(Result::transpose).collect()
}

/// The next key of each that nobody has claimed, where there is one.
async fn take(
    conn: &mut Conn,
    now: Timestamp,
    devices: Vec<DeviceRow>,
) -> Result<BTreeMap<DeviceRow, OneTimeKey>, Error> {
    let mut script = Script::default();
    for device in devices {
        let query = script.add(
            "UPDATE one_time_keys SET claimed_ms = $2
             WHERE device = $1 AND key_id =
                (SELECT key_id FROM one_time_keys WHERE device = $1 AND claimed_ms IS NULL
                 ORDER BY key_id LIMIT 1)
             RETURNING device, key_id, curve25519, signature",
        );
        query.bind(device).bind(ms(now));
    }
    let key = |row: Row| {
        let key = OneTimeKey {
            key_id: name_of!(KeyId, row.try_get::<&[u8], _>(1)?, "key_id")?,
            fallback: false,
            curve25519: name_of!(CurveKey, row.try_get::<&[u8], _>(2)?, "curve25519")?,
            signature: name_of!(Signature, row.try_get::<&[u8], _>(3)?, "signature")?,
        };
        Ok((row.try_get(0)?, key))
    };
    script.run(conn).await?.into_iter().map(key).collect()
}

/// Replaces the fallback key of a device.
pub(crate) async fn set_fallback(
    conn: &mut Conn,
    device: DeviceRow,
    key: &OneTimeKey,
) -> Result<(), Error> {
    let json = serde_json::to_string(key).map_err(|_| Error::Row("fallback_key"))?;
    sqlx::query("UPDATE devices SET fallback_key = $2 WHERE device = $1")
        .bind(device)
        .bind(json)
        .execute(conn)
        .await?;
    Ok(())
}

/// The fallback key of a device.
pub(crate) async fn fallback(
    conn: &mut Conn,
    device: DeviceRow,
) -> Result<Option<OneTimeKey>, Error> {
    let json: Option<String> =
        sqlx::query_scalar("SELECT fallback_key FROM devices WHERE device = $1")
            .bind(device)
            .fetch_one(conn)
            .await?;
    json.map(|json| serde_json::from_str(&json).map_err(|_| Error::Row("fallback_key"))).transpose()
}

/// Counts one more claim of each within this hour; how many there are with it.
async fn count_claims(
    conn: &mut Conn,
    now: Timestamp,
    claimer: DeviceRow,
    targets: &[Target],
) -> Result<BTreeMap<DeviceRow, u32>, Error> {
    let mut script = Script::default();
    script.insert(
        "INSERT INTO claims (claimer, target, hour_ms, count) ",
        targets,
        " ON CONFLICT (claimer, target, hour_ms) DO UPDATE SET count = claims.count + 1
         RETURNING target, count",
        |values, target| {
            let hour = ms(now) / HOUR_MS * HOUR_MS;
            values.bind(claimer).bind(target.row).bind(hour).bind(1_i64);
        },
    );
    let count = |row: Row| Ok((row.try_get(0)?, number(row.try_get(1)?, "count")?));
    script.run(conn).await?.into_iter().map(count).collect()
}

/// Forgets claims of former hours.
pub(crate) async fn prune_claims(conn: &mut Conn, now: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM claims WHERE hour_ms < $1")
        .bind(ms(now) / HOUR_MS * HOUR_MS)
        .execute(conn)
        .await?;
    Ok(())
}

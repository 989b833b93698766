//! One-time and fallback keys, and who claimed how many.

use causeway_protocol::{
    device::OneTimeKey,
    ids::{CurveKey, KeyId, Signature, Timestamp},
};
use causeway_store::Conn;

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

/// Claims a key of a device, for ever; `None` if there is none left.
pub(crate) async fn claim(
    conn: &mut Conn,
    now: Timestamp,
    device: DeviceRow,
) -> Result<Option<OneTimeKey>, Error> {
    let row: Option<(Vec<u8>, Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "UPDATE one_time_keys SET claimed_ms = $2
         WHERE device = $1 AND key_id =
            (SELECT key_id FROM one_time_keys WHERE device = $1 AND claimed_ms IS NULL
             ORDER BY key_id LIMIT 1)
         RETURNING key_id, curve25519, signature",
    )
    .bind(device)
    .bind(ms(now))
    .fetch_optional(conn)
    .await?;
    row.map(|(key_id, curve25519, signature)| {
        Ok(OneTimeKey {
            key_id: name_of!(KeyId, &key_id, "key_id")?,
            fallback: false,
            curve25519: name_of!(CurveKey, &curve25519, "curve25519")?,
            signature: name_of!(Signature, &signature, "signature")?,
        })
    })
    .transpose()
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

/// Counts one more claim within this hour; how many there are with it. `claimer`: the first device of
/// the account.
pub(crate) async fn count_claim(
    conn: &mut Conn,
    now: Timestamp,
    claimer: DeviceRow,
    target: DeviceRow,
) -> Result<u32, Error> {
    let count: i64 = sqlx::query_scalar(
        "INSERT INTO claims (claimer, target, hour_ms, count) VALUES ($1, $2, $3, 1)
         ON CONFLICT (claimer, target, hour_ms) DO UPDATE SET count = claims.count + 1
         RETURNING count",
    )
    .bind(claimer)
    .bind(target)
    .bind(ms(now) / HOUR_MS * HOUR_MS)
    .fetch_one(conn)
    .await?;
    number(count, "count")
}

/// Forgets claims of former hours.
pub(crate) async fn prune_claims(conn: &mut Conn, now: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM claims WHERE hour_ms < $1")
        .bind(ms(now) / HOUR_MS * HOUR_MS)
        .execute(conn)
        .await?;
    Ok(())
}

//! Leaves of calls that clients have left to us.

use causeway_protocol::ids::{GroupId, Timestamp};
use causeway_store::{Read, Tx};
use ruma::{RoomId, UserId};
use sqlx::Row as _;

use super::{Error, at};
use crate::domain::delegated::Delegated;

/// What whoever looks after them waits for.
pub const TOPIC: &str = "delegated";

/// All of them.
///
/// # Errors
/// [`Error`]
pub async fn all(read: &mut Read) -> Result<Vec<Delegated>, Error> {
    let rows = sqlx::query(
        "SELECT room_id, identity, user_id, group_id, delay_id, timeout_ms, began_at, put_off_at,
                is_seen, gone_at
         FROM delegated ORDER BY room_id, identity",
    )
    .fetch_all(read.conn())
    .await?;
    let ms = |ms: i64| u64::try_from(ms).unwrap_or_default();
    rows.iter()
        .map(|row| {
            let (room, user): (String, String) = (row.try_get("room_id")?, row.try_get("user_id")?);
            let group: Option<Vec<u8>> = row.try_get("group_id")?;
            let group = group.map(|group| GroupId::from_slice(&group)).transpose();
            let gone: Option<i64> = row.try_get("gone_at")?;
            Ok(Delegated {
                room: RoomId::parse(room).map_err(|_| Error::Row("delegated.room_id"))?,
                identity: row.try_get("identity")?,
                user: UserId::parse(user).map_err(|_| Error::Row("delegated.user_id"))?,
                group: group.map_err(|_| Error::Row("delegated.group_id"))?,
                delay: row.try_get("delay_id")?,
                timeout_ms: ms(row.try_get("timeout_ms")?),
                began: Timestamp(ms(row.try_get("began_at")?)),
                put_off: Timestamp(ms(row.try_get("put_off_at")?)),
                is_seen: row.try_get("is_seen")?,
                gone: gone.map(|gone| Timestamp(ms(gone))),
            })
        })
        .collect()
}

/// How many one user has, of other devices than this one.
///
/// # Errors
/// [`Error`]
pub async fn of_user(tx: &mut Tx, one: &Delegated) -> Result<u32, Error> {
    let count: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM delegated
         WHERE user_id = $1 AND NOT (room_id = $2 AND identity = $3)",
    )
    .bind(one.user.as_str())
    .bind(one.room.as_str())
    .bind(&one.identity)
    .fetch_one(tx.conn())
    .await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Keeps one as it is now, in place of the one that the device may have had there.
///
/// # Errors
/// [`Error`]
pub async fn put(tx: &mut Tx, one: &Delegated) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO delegated (room_id, identity, user_id, group_id, delay_id, timeout_ms,
                                began_at, put_off_at, is_seen, gone_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (room_id, identity) DO UPDATE SET
             user_id = excluded.user_id, group_id = excluded.group_id,
             delay_id = excluded.delay_id, timeout_ms = excluded.timeout_ms,
             began_at = excluded.began_at, put_off_at = excluded.put_off_at,
             is_seen = excluded.is_seen, gone_at = excluded.gone_at",
    )
    .bind(one.room.as_str())
    .bind(&one.identity)
    .bind(one.user.as_str())
    .bind(one.group.as_ref().map(|group| group.as_bytes().as_slice()))
    .bind(&one.delay)
    .bind(at(Timestamp(one.timeout_ms)))
    .bind(at(one.began))
    .bind(at(one.put_off))
    .bind(one.is_seen)
    .bind(one.gone.map(at))
    .execute(tx.conn())
    .await?;
    tx.wake(TOPIC);
    Ok(())
}

/// Keeps one as it is now, unless the device has left us another meanwhile.
///
/// # Errors
/// [`Error`]
pub async fn put_if_none(tx: &mut Tx, one: &Delegated) -> Result<(), Error> {
    let other: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM delegated WHERE room_id = $1 AND identity = $2")
            .bind(one.room.as_str())
            .bind(&one.identity)
            .fetch_optional(tx.conn())
            .await?;
    if other.is_none() { put(tx, one).await } else { Ok(()) }
}

/// It was sent, or is another's: only if it is the same still.
///
/// # Errors
/// [`Error`]
pub async fn forget(tx: &mut Tx, one: &Delegated) -> Result<(), Error> {
    sqlx::query("DELETE FROM delegated WHERE room_id = $1 AND identity = $2 AND delay_id = $3")
        .bind(one.room.as_str())
        .bind(&one.identity)
        .bind(&one.delay)
        .execute(tx.conn())
        .await?;
    Ok(())
}

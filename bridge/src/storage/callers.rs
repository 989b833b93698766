//! Ghosts that may be shown as being in a call.

use causeway_protocol::ids::{GroupId, Timestamp};
use causeway_store::{Read, Tx};
use ruma::{RoomId, UserId};
use sqlx::Row as _;

use super::{Error, at};
use crate::domain::caller::Caller;

/// All of them.
///
/// # Errors
/// [`Error`]
pub async fn all(read: &mut Read) -> Result<Vec<Caller>, Error> {
    let rows = sqlx::query(
        "SELECT room_id, state_key, user_id, group_id, began_at FROM callers
         ORDER BY room_id, state_key",
    )
    .fetch_all(read.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let (room, user): (String, String) = (row.try_get("room_id")?, row.try_get("user_id")?);
            let (group, began_at): (Vec<u8>, i64) =
                (row.try_get("group_id")?, row.try_get("began_at")?);
            Ok(Caller {
                room: RoomId::parse(room).map_err(|_| Error::Row("callers.room_id"))?,
                key: row.try_get("state_key")?,
                user: UserId::parse(user).map_err(|_| Error::Row("callers.user_id"))?,
                group: GroupId::from_slice(&group).map_err(|_| Error::Row("callers.group_id"))?,
                began_at: Timestamp(u64::try_from(began_at).unwrap_or_default()),
            })
        })
        .collect()
}

/// One is about to be shown; the same however often.
///
/// # Errors
/// [`Error`]
pub async fn note(tx: &mut Tx, caller: &Caller) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO callers (room_id, state_key, user_id, group_id, began_at)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (room_id, state_key) DO NOTHING",
    )
    .bind(caller.room.as_str())
    .bind(&caller.key)
    .bind(caller.user.as_str())
    .bind(caller.group.as_bytes().as_slice())
    .bind(at(caller.began_at))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The homeserver shows it no more.
///
/// # Errors
/// [`Error`]
pub async fn forget(tx: &mut Tx, caller: &Caller) -> Result<(), Error> {
    sqlx::query("DELETE FROM callers WHERE room_id = $1 AND state_key = $2")
        .bind(caller.room.as_str())
        .bind(&caller.key)
        .execute(tx.conn())
        .await?;
    Ok(())
}

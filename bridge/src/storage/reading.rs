//! How far the homeserver's own account has been read: the bot's `/sync`, and gaps in rooms.
//!
//! Transactions are fast, and not the truth: a homeserver that stops forgets those it had not sent.
//! While there is doubt nothing is routed; a room with a gap waits alone.

use causeway_store::{Read, Script, Tx};
use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use sqlx::Row as _;

use super::{Error, TO_ROUTE};

/// Woken when there is doubt, or a gap.
pub const TOPIC: &str = "reading";

/// Where `/sync` goes on, and how often that was called for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its token; `None` before the first time.
    pub token: Option<String>,
    /// Causes of doubt since it was read.
    pub doubts: i64,
}

/// A room of which something is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Which.
    pub room: OwnedRoomId,
    /// What is missing comes behind this place; `None` if that is not known.
    pub behind: Option<String>,
    /// How often it was opened.
    pub opened: i64,
}

/// An inbox row that does not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its place.
    pub seq: i64,
    /// Its room.
    pub room: OwnedRoomId,
    /// Its event.
    pub event: OwnedEventId,
}

/// Something may be missing anywhere: nothing is routed until `/sync` was read; [`TOPIC`] is to be woken.
pub fn doubt(script: &mut Script) {
    script.add("UPDATE reading SET doubts = doubts + 1");
}

/// Where reading goes on.
///
/// # Errors
/// [`Error`]
pub async fn place(read: &mut Read) -> Result<Place, Error> {
    let row = sqlx::query("SELECT token, doubts FROM reading").fetch_one(read.conn()).await?;
    Ok(Place { token: row.try_get(0)?, doubts: row.try_get(1)? })
}

/// The homeserver was asked at `before`, and `/sync` read to `next`, if it was. Rows of the inbox up
/// to `settled` are where they belong; what was doubted meanwhile still is.
///
/// # Errors
/// [`Error`]
pub async fn read_to(
    tx: &mut Tx,
    before: &Place,
    next: Option<&str>,
    settled: i64,
) -> Result<(), Error> {
    sqlx::query("UPDATE reading SET token = $1, doubts = doubts - $2, settled = $3")
        .bind(next)
        .bind(before.doubts)
        .bind(settled)
        .execute(tx.conn())
        .await?;
    tx.wake(TO_ROUTE);
    Ok(())
}

/// Whether all that was to be read of a room is read, and routed.
///
/// # Errors
/// [`Error`]
pub async fn is_level(read: &mut Read, room: &RoomId) -> Result<bool, Error> {
    let level = sqlx::query(
        "SELECT 1 FROM reading WHERE doubts = 0
           AND NOT EXISTS (SELECT 1 FROM gaps WHERE room_id = $1)
           AND NOT EXISTS (SELECT 1 FROM inbox WHERE room_id = $1 AND state = 0)",
    )
    .bind(room.as_str())
    .fetch_optional(read.conn())
    .await?;
    Ok(level.is_some())
}

/// Something of the room is missing behind a place; a gap that is open is read to its end, and from
/// this place once more.
///
/// # Errors
/// [`Error`]
pub async fn open_gap(tx: &mut Tx, room: &RoomId, behind: Option<&str>) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO gaps (room_id, behind) VALUES ($1, $2)
         ON CONFLICT (room_id) DO UPDATE SET opened = gaps.opened + 1,
                                             again = COALESCE(gaps.again, excluded.behind)",
    )
    .bind(room.as_str())
    .bind(behind)
    .execute(tx.conn())
    .await?;
    tx.wake(TOPIC);
    Ok(())
}

/// The gap of a room, filled up to a place.
///
/// # Errors
/// [`Error`]
pub async fn filled_to(tx: &mut Tx, room: &RoomId, place: Option<&str>) -> Result<(), Error> {
    sqlx::query("UPDATE gaps SET behind = $2 WHERE room_id = $1")
        .bind(room.as_str())
        .bind(place)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Nothing of the room is missing any more; `false` if the gap was opened again since it was
/// looked at as `gap`: then it is filled from there. Not on from where it was filled to: that may
/// be a place in the order of the room's graph, and what came since stand before it.
///
/// # Errors
/// [`Error`]
pub async fn close_gap(tx: &mut Tx, gap: &Gap) -> Result<bool, Error> {
    let closed = sqlx::query("DELETE FROM gaps WHERE room_id = $1 AND opened = $2")
        .bind(gap.room.as_str())
        .bind(gap.opened)
        .execute(tx.conn())
        .await?;
    if closed.rows_affected() > 0 {
        tx.wake(TO_ROUTE);
        return Ok(true);
    }
    sqlx::query(
        "UPDATE gaps SET behind = again, again = NULL WHERE room_id = $1 AND again IS NOT NULL",
    )
    .bind(gap.room.as_str())
    .execute(tx.conn())
    .await?;
    Ok(false)
}

/// The gap of a room, if it has one.
///
/// # Errors
/// [`Error`]
pub async fn gap(read: &mut Read, room: &RoomId) -> Result<Option<Gap>, Error> {
    let row = sqlx::query("SELECT behind, opened FROM gaps WHERE room_id = $1")
        .bind(room.as_str())
        .fetch_optional(read.conn())
        .await?;
    row.map(|row| {
        Ok(Gap { room: room.to_owned(), behind: row.try_get(0)?, opened: row.try_get(1)? })
    })
    .transpose()
}

/// Rooms with a gap.
///
/// # Errors
/// [`Error`]
pub async fn gaps(read: &mut Read) -> Result<Vec<Gap>, Error> {
    let rows = sqlx::query("SELECT room_id, behind, opened FROM gaps ORDER BY room_id")
        .fetch_all(read.conn())
        .await?;
    rows.into_iter()
        .map(|row| {
            let room: String = row.try_get(0)?;
            let room = RoomId::parse(room).map_err(|_| Error::Row("gaps.room_id"))?;
            Ok(Gap { room, behind: row.try_get(1)?, opened: row.try_get(2)? })
        })
        .collect()
}

/// Rooms with rows of the inbox that do not open.
///
/// # Errors
/// [`Error`]
pub async fn damaged_rooms(read: &mut Read) -> Result<Vec<OwnedRoomId>, Error> {
    let rooms: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT room_id FROM inbox WHERE state = 3")
            .fetch_all(read.conn())
            .await?;
    rooms
        .into_iter()
        .map(|room| RoomId::parse(room).map_err(|_| Error::Row("inbox.room_id")))
        .collect()
}

/// The oldest row of a room that does not open.
///
/// # Errors
/// [`Error`]
pub async fn damaged(read: &mut Read, room: &RoomId) -> Result<Option<Damaged>, Error> {
    let row = sqlx::query(
        "SELECT seq, event_id FROM inbox WHERE state = 3 AND room_id = $1 ORDER BY seq LIMIT 1",
    )
    .bind(room.as_str())
    .fetch_optional(read.conn())
    .await?;
    row.map(|row| {
        let event: String = row.try_get(1)?;
        let event = event.try_into().map_err(|_| Error::Row("inbox.event_id"))?;
        Ok(Damaged { seq: row.try_get(0)?, room: room.to_owned(), event })
    })
    .transpose()
}

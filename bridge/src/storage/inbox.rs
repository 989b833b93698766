//! What was accepted from the homeserver: one row per event, unique by event id, for good.
//!
//! Transaction ids are no key: Synapse starts them again after a crash (`docs/how-it-works.md`).

use std::collections::BTreeSet;

use causeway_protocol::ids::Timestamp;
use causeway_store::{Conn, Read, Script, Tx};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};
use serde_json::value::RawValue;
use sqlx::Row as _;

use super::{Error, at, lanes, quarantine, reading, sealed::Sealer, time};
use crate::domain::{
    RoomEvent,
    suspicion::{Came, is_doubtful},
    unread::unread,
};

/// Woken when there are events to route.
pub const TOPIC: &str = super::TO_ROUTE;

/// Events that are routed in one transaction.
pub const AT_ONCE: usize = 100;

/// What became of a transaction's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepted {
    /// Stored now.
    pub new: u64,
    /// Known already.
    pub repeated: u64,
    /// Not to be parsed; put aside.
    pub quarantined: u64,
}

/// Puts the events of one transaction into the inbox; what cannot be parsed goes to the quarantine.
///
/// Whether something may be missing is seen from how it comes, by [`is_doubtful`]. That the
/// homeserver calls at all means it is back: lanes that wait for it may go on.
///
/// # Errors
/// [`Error`]: nothing may be answered with 200.
pub async fn accept(
    tx: &mut Tx,
    vault: &Sealer,
    now: Timestamp,
    came: Came<'_>,
    events: &[Box<RawValue>],
) -> Result<Accepted, Error> {
    let mut accepted = Accepted::default();
    let last = last_before(tx, came.txn).await?;
    if is_doubtful(last.as_deref(), came) {
        reading::doubt(tx).await?;
    }
    let mut rows = Vec::with_capacity(events.len());
    for raw in events {
        match serde_json::from_str::<RoomEvent>(raw.get()) {
            Ok(event) => {
                let sealed = vault.seal_json("inbox", event.event_id.as_bytes(), &event)?;
                rows.push((event.event_id, event.room_id, sealed));
            }
            Err(error) => {
                let reason = format!("not an event: {}", unread(&error));
                quarantine::put(tx, vault, now, None, &reason, raw.get().as_bytes()).await?;
                accepted.quarantined += 1;
            }
        }
    }
    let mut script = Script::default();
    script.insert(
        "INSERT INTO inbox (event_id, room_id, sealed, received_at) ",
        &rows,
        " ON CONFLICT (event_id) DO NOTHING RETURNING seq",
        |row, (event_id, room_id, sealed)| {
            row.bind(event_id.as_str())
                .bind(room_id.as_str())
                .bind(sealed.as_slice())
                .bind(at(now));
        },
    );
    accepted.new = script.run(tx.conn()).await?.len() as u64;
    accepted.repeated = rows.len() as u64 - accepted.new;
    if accepted.new > 0 {
        tx.wake(TOPIC);
    }
    lanes::hurry(tx);
    Ok(accepted)
}

/// The homeserver's number of the last transaction; it is `txn` from now on.
async fn last_before(tx: &mut Tx, txn: &str) -> Result<Option<String>, Error> {
    let mut script = Script::default();
    script.add("SELECT value FROM cursors WHERE name = 'transaction'");
    let query = script.add(
        "INSERT INTO cursors (name, value) VALUES ('transaction', $1)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    );
    query.bind(txn);
    let last = script.run(tx.conn()).await?;
    Ok(last.first().map(|row| row.try_get(0)).transpose()?)
}

/// The place of the newest row; 0 if there is none.
///
/// # Errors
/// [`Error`]
pub async fn newest(conn: &mut Conn) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM inbox").fetch_one(conn).await?)
}

/// Moves what came after `before`, up to `top`, behind everything, in its order.
///
/// # Errors
/// [`Error`]
pub async fn put_behind_all(tx: &mut Tx, before: i64, top: i64) -> Result<(), Error> {
    let rows = sqlx::query(
        "SELECT event_id, room_id FROM inbox WHERE state = 0 AND seq > $1 AND seq <= $2
         ORDER BY seq",
    )
    .bind(before)
    .bind(top)
    .fetch_all(tx.conn())
    .await?;
    for row in rows {
        let (id, room): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let room = RoomId::parse(room).map_err(|_| Error::Row("inbox.room_id"))?;
        put_behind(tx, &room, &id).await?;
    }
    Ok(())
}

/// Puts a page of a room's events behind everything of that room, in the page's order: those that
/// wait, and those that never came. Those that were routed stay so.
///
/// # Errors
/// [`Error`]
pub async fn put_page(
    tx: &mut Tx,
    vault: &Sealer,
    now: Timestamp,
    room: &RoomId,
    page: &[RoomEvent],
) -> Result<u64, Error> {
    let mut missed = 0;
    for event in page {
        let id = event.event_id.as_str();
        if !put_behind(tx, room, id).await? {
            let sealed = vault.seal_json("inbox", id.as_bytes(), event)?;
            missed += insert(tx, room, id, sealed, at(now)).await?;
        }
    }
    Ok(missed)
}

/// Puts an event that waits behind all others; `false` if it does not wait. Its place is never one
/// that a row had before: what is known of places stays true.
async fn put_behind(tx: &mut Tx, room: &RoomId, event_id: &str) -> Result<bool, Error> {
    let moved = sqlx::query(
        "UPDATE inbox SET seq = (SELECT MAX(seq) + 1 FROM inbox)
         WHERE event_id = $1 AND room_id = $2 AND state = 0",
    )
    .bind(event_id)
    .bind(room.as_str())
    .execute(tx.conn())
    .await?;
    Ok(moved.rows_affected() > 0)
}

async fn insert(
    tx: &mut Tx,
    room: &RoomId,
    event_id: &str,
    sealed: Vec<u8>,
    received_at: i64,
) -> Result<u64, Error> {
    let put = sqlx::query(
        "INSERT INTO inbox (event_id, room_id, sealed, received_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (event_id) DO NOTHING",
    )
    .bind(event_id)
    .bind(room.as_str())
    .bind(sealed)
    .bind(received_at)
    .execute(tx.conn())
    .await?;
    Ok(put.rows_affected())
}

/// An event that waits to be routed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place.
    pub seq: i64,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// Its room.
    pub room: String,
    /// What happened; `None` if the row does not open any more.
    pub event: Option<RoomEvent>,
}

/// The oldest events that wait, at most [`AT_ONCE`], in order. While there is doubt, only those that
/// are settled; those of rooms of which something is missing stay.
///
/// # Errors
/// [`Error`]
pub async fn waiting(tx: &mut Tx, vault: &Sealer) -> Result<Vec<Waiting>, Error> {
    let rows = sqlx::query(
        "SELECT seq, event_id, sealed, received_at, room_id FROM inbox WHERE state = 0
           AND (NOT EXISTS (SELECT 1 FROM reading WHERE doubts > 0)
                OR seq <= (SELECT settled FROM reading))
           AND room_id NOT IN (SELECT room_id FROM gaps)
           AND room_id NOT IN (SELECT room_id FROM inbox WHERE state = 3)
         ORDER BY seq LIMIT 100",
    )
    .fetch_all(tx.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let (event_id, sealed): (String, Option<Vec<u8>>) = (row.try_get(1)?, row.try_get(2)?);
            let event = sealed
                .and_then(|sealed| vault.open_json("inbox", event_id.as_bytes(), &sealed).ok());
            Ok(Waiting {
                seq: row.try_get(0)?,
                received_at: time(row.try_get(3)?),
                room: row.try_get(4)?,
                event,
            })
        })
        .collect()
}

/// What becomes of rows that were looked at, at most [`AT_ONCE`], by their places.
#[derive(Debug, Default)]
pub struct Looked {
    /// They were routed, and are emptied.
    pub routed: Vec<i64>,
    /// Their room may be one that is being made just now: put aside.
    pub early: Vec<i64>,
    /// They do not open: put aside, and their room waits until they were fetched again.
    pub damaged: Vec<i64>,
}

/// Writes down what became of rows.
///
/// # Errors
/// [`Error`]
pub async fn looked(tx: &mut Tx, Looked { routed, early, damaged }: Looked) -> Result<(), Error> {
    let mut script = Script::default();
    if !routed.is_empty() {
        script.add_list("UPDATE inbox SET state = 1, sealed = NULL WHERE seq IN (", routed);
    }
    if !early.is_empty() {
        script.add_list("UPDATE inbox SET state = 2 WHERE seq IN (", early);
    }
    if !damaged.is_empty() {
        tx.wake(reading::TOPIC);
        script.add_list("UPDATE inbox SET state = 3 WHERE seq IN (", damaged);
    }
    script.run(tx.conn()).await?;
    Ok(())
}

/// A row that did not open holds its event again.
///
/// # Errors
/// [`Error`]
pub async fn mended(tx: &mut Tx, vault: &Sealer, seq: i64, event: &RoomEvent) -> Result<(), Error> {
    let sealed = vault.seal_json("inbox", event.event_id.as_bytes(), event)?;
    sqlx::query("UPDATE inbox SET state = 0, sealed = $2 WHERE seq = $1 AND state = 3")
        .bind(seq)
        .bind(sealed)
        .execute(tx.conn())
        .await?;
    tx.wake(TOPIC);
    Ok(())
}

/// The last event of a room that was routed.
///
/// # Errors
/// [`Error`]
pub async fn last_routed(read: &mut Read, room: &RoomId) -> Result<Option<OwnedEventId>, Error> {
    let event: Option<String> = sqlx::query_scalar(
        "SELECT event_id FROM inbox WHERE room_id = $1 AND state = 1 ORDER BY seq DESC LIMIT 1",
    )
    .bind(room.as_str())
    .fetch_optional(read.conn())
    .await?;
    event.map(EventId::parse).transpose().map_err(|_| Error::Row("inbox.event_id"))
}

/// The last event that was routed of a portal's room that the bot is in and heard all the time, and its
/// room: of others the homeserver may hand over what it does not show.
///
/// # Errors
/// [`Error`]
pub async fn last_heard(read: &mut Read) -> Result<Option<(OwnedRoomId, OwnedEventId)>, Error> {
    let last: Option<(String, String)> = sqlx::query_as(
        "SELECT i.room_id, i.event_id FROM inbox i JOIN portals p ON p.room_id = i.room_id
         WHERE i.state = 1 AND p.lost IS NULL AND p.hears_from IS NULL
         ORDER BY i.seq DESC LIMIT 1",
    )
    .fetch_optional(read.conn())
    .await?;
    let Some((room, event)) = last else { return Ok(None) };
    let room = RoomId::parse(room).map_err(|_| Error::Row("inbox.room_id"))?;
    let event = EventId::parse(event).map_err(|_| Error::Row("inbox.event_id"))?;
    Ok(Some((room, event)))
}

/// The room stands now: what came from it before is routed before what comes next.
///
/// # Errors
/// [`Error`]
pub async fn room_is_made(tx: &mut Tx, room: &RoomId) -> Result<(), Error> {
    let found = sqlx::query("UPDATE inbox SET state = 0 WHERE state = 2 AND room_id = $1")
        .bind(room.as_str())
        .execute(tx.conn())
        .await?;
    if found.rows_affected() > 0 {
        tx.wake(TOPIC);
    }
    Ok(())
}

/// Has what was put aside for rooms that might have become portals routed after all, once no room is
/// being made.
///
/// # Errors
/// [`Error`]
pub async fn route_early(tx: &mut Tx) -> Result<(), Error> {
    let done = sqlx::query(
        "UPDATE inbox SET state = 0 WHERE state = 2
         AND NOT EXISTS (SELECT 1 FROM portals WHERE state = 'making' AND lost IS NULL)",
    )
    .execute(tx.conn())
    .await?;
    if done.rows_affected() > 0 {
        tx.wake(TOPIC);
    }
    Ok(())
}

/// Which of these events have a link, so that they are our own or known.
///
/// # Errors
/// [`Error`]
pub async fn linked(
    tx: &mut Tx,
    events: impl Iterator<Item = &OwnedEventId>,
) -> Result<BTreeSet<String>, Error> {
    let events: Vec<String> = events.map(ToString::to_string).collect();
    let mut script = Script::default();
    if !events.is_empty() {
        script.add_list("SELECT event_id FROM links WHERE event_id IN (", events);
    }
    let found = script.run(tx.conn()).await?;
    Ok(found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

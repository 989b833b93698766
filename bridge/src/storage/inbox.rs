//! What was accepted from the homeserver: one row per event, unique by event id, for good.
//!
//! Transaction ids are no key: Synapse starts them again after a crash (`docs/how-it-works.md`).

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::ids::Timestamp;
use causeway_store::{Conn, Read, Row, Rows, Script, Tx};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};
use serde_json::value::RawValue;
use sqlx::Row as _;

use super::{Error, at, lanes, reading, sealed::Sealer, time};
use crate::domain::{RoomEvent, unread::unread};

/// Woken when there are events to route.
pub const TOPIC: &str = super::TO_ROUTE;

/// Events that are routed in one transaction.
pub const AT_ONCE: usize = 100;

/// Events of one transaction that may be routed with it: so many rows a script puts down in its own
/// errand.
pub const FEW: usize = 7;

/// The state of a row that waits to be routed.
pub const WAITS: i64 = 0;
/// The state of a row whose room may be one that is being made.
pub const EARLY: i64 = 2;

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

/// What of a transaction is to be kept.
#[derive(Default)]
pub struct Intake<'a> {
    /// Puts its events into the inbox, and returns a row for each that is new.
    pub script: Script,
    /// What is to be woken.
    pub topics: Vec<String>,
    /// How many events it puts down.
    pub count: u64,
    /// What cannot be parsed, and why.
    pub unread: Vec<(String, &'a RawValue)>,
}

impl Intake<'_> {
    /// What became of its events, by what its script returned.
    pub fn accepted(&self, rows: &Rows) -> Accepted {
        let new = rows.len() as u64;
        let quarantined = self.unread.len() as u64;
        Accepted { new, repeated: self.count - new, quarantined }
    }
}

/// Takes in the events of one transaction; what cannot be parsed is for the quarantine.
///
/// That the homeserver calls at all means it is back: lanes that wait for it may go on.
///
/// # Errors
/// [`Error`]: nothing may be answered with 200.
pub fn accept<'a>(
    vault: &Sealer,
    now: Timestamp,
    is_doubted: bool,
    events: &'a [Box<RawValue>],
) -> Result<Intake<'a>, Error> {
    let mut intake = Intake { topics: vec![lanes::HURRY.to_owned()], ..Intake::default() };
    if is_doubted {
        reading::doubt(&mut intake.script);
        intake.topics.push(reading::TOPIC.to_owned());
    }
    let mut rows = Vec::with_capacity(events.len());
    for raw in events {
        match serde_json::from_str::<RoomEvent>(raw.get()) {
            Ok(event) => {
                let sealed = vault.seal_json("inbox", event.event_id.as_bytes(), &event)?;
                rows.push((event.event_id, event.room_id, sealed));
            }
            Err(error) => {
                intake.unread.push((format!("not an event: {}", unread(&error)), raw));
            }
        }
    }
    if !rows.is_empty() {
        intake.topics.push(TOPIC.to_owned());
    }
    intake.count = rows.len() as u64;
    intake.script.insert(
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
    Ok(intake)
}

/// Puts down events, at most [`FEW`], as if they were routed already, empty: whoever does so routes them
/// in the same transaction, or puts them [back](put_back). Returns the new ones, for [`read_places`].
pub fn put_routed(script: &mut Script, now: Timestamp, events: &[RoomEvent]) {
    script.insert(
        "INSERT INTO inbox (event_id, room_id, state, received_at) ",
        events,
        " ON CONFLICT (event_id) DO NOTHING RETURNING event_id, seq",
        |row, event| {
            row.bind(event.event_id.as_str()).bind(event.room_id.as_str()).bind(1).bind(at(now));
        },
    );
}

/// Reads what [`put_routed`] returned: the place of each event that is new.
///
/// # Errors
/// [`Error`]
pub fn read_places(rows: &[Row]) -> Result<BTreeMap<String, i64>, Error> {
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Asks for a row if something may have to be routed before what comes now: there is doubt, a gap, or
/// something that waits.
pub fn select_unlevel(script: &mut Script) {
    script.add(
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM reading WHERE doubts > 0)
            OR EXISTS (SELECT 1 FROM gaps)
            OR EXISTS (SELECT 1 FROM inbox WHERE state = 0)
            OR EXISTS (SELECT 1 FROM inbox WHERE state = 3)",
    );
}

/// Has rows that were put down as routed hold their events, and be of this state.
///
/// # Errors
/// [`Error`]
pub fn put_back<'a>(
    script: &mut Script,
    vault: &Sealer,
    state: i64,
    rows: impl Iterator<Item = &'a Waiting>,
) -> Result<(), Error> {
    for Waiting { seq, event, .. } in rows {
        let Some(event) = event else { continue };
        let sealed = vault.seal_json("inbox", event.event_id.as_bytes(), event)?;
        let query = script.add("UPDATE inbox SET state = $2, sealed = $3 WHERE seq = $1");
        query.bind(*seq).bind(state).bind(sealed);
    }
    Ok(())
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

/// Asks for the oldest events that wait, at most [`AT_ONCE`], in order. While there is doubt, only those
/// that are settled; those of rooms of which something is missing stay.
pub fn select_waiting(script: &mut Script) {
    script.add(
        "SELECT seq, event_id, sealed, received_at, room_id FROM inbox WHERE state = 0
           AND (NOT EXISTS (SELECT 1 FROM reading WHERE doubts > 0)
                OR seq <= (SELECT settled FROM reading))
           AND room_id NOT IN (SELECT room_id FROM gaps)
           AND room_id NOT IN (SELECT room_id FROM inbox WHERE state = 3)
         ORDER BY seq LIMIT 100",
    );
}

/// Reads what [`select_waiting`] asked for.
///
/// # Errors
/// [`Error`]
pub fn read_waiting(vault: &Sealer, rows: &[Row]) -> Result<Vec<Waiting>, Error> {
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

/// Writes down what became of rows, at the end of the transaction.
pub fn looked(tx: &mut Tx, Looked { routed, early, damaged }: Looked) {
    if !damaged.is_empty() {
        tx.wake(reading::TOPIC);
    }
    let script = tx.later();
    if !routed.is_empty() {
        script.add_list("UPDATE inbox SET state = 1, sealed = NULL WHERE seq IN (", routed);
    }
    if !early.is_empty() {
        script.add_list("UPDATE inbox SET state = 2 WHERE seq IN (", early);
    }
    if !damaged.is_empty() {
        script.add_list("UPDATE inbox SET state = 3 WHERE seq IN (", damaged);
    }
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

/// Asks which of these events have a link, so that they are our own or known.
pub fn select_linked<'a>(script: &mut Script, events: impl Iterator<Item = &'a OwnedEventId>) {
    let events: Vec<String> = events.map(ToString::to_string).collect();
    if !events.is_empty() {
        script.add_list("SELECT event_id FROM links WHERE event_id IN (", events);
    }
}

/// Reads what [`select_linked`] asked for.
///
/// # Errors
/// [`Error`]
pub fn read_linked(rows: &[Row]) -> Result<BTreeSet<String>, Error> {
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

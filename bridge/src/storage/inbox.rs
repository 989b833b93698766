//! What was accepted from the homeserver: one row per event, unique by event id, for good.
//!
//! Transaction ids are no key: Synapse starts them again after a crash (`docs/how-it-works.md`).

use std::collections::BTreeSet;

use causeway_protocol::ids::Timestamp;
use causeway_store::Tx;
use ruma::{OwnedEventId, RoomId};
use serde_json::value::RawValue;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::{Error, at, lanes, quarantine, sealed::Sealer};
use crate::domain::RoomEvent;

/// Woken when there are events to route.
pub const TOPIC: &str = "inbox";

/// Rows in one statement.
const AT_ONCE: usize = 500;

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
/// That the homeserver calls at all means it is back: lanes that wait for it may go on.
///
/// # Errors
/// [`Error`]: nothing may be answered with 200.
pub async fn accept(
    tx: &mut Tx,
    sealer: &Sealer,
    now: Timestamp,
    events: &[Box<RawValue>],
) -> Result<Accepted, Error> {
    let mut accepted = Accepted::default();
    let mut rows = Vec::with_capacity(events.len());
    for raw in events {
        match serde_json::from_str::<RoomEvent>(raw.get()) {
            Ok(event) => {
                let sealed = sealer.seal_json("inbox", event.event_id.as_bytes(), &event)?;
                rows.push((event.event_id, event.room_id, sealed));
            }
            Err(error) => {
                let reason = format!("not an event: {error}");
                quarantine::put(tx, sealer, now, None, &reason, raw.get().as_bytes()).await?;
                accepted.quarantined += 1;
            }
        }
    }
    for rows in rows.chunks(AT_ONCE) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO inbox (event_id, room_id, sealed, received_at) ",
        );
        insert.push_values(rows, |mut row, (event_id, room_id, sealed)| {
            row.push_bind(event_id.as_str())
                .push_bind(room_id.as_str())
                .push_bind(sealed.as_slice())
                .push_bind(at(now));
        });
        insert.push(" ON CONFLICT (event_id) DO NOTHING");
        let new = insert.build().execute(tx.conn()).await?.rows_affected();
        accepted.new += new;
        accepted.repeated += rows.len() as u64 - new;
    }
    if accepted.new > 0 {
        tx.wake(TOPIC);
    }
    lanes::hurry(tx).await?;
    Ok(accepted)
}

/// An event that waits to be routed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place.
    pub seq: i64,
    /// What happened; `None` if the row does not open any more.
    pub event: Option<RoomEvent>,
}

/// The oldest events that wait, at most `limit`, in order; those of suspect rooms stay.
///
/// # Errors
/// [`Error`]
pub async fn waiting(tx: &mut Tx, sealer: &Sealer, limit: u32) -> Result<Vec<Waiting>, Error> {
    let rows = sqlx::query(
        "SELECT seq, event_id, sealed FROM inbox WHERE state = 0
         AND room_id NOT IN (SELECT room_id FROM portals WHERE suspect = 1 AND room_id IS NOT NULL)
         ORDER BY seq LIMIT $1",
    )
    .bind(limit)
    .fetch_all(tx.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let (event_id, sealed): (String, Option<Vec<u8>>) = (row.try_get(1)?, row.try_get(2)?);
            let event = sealed
                .and_then(|sealed| sealer.open_json("inbox", event_id.as_bytes(), &sealed).ok());
            Ok(Waiting { seq: row.try_get(0)?, event })
        })
        .collect()
}

/// Marks rows as routed, and empties them.
///
/// # Errors
/// [`Error`]
pub async fn routed(tx: &mut Tx, rows: &[i64]) -> Result<(), Error> {
    set(tx, "UPDATE inbox SET state = 1, sealed = NULL WHERE seq IN (", rows).await
}

/// Puts rows aside whose room may be one that is being made just now.
///
/// # Errors
/// [`Error`]
pub async fn early(tx: &mut Tx, rows: &[i64]) -> Result<(), Error> {
    set(tx, "UPDATE inbox SET state = 2 WHERE seq IN (", rows).await
}

async fn set(tx: &mut Tx, statement: &str, rows: &[i64]) -> Result<(), Error> {
    for rows in rows.chunks(AT_ONCE) {
        let mut update = QueryBuilder::<Sqlite>::new(statement);
        let mut list = update.separated(", ");
        for seq in rows {
            list.push_bind(*seq);
        }
        update.push(")");
        update.build().execute(tx.conn()).await?;
    }
    Ok(())
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

/// Empties what was put aside for rooms that turned out to be nobody's, once no room is being made.
///
/// # Errors
/// [`Error`]
pub async fn forget_early(tx: &mut Tx) -> Result<(), Error> {
    sqlx::query(
        "UPDATE inbox SET state = 1, sealed = NULL WHERE state = 2
         AND NOT EXISTS (SELECT 1 FROM portals WHERE state = 'making')",
    )
    .execute(tx.conn())
    .await?;
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
    let mut query = QueryBuilder::<Sqlite>::new("SELECT event_id FROM links WHERE event_id IN (");
    let mut list = query.separated(", ");
    for event in events {
        list.push_bind(event.as_str());
    }
    query.push(")");
    let found = query.build_query_scalar::<String>().fetch_all(tx.conn()).await?;
    Ok(found.into_iter().collect())
}

//! What was accepted from the homeserver: one row per event, unique by event id, for good.
//!
//! Transaction ids are no key: Synapse starts them again after a crash (`docs/how-it-works.md`).

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::ids::Timestamp;
use causeway_store::{Engine, Tx};
use ruma::{OwnedEventId, RoomId};
use serde_json::value::RawValue;
use sqlx::{QueryBuilder, Row as _};

use super::{Error, at, lanes, portals, quarantine, sealed::Sealer, time};
use crate::domain::{RoomEvent, suspicion::is_gap};

/// Woken when there are events to route.
pub const TOPIC: &str = "inbox";

/// Events that are routed in one transaction.
pub const AT_ONCE: usize = 100;
/// Rows in one statement.
const ROWS: usize = 500;

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
/// `txn` is the homeserver's number of the transaction: one that does not follow the last shows that
/// something may be missing. That the homeserver calls at all means it is back: lanes that wait for
/// it may go on.
///
/// # Errors
/// [`Error`]: nothing may be answered with 200.
pub async fn accept(
    tx: &mut Tx,
    vault: &Sealer,
    now: Timestamp,
    txn: &str,
    events: &[Box<RawValue>],
) -> Result<Accepted, Error> {
    let mut accepted = Accepted::default();
    if is_gap(last_before(tx, txn).await?.as_deref(), txn) {
        portals::suspect_all(tx).await?;
    }
    let mut rows = Vec::with_capacity(events.len());
    for raw in events {
        match serde_json::from_str::<RoomEvent>(raw.get()) {
            Ok(event) => {
                let sealed = vault.seal_json("inbox", event.event_id.as_bytes(), &event)?;
                rows.push((event.event_id, event.room_id, sealed));
            }
            Err(error) => {
                let reason = format!("not an event: {error}");
                quarantine::put(tx, vault, now, None, &reason, raw.get().as_bytes()).await?;
                accepted.quarantined += 1;
            }
        }
    }
    for rows in rows.chunks(ROWS) {
        let mut insert = QueryBuilder::<Engine>::new(
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

/// The homeserver's number of the last transaction; it is `txn` from now on.
async fn last_before(tx: &mut Tx, txn: &str) -> Result<Option<String>, Error> {
    let last: Option<String> =
        sqlx::query_scalar("SELECT value FROM cursors WHERE name = 'transaction'")
            .fetch_optional(tx.conn())
            .await?;
    if last.as_deref() != Some(txn) {
        sqlx::query(
            "INSERT INTO cursors (name, value) VALUES ('transaction', $1)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(txn)
        .execute(tx.conn())
        .await?;
    }
    Ok(last)
}

/// Puts the events of a room that wait into the order in which `found` has them, with those between
/// that never came; what came after `found` was read stays behind.
///
/// # Errors
/// [`Error`]
pub async fn put_right(
    tx: &mut Tx,
    vault: &Sealer,
    now: Timestamp,
    room: &RoomId,
    found: &[RoomEvent],
) -> Result<u64, Error> {
    let waiting = sqlx::query(
        "DELETE FROM inbox WHERE room_id = $1 AND state = 0
         RETURNING seq, event_id, sealed, received_at",
    )
    .bind(room.as_str())
    .fetch_all(tx.conn())
    .await?;
    let mut held = BTreeMap::new();
    for row in waiting {
        let (seq, event_id): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        held.insert(event_id, (seq, row.try_get::<Option<Vec<u8>>, _>(2)?, row.try_get(3)?));
    }
    let mut missed = 0;
    for event in found {
        let id = event.event_id.as_str();
        if let Some((_, sealed, received_at)) = held.remove(id) {
            put_back(tx, room, id, sealed, received_at).await?;
        } else {
            let sealed = vault.seal_json("inbox", id.as_bytes(), event)?;
            missed += put_back(tx, room, id, Some(sealed), at(now)).await?;
        }
    }
    let mut rest: Vec<_> = held.into_iter().collect();
    rest.sort_by_key(|(_, (seq, ..))| *seq);
    for (id, (_, sealed, received_at)) in rest {
        put_back(tx, room, &id, sealed, received_at).await?;
    }
    tx.wake(TOPIC);
    Ok(missed)
}

async fn put_back(
    tx: &mut Tx,
    room: &RoomId,
    event_id: &str,
    sealed: Option<Vec<u8>>,
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
    /// What happened; `None` if the row does not open any more.
    pub event: Option<RoomEvent>,
}

/// The oldest events that wait, at most [`AT_ONCE`], in order; those of suspect rooms stay.
///
/// # Errors
/// [`Error`]
pub async fn waiting(tx: &mut Tx, vault: &Sealer) -> Result<Vec<Waiting>, Error> {
    let rows = sqlx::query(
        "SELECT seq, event_id, sealed, received_at FROM inbox WHERE state = 0
         AND room_id NOT IN (SELECT room_id FROM portals WHERE suspect > 0 AND room_id IS NOT NULL)
         ORDER BY seq LIMIT 100",
    )
    .fetch_all(tx.conn())
    .await?;
    rows.iter()
        .map(|row| {
            let (event_id, sealed): (String, Option<Vec<u8>>) = (row.try_get(1)?, row.try_get(2)?);
            let event = sealed
                .and_then(|sealed| vault.open_json("inbox", event_id.as_bytes(), &sealed).ok());
            Ok(Waiting { seq: row.try_get(0)?, received_at: time(row.try_get(3)?), event })
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
    for rows in rows.chunks(ROWS) {
        let mut update = QueryBuilder::<Engine>::new(statement);
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
    let mut query = QueryBuilder::<Engine>::new("SELECT event_id FROM links WHERE event_id IN (");
    let mut list = query.separated(", ");
    for event in events {
        list.push_bind(event.as_str());
    }
    query.push(")");
    let found = query.build_query_scalar::<String>().fetch_all(tx.conn()).await?;
    Ok(found.into_iter().collect())
}

//! Lanes: rows of one lane leave the outbox first in, first out, and one worker has it at a time.
//!
//! Who has which is kept in memory (`services::deliver::leases`), because the process holds the
//! file's lock for its life. Here stands which lanes have rows, and which of them have to wait.

use causeway_protocol::ids::Timestamp;
use causeway_store::{Engine, Read, Tx};
use sqlx::{QueryBuilder, Row as _};

use super::{Error, at, time};
use crate::domain::lane::Lane;

/// Woken when a lane has something to do.
pub const TOPIC: &str = "lanes";

/// A lane that has rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Which.
    pub lane: Lane,
    /// Failures since something last went well.
    pub failures: u32,
    /// Until when it has to wait.
    pub not_before: Timestamp,
}

/// Lets go of the waits of the process before this one.
///
/// # Errors
/// [`Error`]
pub async fn void_waits(tx: &mut Tx) -> Result<(), Error> {
    sqlx::query("UPDATE lanes SET not_before = 0, unreachable = FALSE").execute(tx.conn()).await?;
    Ok(())
}

/// Says that these lanes have rows.
///
/// # Errors
/// [`Error`]
pub async fn ready(tx: &mut Tx, lanes: impl Iterator<Item = Lane>) -> Result<(), Error> {
    let mut upsert = QueryBuilder::<Engine>::new("INSERT INTO lanes (lane, ready) ");
    upsert.push_values(lanes, |mut row, lane| {
        row.push_bind(lane.to_string()).push_bind(true);
    });
    upsert.push(" ON CONFLICT (lane) DO UPDATE SET ready = TRUE");
    upsert.build().execute(tx.conn()).await?;
    tx.wake(TOPIC);
    Ok(())
}

/// Lanes that have rows, in the order in which they may go on, at most 64: more than are served at
/// once, so that one of them is free if any is.
///
/// # Errors
/// [`Error`]
pub async fn in_turn(read: &mut Read) -> Result<Vec<Ready>, Error> {
    let rows = sqlx::query(
        "SELECT lane, failures, not_before FROM lanes
         WHERE ready = TRUE AND paused IS NULL ORDER BY not_before LIMIT 64",
    )
    .fetch_all(read.conn())
    .await?;
    rows.into_iter()
        .map(|row| {
            let lane: String = row.try_get(0)?;
            let lane = lane.parse().map_err(|_| Error::Row("lanes.lane"))?;
            Ok(Ready { lane, failures: row.try_get(1)?, not_before: time(row.try_get(2)?) })
        })
        .collect()
}

impl Ready {
    /// The same after one of its rows was done with: waits begin anew.
    #[must_use]
    pub fn went_on(self) -> Self {
        Self { failures: 0, ..self }
    }
}

/// Gives a lane back that did well; it stays ready if it has rows.
///
/// # Errors
/// [`Error`]
pub async fn release(tx: &mut Tx, now: Timestamp, lane: Lane) -> Result<(), Error> {
    let has_rows: bool = sqlx::query_scalar(
        "UPDATE lanes SET failures = 0, unreachable = FALSE, not_before = $2,
             ready = EXISTS (SELECT 1 FROM portal_outbox WHERE portal_outbox.lane = lanes.lane)
         WHERE lane = $1 RETURNING ready",
    )
    .bind(lane.to_string())
    .bind(at(now))
    .fetch_one(tx.conn())
    .await?;
    if has_rows {
        tx.wake(TOPIC);
    }
    Ok(())
}

/// Gives a lane back whose first row has to wait; `unreachable` if only for the other side. It has
/// failed once more than `ready` says, which knows nothing of failures before the last success.
///
/// # Errors
/// [`Error`]
pub async fn postpone(
    tx: &mut Tx,
    until: Timestamp,
    ready: Ready,
    unreachable: bool,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE lanes SET failures = $4, not_before = $2, unreachable = $3
         WHERE lane = $1",
    )
    .bind(ready.lane.to_string())
    .bind(at(until))
    .bind(unreachable)
    .bind(i64::from(ready.failures.saturating_add(1)))
    .execute(tx.conn())
    .await?;
    tx.wake(TOPIC);
    Ok(())
}

/// The homeserver shows that it is there: nobody needs to wait for it any longer.
///
/// # Errors
/// [`Error`]
pub async fn hurry(tx: &mut Tx) -> Result<(), Error> {
    let found = sqlx::query(
        "UPDATE lanes SET not_before = 0, unreachable = FALSE WHERE unreachable = TRUE",
    )
    .execute(tx.conn())
    .await?;
    if found.rows_affected() > 0 {
        tx.wake(TOPIC);
    }
    Ok(())
}

/// Stops a lane until somebody acts.
///
/// # Errors
/// [`Error`]
pub async fn pause(tx: &mut Tx, lane: Lane, reason: &str) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO lanes (lane, paused) VALUES ($1, $2)
         ON CONFLICT (lane) DO UPDATE SET paused = excluded.paused",
    )
    .bind(lane.to_string())
    .bind(reason)
    .execute(tx.conn())
    .await?;
    Ok(())
}

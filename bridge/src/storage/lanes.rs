//! Lanes: rows of one lane leave the outbox first in, first out, and one worker has it at a time.
//!
//! Who has which is kept in memory (`services::deliver::leases`), because the process holds the
//! file's lock for its life. Here stands which lanes have rows, and which of them have to wait.

use std::{fmt, str::FromStr};

use causeway_protocol::ids::Timestamp;
use causeway_store::{Engine, Read, Tx};
use sqlx::{QueryBuilder, Row as _};

use super::{Error, at, time};
use crate::domain::portal::PortalId;

/// Woken when a lane has something to do.
pub const TOPIC: &str = "lanes";

/// Whose order is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// What goes into the portal's room.
    ToMatrix(PortalId),
    /// What goes into the portal's group.
    ToNative(PortalId),
    /// What the bot does about the room even while the portal is paused.
    Bot(PortalId),
}

impl Lane {
    /// The portal that it belongs to.
    pub fn portal(self) -> PortalId {
        match self {
            Self::ToMatrix(portal) | Self::ToNative(portal) | Self::Bot(portal) => portal,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToMatrix(PortalId(id)) => write!(f, "portal/{id}/to_matrix"),
            Self::ToNative(PortalId(id)) => write!(f, "portal/{id}/to_native"),
            Self::Bot(PortalId(id)) => write!(f, "bot/{id}"),
        }
    }
}

impl FromStr for Lane {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('/').collect();
        let lane = match parts.as_slice() {
            ["portal", id, "to_matrix"] => id.parse().map(|id| Self::ToMatrix(PortalId(id))),
            ["portal", id, "to_native"] => id.parse().map(|id| Self::ToNative(PortalId(id))),
            ["bot", id] => id.parse().map(|id| Self::Bot(PortalId(id))),
            _ => return Err(Error::Row("lanes.lane")),
        };
        lane.map_err(|_| Error::Row("lanes.lane"))
    }
}

/// A lane that has rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Which.
    pub lane: Lane,
    /// Failures in a row.
    pub failures: u32,
    /// Until when it has to wait.
    pub not_before: Timestamp,
}

/// Lets go of the waits of the process before this one.
///
/// # Errors
/// [`Error`]
pub async fn void_waits(tx: &mut Tx) -> Result<(), Error> {
    sqlx::query("UPDATE lanes SET not_before = 0, unreachable = 0").execute(tx.conn()).await?;
    Ok(())
}

/// Says that these lanes have rows.
///
/// # Errors
/// [`Error`]
pub async fn ready(tx: &mut Tx, lanes: impl Iterator<Item = Lane>) -> Result<(), Error> {
    let mut upsert = QueryBuilder::<Engine>::new("INSERT INTO lanes (lane, ready) ");
    upsert.push_values(lanes, |mut row, lane| {
        row.push_bind(lane.to_string()).push_bind(1);
    });
    upsert.push(" ON CONFLICT (lane) DO UPDATE SET ready = 1");
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
         WHERE ready = 1 AND paused IS NULL ORDER BY not_before LIMIT 64",
    )
    .fetch_all(read.conn())
    .await?;
    rows.into_iter()
        .map(|row| {
            let lane = row.try_get::<String, _>(0)?.parse()?;
            Ok(Ready { lane, failures: row.try_get(1)?, not_before: time(row.try_get(2)?) })
        })
        .collect()
}

/// Gives a lane back that did well; it stays ready if it has rows.
///
/// # Errors
/// [`Error`]
pub async fn release(tx: &mut Tx, now: Timestamp, lane: Lane) -> Result<(), Error> {
    let has_rows: bool = sqlx::query_scalar(
        "UPDATE lanes SET failures = 0, unreachable = 0, not_before = $2,
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

/// Gives a lane back whose first row has to wait; `unreachable` if only for the other side.
///
/// # Errors
/// [`Error`]
pub async fn postpone(
    tx: &mut Tx,
    until: Timestamp,
    lane: Lane,
    unreachable: bool,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE lanes SET failures = failures + 1, not_before = $2, unreachable = $3
         WHERE lane = $1",
    )
    .bind(lane.to_string())
    .bind(at(until))
    .bind(unreachable)
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
    let found =
        sqlx::query("UPDATE lanes SET not_before = 0, unreachable = 0 WHERE unreachable = 1")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_named_both_ways() {
        for lane in
            [Lane::ToMatrix(PortalId(12)), Lane::ToNative(PortalId(3)), Lane::Bot(PortalId(1))]
        {
            assert_eq!(lane.to_string().parse::<Lane>().unwrap(), lane);
        }
        assert!("portal/x/to_matrix".parse::<Lane>().is_err());
    }
}

//! Lanes: rows of one lane leave the outbox first in, first out, and one worker has it at a time.
//!
//! Who has which, and which of them wait and until when, is kept in memory
//! (`services::deliver::leases`), because the process holds the file's lock for its life. Here stands
//! which lanes have rows, and whose turn it is.

use std::collections::BTreeSet;

use causeway_protocol::ids::Timestamp;
use causeway_store::{Conn, Read, Script, Tx};

use super::{Error, at};
use crate::domain::{lane::Lane, portal::PortalId};

/// Woken when a lane has something to do.
pub const TOPIC: &str = "lanes";
/// Woken when the other side shows that it is there.
pub const HURRY: &str = "lanes hurry";
/// Woken when the homeserver answers that did not before.
pub const BACK: &str = "homeserver back";

/// Lets go of the turns and waits of the process before this one.
///
/// # Errors
/// [`Error`]
pub async fn void_waits(tx: &mut Tx) -> Result<(), Error> {
    sqlx::query("UPDATE lanes SET turn = 0, not_before = 0, failures = 0")
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Says that these lanes have rows.
pub fn ready(tx: &mut Tx, script: &mut Script, lanes: impl Iterator<Item = Lane>) {
    let lanes: Vec<String> = lanes.map(|lane| lane.to_string()).collect();
    script.insert(
        "INSERT INTO lanes (lane, ready) ",
        &lanes,
        " ON CONFLICT (lane) DO UPDATE SET ready = TRUE",
        |row, lane| _ = row.bind(lane).bind(true),
    );
    tx.wake(TOPIC);
}

/// Whoever carries out what one lane was said to have knows of it already.
pub fn is_seen_to(tx: &mut Tx) {
    tx.hush(TOPIC);
}

/// What stands aside in some portals, as it was looked at in a transaction.
#[derive(Debug, Default)]
pub struct Asides {
    /// Which portals.
    pub of: BTreeSet<PortalId>,
    /// Lanes that have something in them.
    pub lanes: BTreeSet<Lane>,
}

/// As many lanes as [`in_turn`] finds at most: more than are served at once, so that one of them is
/// free if any is.
pub const AT_ONCE: usize = 1_024;

/// Lanes that have rows and do not wait, in turn; where they are [`AT_ONCE`], there may be more.
///
/// # Errors
/// [`Error`]
pub async fn in_turn(read: &mut Read) -> Result<Vec<Lane>, Error> {
    let lanes: Vec<String> = sqlx::query_scalar(
        "SELECT lane FROM lanes
         WHERE ready = TRUE AND paused IS NULL AND turn IS NOT NULL ORDER BY turn LIMIT 1024",
    )
    .fetch_all(read.conn())
    .await?;
    lanes.iter().map(|lane| lane.parse().map_err(|_| Error::Row("lanes.lane"))).collect()
}

/// Whether a lane has rows.
///
/// # Errors
/// [`Error`]
pub async fn has_more(conn: &mut Conn, lane: &Lane) -> Result<bool, Error> {
    let ready = sqlx::query("SELECT 1 FROM lanes WHERE lane = $1 AND ready = TRUE")
        .bind(lane.to_string())
        .fetch_optional(conn)
        .await?;
    Ok(ready.is_some())
}

/// Gives a lane back that did well; it stays ready if it has rows. `turn` is higher than that of
/// lanes that were given back before.
pub fn release(script: &mut Script, turn: u64, lane: &Lane) {
    let query = script.add(
        "UPDATE lanes SET failures = 0, not_before = 0, turn = $2,
             ready = EXISTS (SELECT 1 FROM portal_outbox WHERE portal_outbox.lane = lanes.lane)
         WHERE lane = $1",
    );
    query.bind(lane.to_string()).bind(i64::try_from(turn).unwrap_or(i64::MAX));
    if let Lane::Aside(..) | Lane::BotAside(..) = lane {
        script.add("DELETE FROM lanes WHERE lane = $1 AND ready = FALSE").bind(lane.to_string());
    }
}

/// Gives a lane back whose first row has to wait; how often it has failed and until when it waits is
/// for people to read.
///
/// # Errors
/// [`Error`]
pub async fn waits(tx: &mut Tx, lane: &Lane, failures: u32, until: Timestamp) -> Result<(), Error> {
    sqlx::query("UPDATE lanes SET failures = $2, not_before = $3, turn = NULL WHERE lane = $1")
        .bind(lane.to_string())
        .bind(i64::from(failures))
        .bind(at(until))
        .execute(tx.conn())
        .await?;
    tx.wake(TOPIC);
    Ok(())
}

/// The other side shows that it is there: who waits for that alone may go on.
pub fn hurry(tx: &mut Tx) {
    tx.wake(HURRY);
}

/// The homeserver, which was away, is there again.
pub fn back(tx: &mut Tx) {
    tx.wake(BACK);
}

/// A lane may be served that could not be until now.
pub fn look(tx: &mut Tx) {
    tx.wake(TOPIC);
}

/// Why a lane stands still until somebody acts, if it does.
///
/// # Errors
/// [`Error`]
pub async fn why_paused(conn: &mut Conn, lane: &Lane) -> Result<Option<String>, Error> {
    let paused: Option<Option<String>> =
        sqlx::query_scalar("SELECT paused FROM lanes WHERE lane = $1")
            .bind(lane.to_string())
            .fetch_optional(conn)
            .await?;
    Ok(paused.flatten())
}

/// Stops a lane until somebody acts.
///
/// # Errors
/// [`Error`]
pub async fn pause(tx: &mut Tx, lane: &Lane, reason: &str) -> Result<(), Error> {
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

/// A lane that stood still until somebody acted goes on.
///
/// # Errors
/// [`Error`]
pub async fn resume(tx: &mut Tx, lane: &Lane) -> Result<(), Error> {
    let stood =
        sqlx::query("UPDATE lanes SET paused = NULL WHERE lane = $1 AND paused IS NOT NULL")
            .bind(lane.to_string())
            .execute(tx.conn())
            .await?;
    if stood.rows_affected() > 0 {
        tx.wake(TOPIC);
    }
    Ok(())
}

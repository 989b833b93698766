//! What each account had of the bridge on a day: a row for whoever asked, for two days.

use causeway_protocol::ids::AccountId;
use causeway_store::{Read, Tx};
use serde::Serialize;
use sqlx::Row as _;

use super::Error;
use crate::domain::share::{Given, Used};

/// What one account had today, as an admin sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ShareState {
    /// Its row.
    pub id: i64,
    /// The account.
    pub account: String,
    /// Rooms that were made for it.
    pub rooms: i64,
    /// People who were invited for it.
    pub invites: i64,
    /// How often it did not get all that it asked for.
    pub refused: i64,
}

/// What `account` had on a day.
///
/// # Errors
/// [`Error`]
pub async fn used(tx: &mut Tx, day: u64, account: &AccountId) -> Result<Used, Error> {
    let row = sqlx::query("SELECT rooms, invites FROM shares WHERE day = $1 AND account = $2")
        .bind(column(day))
        .bind(account.as_str())
        .fetch_optional(tx.conn())
        .await?;
    let Some(row) = row else { return Ok(Used::default()) };
    let count = |column: i64| u32::try_from(column).unwrap_or(u32::MAX);
    Ok(Used { rooms: count(row.try_get(0)?), invites: count(row.try_get(1)?) })
}

/// Counts what was given on a day, and forgets the days before the one before.
///
/// # Errors
/// [`Error`]
pub async fn count(tx: &mut Tx, day: u64, given: &Given) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO shares (day, account, rooms, invites, refused) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (day, account) DO UPDATE SET rooms = shares.rooms + excluded.rooms,
             invites = shares.invites + excluded.invites,
             refused = shares.refused + excluded.refused",
    )
    .bind(column(day))
    .bind(given.to.as_str())
    .bind(i64::from(given.used.rooms))
    .bind(i64::from(given.used.invites))
    .bind(i64::from(given.refused.is_some()))
    .execute(tx.conn())
    .await?;
    sqlx::query("DELETE FROM shares WHERE day < $1")
        .bind(column(day) - 1)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// What accounts had on a day, after the row `after`, at most `limit`.
///
/// # Errors
/// [`Error`]
pub async fn list(
    read: &mut Read,
    day: u64,
    after: i64,
    limit: u32,
) -> Result<Vec<ShareState>, Error> {
    let rows = sqlx::query(
        "SELECT id, account, rooms, invites, refused FROM shares
         WHERE day = $1 AND id > $2 ORDER BY id LIMIT $3",
    )
    .bind(column(day))
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(read.conn())
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ShareState {
                id: row.try_get(0)?,
                account: row.try_get(1)?,
                rooms: row.try_get(2)?,
                invites: row.try_get(3)?,
                refused: row.try_get(4)?,
            })
        })
        .collect()
}

fn column(day: u64) -> i64 {
    i64::try_from(day).unwrap_or(i64::MAX)
}

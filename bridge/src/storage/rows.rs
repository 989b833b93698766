//! The rows of a lane as an admin sees them: whose, what, how old, how often tried; never the text.

use causeway_protocol::ids::Timestamp;
use causeway_store::Read;
use serde::Serialize;
use sqlx::Row as _;

use super::{Error, sealed::Sealer, time};
use crate::domain::stored;

/// One row that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct WaitingRow {
    /// Its place in the lane; another row may have it later.
    pub id: i64,
    /// Names it, and nothing else ever.
    pub name: String,
    /// Who caused it.
    pub author: String,
    /// What is to be done: `say`, `notice`, `announce`, `make`, `invite`, `leave`, `pause`, `close`,
    /// `make_anew`, `follow`; `unreadable` where it does not open.
    pub kind: &'static str,
    /// When what it says was accepted, Unix milliseconds; absent where nobody said anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<Timestamp>,
    /// Answered refusals so far.
    pub refused: u32,
    /// First try whose outcome is not known, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<Timestamp>,
    /// When it ends being of use, Unix milliseconds.
    pub expires_at: Timestamp,
}

/// Rows of `lane` after `after`, in its order, at most `limit`.
///
/// # Errors
/// [`Error`]
pub async fn list(
    read: &mut Read,
    vault: &Sealer,
    lane: &str,
    after: i64,
    limit: u32,
) -> Result<Vec<WaitingRow>, Error> {
    let rows = sqlx::query(
        "SELECT id, txn, author, sealed, attempt, tried_at, expires_at, accepted_at
         FROM portal_outbox WHERE lane = $1 AND id > $2 ORDER BY id LIMIT $3",
    )
    .bind(lane)
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(read.conn())
    .await?;
    rows.into_iter()
        .map(|row| {
            let (txn, sealed): (String, Vec<u8>) = (row.try_get(1)?, row.try_get(3)?);
            let opened = vault.open("portal_outbox", txn.as_bytes(), &sealed).ok();
            let deed = opened.and_then(|bytes| stored::read(&bytes).ok());
            Ok(WaitingRow {
                id: row.try_get(0)?,
                name: txn,
                author: row.try_get(2)?,
                kind: deed.map_or("unreadable", |deed| deed.name()),
                accepted_at: row.try_get::<Option<i64>, _>(7)?.map(time),
                refused: row.try_get(4)?,
                tried_at: row.try_get::<Option<i64>, _>(5)?.map(time),
                expires_at: time(row.try_get(6)?),
            })
        })
        .collect()
}

//! What could not be parsed, or not be read: kept whole and sealed, counted, in nobody's way, and
//! not for ever.

use causeway_protocol::ids::Timestamp;
use causeway_store::{Read, Tx};
use ruma::EventId;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;

use super::{Error, at, sealed::Sealer, time};

/// How much is kept; the oldest go.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows.
    pub rows: i64,
    /// Bytes, sealed.
    pub bytes: i64,
    /// For how long, milliseconds.
    pub ms: u64,
}

/// What the admin API promises.
pub const LIMITS: Limits =
    Limits { rows: 10_000, bytes: 256 * 1024 * 1024, ms: 30 * 24 * 60 * 60 * 1_000 };

/// A row as an admin sees it: never its bytes, which may be what somebody said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Aside {
    /// Names it.
    pub id: i64,
    /// The event, where that much could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Why it was put aside.
    pub reason: String,
    /// Bytes that are kept.
    pub bytes: i64,
    /// When it came, Unix milliseconds.
    pub received_at: Timestamp,
}

/// Puts `bytes` aside; the same bytes twice are one row.
///
/// # Errors
/// [`Error`]
pub async fn put(
    tx: &mut Tx,
    vault: &Sealer,
    now: Timestamp,
    event_id: Option<&EventId>,
    reason: &str,
    bytes: &[u8],
) -> Result<(), Error> {
    let hash = Sha256::digest(bytes).to_vec();
    let sealed = vault.seal("quarantine", &hash, bytes)?;
    sqlx::query(
        "INSERT INTO quarantine (hash, event_id, reason, sealed, received_at)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (hash) DO NOTHING",
    )
    .bind(hash)
    .bind(event_id.map(EventId::as_str))
    .bind(reason)
    .bind(sealed)
    .bind(at(now))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Rows after `after`, oldest first, at most `limit`.
///
/// # Errors
/// [`Error`]
pub async fn list(read: &mut Read, after: i64, limit: u32) -> Result<Vec<Aside>, Error> {
    let rows = sqlx::query(
        "SELECT id, event_id, reason, length(sealed), received_at FROM quarantine
         WHERE id > $1 ORDER BY id LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(read.conn())
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Aside {
                id: row.try_get(0)?,
                event_id: row.try_get(1)?,
                reason: row.try_get(2)?,
                bytes: row.try_get(3)?,
                received_at: time(row.try_get(4)?),
            })
        })
        .collect()
}

/// Forgets a row for good; `false` if there is none.
///
/// # Errors
/// [`Error`]
pub async fn drop(tx: &mut Tx, id: i64) -> Result<bool, Error> {
    let dropped =
        sqlx::query("DELETE FROM quarantine WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(dropped.rows_affected() > 0)
}

/// Forgets what is too old, and the oldest of what is too much; how many rows.
///
/// # Errors
/// [`Error`]
pub async fn prune(tx: &mut Tx, now: Timestamp, limits: Limits) -> Result<u64, Error> {
    let ended = sqlx::query(
        "DELETE FROM quarantine WHERE received_at < $1 OR id IN (
             SELECT id FROM (
                 SELECT id, row_number() OVER (ORDER BY id DESC) AS n,
                        sum(length(sealed)) OVER (ORDER BY id DESC) AS bytes
                 FROM quarantine) AS newest
             WHERE n > $2 OR bytes > $3)",
    )
    .bind(at(now.minus_ms(limits.ms)))
    .bind(limits.rows)
    .bind(limits.bytes)
    .execute(tx.conn())
    .await?;
    Ok(ended.rows_affected())
}

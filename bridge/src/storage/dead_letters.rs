//! What was given up, why, and what a person may do about it: try it again, or drop it.

use causeway_protocol::ids::Timestamp;
use causeway_store::{Conn, Read, Script, Tx};
use serde::Serialize;
use sqlx::Row as _;

use super::{
    Error, at, lanes,
    outbox::{self, Entry, Kept, Stored},
    sealed::Sealer,
    time,
};
use crate::domain::{effect::Deed, lane::Lane, stored};

/// The table, as what it holds is bound to it.
const TABLE: &str = "dead_letters";

/// A dead letter as an admin sees it: never its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct DeadLetter {
    /// Names it.
    pub id: i64,
    /// The lane it was in.
    pub lane: String,
    /// Who caused it.
    pub author: String,
    /// Why it was given up.
    pub reason: String,
    /// Answered refusals before that.
    pub attempts: u32,
    /// When, Unix milliseconds.
    pub died_at: Timestamp,
    /// When it is forgotten, Unix milliseconds: it is kept as long as it was to live.
    pub expires_at: Timestamp,
}

/// How long a letter is kept that nobody's word caused.
const KEPT_MS: u64 = 24 * 60 * 60 * 1_000;

/// Buries a deed: one that was in the outbox, or one that cannot even be tried.
///
/// # Errors
/// [`Error`]
pub async fn put(
    tx: &mut Tx,
    vault: &Sealer,
    now: Timestamp,
    entry: &Entry,
    reason: &str,
    attempts: u32,
    tried_at: Option<Timestamp>,
) -> Result<(), Error> {
    let sealed = outbox::seal(vault, TABLE, entry)?;
    insert(tx, now, entry, &sealed, reason, attempts, tried_at).await
}

/// Buries what cannot be read: its bytes as they are, so that the version that can may try it
/// again, and a person may see that it was there.
///
/// # Errors
/// [`Error`]
pub async fn put_unreadable(
    tx: &mut Tx,
    vault: &Sealer,
    now: Timestamp,
    row: &Stored<Kept>,
) -> Result<(), Error> {
    let Stored { entry, refused, tried_at, .. } = row;
    let Kept { bytes, sealed, why } = &entry.deed;
    let sealed = match bytes {
        Some(bytes) => &vault.seal(TABLE, entry.txn.as_bytes(), bytes)?,
        None => sealed,
    };
    insert(tx, now, entry, sealed, &why.to_string(), *refused, *tried_at).await
}

async fn insert<D>(
    tx: &mut Tx,
    now: Timestamp,
    entry: &Entry<D>,
    sealed: &[u8],
    reason: &str,
    attempts: u32,
    tried_at: Option<Timestamp>,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO dead_letters
             (lane, txn, portal, author, sealed, reason, attempts, tried_at, died_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (txn) DO NOTHING",
    )
    .bind(entry.lane.to_string())
    .bind(entry.txn.as_str())
    .bind(entry.lane.portal().0)
    .bind(entry.author.as_str())
    .bind(sealed)
    .bind(reason)
    .bind(i64::from(attempts))
    .bind(tried_at.map(at))
    .bind(at(now))
    .bind(at(now.plus_ms(life_ms(entry).max(KEPT_MS))))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// How long it was to live from when it was accepted.
fn life_ms<D>(entry: &Entry<D>) -> u64 {
    entry.accepted_at.map_or(0, |accepted| entry.expires_at.0.saturating_sub(accepted.0))
}

/// Whether what is named so was given up, and is kept.
///
/// # Errors
/// [`Error`]
pub async fn is_kept(conn: &mut Conn, txn: &str) -> Result<bool, Error> {
    let one = sqlx::query("SELECT 1 FROM dead_letters WHERE txn = $1").bind(txn);
    Ok(one.fetch_optional(conn).await?.is_some())
}

/// Forgets letters that have been kept as long as they were to live; how many.
///
/// # Errors
/// [`Error`]
pub async fn end(tx: &mut Tx, now: Timestamp) -> Result<u64, Error> {
    let ended = sqlx::query("DELETE FROM dead_letters WHERE expires_at < $1")
        .bind(at(now))
        .execute(tx.conn())
        .await?;
    Ok(ended.rows_affected())
}

/// Dead letters after `after`, oldest first, at most `limit`.
///
/// # Errors
/// [`Error`]
pub async fn list(read: &mut Read, after: i64, limit: u32) -> Result<Vec<DeadLetter>, Error> {
    let rows = sqlx::query(
        "SELECT id, lane, author, reason, attempts, died_at, expires_at FROM dead_letters
         WHERE id > $1 ORDER BY id LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(read.conn())
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(DeadLetter {
                id: row.try_get(0)?,
                lane: row.try_get(1)?,
                author: row.try_get(2)?,
                reason: row.try_get(3)?,
                attempts: row.try_get(4)?,
                died_at: time(row.try_get(5)?),
                expires_at: time(row.try_get(6)?),
            })
        })
        .collect()
}

/// What came of trying a dead letter again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// It is at the end of its lane.
    Yes,
    /// There is none of this number.
    Unknown,
    /// Nothing can be read of it: it can only be dropped.
    Damaged,
}

/// Puts a dead letter back at the end of its lane, until `expires_at`; whoever delivers it looks
/// first whether it arrived after all.
///
/// # Errors
/// [`Error`]
pub async fn replay(
    tx: &mut Tx,
    vault: &Sealer,
    id: i64,
    expires_at: Timestamp,
) -> Result<Replayed, Error> {
    let row = sqlx::query(
        "SELECT lane, txn, portal, author, sealed, tried_at FROM dead_letters WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(tx.conn())
    .await?;
    let Some(row) = row else { return Ok(Replayed::Unknown) };
    let (lane, txn, sealed): (String, String, Vec<u8>) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(4)?);
    // What did not open in the outbox was left as it was.
    let opened = vault
        .open(TABLE, txn.as_bytes(), &sealed)
        .or_else(|_| vault.open("portal_outbox", txn.as_bytes(), &sealed));
    let Ok(bytes) = opened else { return Ok(Replayed::Damaged) };
    let mut lane: Lane = lane.parse().map_err(|_| Error::Row("dead_letters.lane"))?;
    // One of another version has its place among all.
    let deed = stored::read(&bytes).ok();
    let who = deed.as_ref().and_then(Deed::who);
    // What could not be read was left in the lane where it was; that one may have ended since.
    if let Some(deed) = &deed {
        lane = lane.home(deed);
    }
    if let Some(aside) = who.and_then(|who| lane.aside(who))
        && !outbox::aside(tx, std::iter::once(aside.clone())).await?.is_empty()
    {
        lane = aside;
    }
    sqlx::query(
        "INSERT INTO portal_outbox
             (lane, txn, portal, author, sealed, tried_at, expires_at, who, replayed)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, TRUE) ON CONFLICT (txn) DO NOTHING",
    )
    .bind(lane.to_string())
    .bind(txn.as_str())
    .bind(row.try_get::<i64, _>(2)?)
    .bind(row.try_get::<String, _>(3)?)
    .bind(vault.seal("portal_outbox", txn.as_bytes(), &bytes)?)
    .bind(row.try_get::<Option<i64>, _>(5)?)
    .bind(at(expires_at))
    .bind(who)
    .execute(tx.conn())
    .await?;
    drop(tx, id).await?;
    let mut script = Script::default();
    lanes::ready(tx, &mut script, std::iter::once(lane));
    script.run(tx.conn()).await?;
    Ok(Replayed::Yes)
}

/// Forgets a dead letter for good; `false` if there is none.
///
/// # Errors
/// [`Error`]
pub async fn drop(tx: &mut Tx, id: i64) -> Result<bool, Error> {
    let dropped =
        sqlx::query("DELETE FROM dead_letters WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(dropped.rows_affected() > 0)
}

//! What the bridge will do, stored before it is tried, in lanes.

use std::collections::BTreeSet;

use causeway_protocol::ids::Timestamp;
use causeway_store::{Conn, Engine, Tx};
use sqlx::{QueryBuilder, Row as _};
use zeroize::Zeroizing;

use super::{
    Error, at, lanes,
    sealed::{SealError, Sealer},
    time,
};
use crate::domain::{
    effect::Deed,
    lane::Lane,
    stored::{self, Unreadable},
};

/// A deed on its way into the outbox, or out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<D = Deed> {
    /// Whose order it keeps.
    pub lane: Lane,
    /// Transaction id or client id: the same deed has the same.
    pub txn: String,
    /// Who caused it, for people to read.
    pub author: String,
    /// What to do.
    pub deed: D,
    /// When what it says was accepted; `None` where nobody said anything.
    pub accepted_at: Option<Timestamp>,
    /// When it ends being of use.
    pub expires_at: Timestamp,
}

/// A row of the outbox. `D` is what its lane leads to: deeds in the room, or in the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<D> {
    /// Its place.
    pub id: i64,
    /// What it is.
    pub entry: Entry<D>,
    /// Answered refusals so far.
    pub refused: u32,
    /// First try whose outcome is not known.
    pub tried_at: Option<Timestamp>,
    /// It was a dead letter: look for it before sending.
    pub replayed: bool,
}

/// What stands first in a lane.
#[derive(Debug)]
pub enum Head<D> {
    /// Rows that are carried out in one go; none if the lane has none, or is paused.
    Rows(Vec<Stored<D>>),
    /// One that cannot be read any more.
    Unreadable(Stored<Kept>),
}

/// What is left of a deed that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its bytes; `None` where they do not even open.
    pub bytes: Option<Zeroizing<Vec<u8>>>,
    /// What the row holds of it.
    pub sealed: Vec<u8>,
    /// Why.
    pub why: Unreadable,
}

/// Puts deeds into their lanes, and wakes whoever carries them out. One that is there stays.
///
/// # Errors
/// [`Error`]
pub async fn put(tx: &mut Tx, vault: &Sealer, entries: &[Entry]) -> Result<(), Error> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        rows.push((entry, seal(vault, "portal_outbox", entry)?));
    }
    for rows in rows.chunks(500) {
        let mut insert = QueryBuilder::<Engine>::new(
            "INSERT INTO portal_outbox (lane, txn, portal, author, sealed, accepted_at, \
             expires_at) ",
        );
        insert.push_values(rows, |mut row, (entry, sealed)| {
            row.push_bind(entry.lane.to_string())
                .push_bind(entry.txn.as_str())
                .push_bind(entry.lane.portal().0)
                .push_bind(entry.author.as_str())
                .push_bind(sealed.as_slice())
                .push_bind(entry.accepted_at.map(at))
                .push_bind(at(entry.expires_at));
        });
        insert.push(" ON CONFLICT (txn) DO NOTHING");
        insert.build().execute(tx.conn()).await?;
    }
    let touched: BTreeSet<Lane> = entries.iter().map(|entry| entry.lane.clone()).collect();
    lanes::ready(tx, touched.into_iter()).await
}

/// The bytes that `table` holds of an entry's deed.
///
/// # Errors
/// [`SealError`]
pub(super) fn seal(
    vault: &Sealer,
    table: &'static str,
    entry: &Entry,
) -> Result<Vec<u8>, SealError> {
    let bytes = Zeroizing::new(stored::write(&entry.deed).map_err(|_| SealError::Json)?);
    vault.seal(table, entry.txn.as_bytes(), &bytes)
}

/// The first rows of a lane, at most 64.
///
/// # Errors
/// [`Error`]
pub async fn first<D: TryFrom<Deed>>(
    conn: &mut Conn,
    vault: &Sealer,
    lane: &Lane,
) -> Result<Head<D>, Error> {
    let rows = sqlx::query(
        "SELECT id, txn, author, sealed, attempt, tried_at, expires_at, replayed, accepted_at
         FROM portal_outbox
         WHERE lane = $1
           AND NOT EXISTS (SELECT 1 FROM lanes WHERE lanes.lane = $1 AND paused IS NOT NULL)
         ORDER BY id LIMIT 64",
    )
    .bind(lane.to_string())
    .fetch_all(conn)
    .await?;
    let mut stored = Vec::with_capacity(rows.len());
    for row in rows {
        let txn: String = row.try_get(1)?;
        let read = read(vault, &txn, row.try_get(3)?);
        let (deed, kept) = match read {
            Ok(deed) => (Some(deed), None),
            Err(kept) => (None, Some(kept)),
        };
        let row = Stored {
            id: row.try_get(0)?,
            entry: Entry {
                lane: lane.clone(),
                txn,
                author: row.try_get(2)?,
                deed: (),
                accepted_at: row.try_get::<Option<i64>, _>(8)?.map(time),
                expires_at: time(row.try_get(6)?),
            },
            refused: row.try_get(4)?,
            tried_at: row.try_get::<Option<i64>, _>(5)?.map(time),
            replayed: row.try_get(7)?,
        };
        match (deed, kept) {
            (Some(deed), _) => stored.push(row.with(deed)),
            (None, Some(kept)) if stored.is_empty() => {
                return Ok(Head::Unreadable(row.with(kept)));
            }
            // What stands before it goes first.
            (None, _) => break,
        }
    }
    Ok(Head::Rows(stored))
}

fn read<D: TryFrom<Deed>>(vault: &Sealer, txn: &str, sealed: Vec<u8>) -> Result<D, Kept> {
    let Ok(bytes) = vault.open("portal_outbox", txn.as_bytes(), &sealed) else {
        return Err(Kept { bytes: None, sealed, why: Unreadable::Damaged });
    };
    let deed =
        stored::read(&bytes).and_then(|deed| D::try_from(deed).map_err(|_| Unreadable::Damaged));
    deed.map_err(|why| Kept { bytes: Some(bytes), sealed, why })
}

impl<D> Stored<D> {
    /// The same row with another deed.
    pub fn with<E>(self, deed: E) -> Stored<E> {
        let Self { id, entry, refused, tried_at, replayed } = self;
        let Entry { lane, txn, author, accepted_at, expires_at, .. } = entry;
        let entry = Entry { lane, txn, author, deed, accepted_at, expires_at };
        Stored { id, entry, refused, tried_at, replayed }
    }
}

/// Takes the rows of a lane up to and with `last` out: they are done.
///
/// # Errors
/// [`Error`]
pub async fn done(tx: &mut Tx, lane: &Lane, last: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM portal_outbox WHERE lane = $1 AND id <= $2")
        .bind(lane.to_string())
        .bind(last)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Takes one row out, wherever it stands.
///
/// # Errors
/// [`Error`]
pub async fn remove(tx: &mut Tx, id: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM portal_outbox WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(())
}

/// Notes that a row was tried: `counts` if it was answered, else its outcome is unknown since `now`.
///
/// # Errors
/// [`Error`]
pub async fn tried(tx: &mut Tx, now: Timestamp, id: i64, counts: bool) -> Result<(), Error> {
    sqlx::query(
        "UPDATE portal_outbox SET attempt = attempt + $2, tried_at = coalesce(tried_at, $3) WHERE id = $1",
    )
    .bind(id)
    .bind(i64::from(counts))
    .bind(at(now))
    .execute(tx.conn())
    .await?;
    Ok(())
}

//! What the bridge will do, stored before it is tried, in lanes.

use std::collections::BTreeSet;

use causeway_protocol::ids::Timestamp;
use causeway_store::{Conn, Read, Row, Rows, Script, Tx};
use sqlx::Row as _;
use zeroize::Zeroizing;

use super::{
    Error, at, lanes, portals,
    sealed::{SealError, Sealer},
    time,
};
use crate::domain::{
    effect::Deed,
    ghost::Names,
    lane::Lane,
    portal::{Portal, PortalId},
    stored::{self, Unreadable},
};

/// Lanes that one statement asks of.
const LANES: usize = 64;

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
    /// It stands here to be sealed anew, and was taken back since: it does not go.
    pub taken_back: bool,
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

/// Puts deeds into their lanes, at the end of the transaction or before something is read of it, and wakes
/// whoever carries them out. One that is there stays.
///
/// # Errors
/// [`Error`]
pub async fn put(
    tx: &mut Tx,
    vault: &Sealer,
    entries: &[Entry],
    known: &lanes::Asides,
) -> Result<(), Error> {
    if entries.is_empty() {
        return Ok(());
    }
    let may_be = entries.iter().filter_map(aside_of);
    let mut aside = aside(tx, may_be.filter(|lane| !known.of.contains(&lane.portal()))).await?;
    aside.extend(known.lanes.iter().cloned());
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        let lane = aside_of(entry).filter(|lane| aside.contains(lane));
        let lane = lane.unwrap_or_else(|| entry.lane.clone());
        rows.push((lane, entry, seal(vault, "portal_outbox", entry)?));
    }
    let touched: BTreeSet<Lane> = rows.iter().map(|(lane, ..)| lane.clone()).collect();
    let mut script = std::mem::take(tx.later());
    script.insert(
        "INSERT INTO portal_outbox (lane, txn, portal, author, who, sealed, accepted_at, expires_at) ",
        &rows,
        " ON CONFLICT (txn) DO NOTHING",
        |row, (lane, entry, sealed)| {
            row.bind(lane.to_string())
                .bind(entry.txn.as_str())
                .bind(entry.lane.portal().0)
                .bind(entry.author.as_str())
                .bind(entry.deed.who())
                .bind(sealed.as_slice())
                .bind(entry.accepted_at.map(at))
                .bind(at(entry.expires_at));
        },
    );
    lanes::ready(tx, &mut script, touched.into_iter());
    *tx.later() = script;
    Ok(())
}

/// Where what is in `entry` goes if its owner has something aside.
fn aside_of(entry: &Entry) -> Option<Lane> {
    entry.deed.who().and_then(|who| entry.lane.aside(who))
}

/// Those of `lanes` that have something in them.
///
/// # Errors
/// [`Error`]
pub(super) async fn aside(
    tx: &mut Tx,
    lanes: impl Iterator<Item = Lane>,
) -> Result<BTreeSet<Lane>, Error> {
    let lanes: BTreeSet<String> = lanes.map(|lane| lane.to_string()).collect();
    let lanes: Vec<String> = lanes.into_iter().collect();
    let mut found = BTreeSet::new();
    for lanes in lanes.chunks(LANES) {
        let mut script = Script::default();
        script.add_list("SELECT lane FROM lanes WHERE ready = TRUE AND lane IN (", lanes.to_vec());
        for row in script.run(tx.conn()).await? {
            let lane: String = row.try_get(0)?;
            found.insert(lane.parse().map_err(|_| Error::Row("lanes.lane"))?);
        }
    }
    Ok(found)
}

/// Puts aside what is of `who` in a lane, `row` first, so that the others of it go on.
///
/// # Errors
/// [`Error`]
pub async fn set_aside(
    tx: &mut Tx,
    lane: &Lane,
    who: &str,
    row: i64,
    aside: &Lane,
) -> Result<(), Error> {
    // One of before this version may not say whose it is.
    sqlx::query("UPDATE portal_outbox SET lane = $4 WHERE lane = $1 AND (who = $2 OR id = $3)")
        .bind(lane.to_string())
        .bind(who)
        .bind(row)
        .bind(aside.to_string())
        .execute(tx.conn())
        .await?;
    let mut script = Script::default();
    lanes::ready(tx, &mut script, std::iter::once(aside.clone()));
    script.run(tx.conn()).await?;
    Ok(())
}

/// Whether something of what was put aside in a portal waits.
///
/// # Errors
/// [`Error`]
pub async fn any_aside(conn: &mut Conn, portal: PortalId) -> Result<bool, Error> {
    // Whatever begins with the first comes before the second.
    let one =
        sqlx::query("SELECT 1 FROM lanes WHERE lane > $1 AND lane < $2 AND ready = TRUE LIMIT 1")
            .bind(format!("{}/", Lane::ToMatrix(portal)))
            .bind(format!("{}0", Lane::ToMatrix(portal)))
            .fetch_optional(conn)
            .await?;
    Ok(one.is_some())
}

/// How much the bot has to do in a portal beside what is said, counted as far as `most`.
///
/// # Errors
/// [`Error`]
pub async fn in_bots(conn: &mut Conn, portal: PortalId, most: u64) -> Result<u64, Error> {
    // Whatever begins with the first comes before the second.
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT 1 FROM portal_outbox
             WHERE lane >= $1 AND lane < $2 LIMIT $3) AS waits",
    )
    .bind(Lane::Bot(portal).to_string())
    .bind(format!("{}0", Lane::Bot(portal)))
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_one(conn)
    .await?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// How much of what people said waits in a lane and in those that went aside from it, counted as far
/// as 10,000.
///
/// # Errors
/// [`Error`]
pub async fn said_in(read: &mut Read, lane: &Lane) -> Result<u64, Error> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT 1 FROM portal_outbox
             WHERE lane >= $1 AND lane < $2 AND accepted_at IS NOT NULL LIMIT 10000) AS said",
    )
    .bind(lane.to_string())
    // Whatever begins with the first comes before the second.
    .bind(format!("{lane}0"))
    .fetch_one(read.conn())
    .await?;
    Ok(u64::try_from(count).unwrap_or_default())
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

/// Most rows that are read of a lane at once.
pub const HEAD: usize = 64;

/// The first rows of a lane, at most [`HEAD`], and its portal without its people, after what `script` does,
/// which returns nothing: what was done and what comes next are one errand.
///
/// # Errors
/// [`Error`]
pub async fn first<D: TryFrom<Deed>>(
    conn: &mut Conn,
    vault: &Sealer,
    names: &Names,
    lane: &Lane,
    mut script: Script,
) -> Result<(Portal, Head<D>), Error> {
    select_first(&mut script, lane);
    read_first(vault, names, lane, &mut script.run(conn).await?)
}

/// Asks for what [`first`] tells; of what stands before it in the script no row is taken.
pub fn select_first(script: &mut Script, lane: &Lane) {
    script.asks();
    portals::select_place(script, lane.portal());
    let query = script.add(
        "SELECT id, txn, author, sealed, attempt, tried_at, expires_at, replayed, accepted_at,
            taken_back
         FROM portal_outbox
         WHERE lane = $1
           AND NOT EXISTS (SELECT 1 FROM lanes WHERE lanes.lane = $1 AND paused IS NOT NULL)
         ORDER BY id LIMIT 64",
    );
    query.bind(lane.to_string());
}

/// Reads what [`select_first`] asked for.
///
/// # Errors
/// [`Error`]
pub fn read_first<D: TryFrom<Deed>>(
    vault: &Sealer,
    names: &Names,
    lane: &Lane,
    rows: &mut Rows,
) -> Result<(Portal, Head<D>), Error> {
    let portal = portals::read_place(names, rows.take().first())?;
    let rows = rows.take();
    let mut stored = Vec::with_capacity(rows.len());
    for row in &rows {
        match opened(vault, lane, row)? {
            Ok(row) => stored.push(row),
            Err(row) if stored.is_empty() => return Ok((portal, Head::Unreadable(row))),
            // What stands before it goes first.
            Err(_) => break,
        }
    }
    Ok((portal, Head::Rows(stored)))
}

/// Those whom [`of_others`] leaves out at most.
pub const LEFT_OUT: usize = 8;

/// The first rows of a lane behind `after` that are of none of `those`, at most [`HEAD`], up to one that
/// cannot be read.
///
/// # Errors
/// [`Error`]
pub async fn of_others<D: TryFrom<Deed>>(
    conn: &mut Conn,
    vault: &Sealer,
    lane: &Lane,
    after: i64,
    those: &[String],
) -> Result<Vec<Stored<D>>, Error> {
    let mut query = sqlx::query(
        "SELECT id, txn, author, sealed, attempt, tried_at, expires_at, replayed, accepted_at,
            taken_back
         FROM portal_outbox
         WHERE lane = $1 AND id > $2
           AND (who IS NULL OR who NOT IN ($3, $4, $5, $6, $7, $8, $9, $10))
         ORDER BY id LIMIT 64",
    )
    .bind(lane.to_string())
    .bind(after);
    let mut those = those.iter();
    let mut last = "";
    for _ in 0..LEFT_OUT {
        last = those.next().map_or(last, String::as_str);
        query = query.bind(last);
    }
    let rows = query.fetch_all(conn).await?;
    let mut others = Vec::with_capacity(rows.len());
    for row in &rows {
        match opened(vault, lane, row)? {
            Ok(row) => others.push(row),
            Err(_) => break,
        }
    }
    Ok(others)
}

/// The lane of the row that is named so; `None` if it does not wait.
///
/// # Errors
/// [`Error`]
pub async fn lane_of(conn: &mut Conn, txn: &str) -> Result<Option<Lane>, Error> {
    let lane: Option<String> = sqlx::query_scalar("SELECT lane FROM portal_outbox WHERE txn = $1")
        .bind(txn)
        .fetch_optional(conn)
        .await?;
    lane.map(|lane| lane.parse().map_err(|_| Error::Row("portal_outbox.lane"))).transpose()
}

/// The row of a lane that is named so, whether it can be read or not.
///
/// # Errors
/// [`Error`]
pub async fn named(
    conn: &mut Conn,
    vault: &Sealer,
    lane: &Lane,
    txn: &str,
) -> Result<Option<Opened<Deed>>, Error> {
    let row = sqlx::query(
        "SELECT id, txn, author, sealed, attempt, tried_at, expires_at, replayed, accepted_at,
            taken_back
         FROM portal_outbox WHERE txn = $1 AND lane = $2",
    )
    .bind(txn)
    .bind(lane.to_string())
    .fetch_optional(conn)
    .await?;
    row.map(|row| opened(vault, lane, &row)).transpose()
}

/// Lanes and names of rows that are over at `now` and whose lane stands still, at most 64.
///
/// # Errors
/// [`Error`]
pub async fn over_in_paused(tx: &mut Tx, now: Timestamp) -> Result<Vec<(Lane, String)>, Error> {
    let rows = sqlx::query(
        "SELECT lane, txn FROM portal_outbox
         WHERE lane IN (SELECT lane FROM lanes WHERE paused IS NOT NULL) AND expires_at <= $1
         ORDER BY lane, id LIMIT 64",
    )
    .bind(at(now))
    .fetch_all(tx.conn())
    .await?;
    rows.into_iter()
        .map(|row| {
            let lane: String = row.try_get(0)?;
            let lane = lane.parse().map_err(|_| Error::Row("portal_outbox.lane"))?;
            Ok((lane, row.try_get(1)?))
        })
        .collect()
}

/// A row, or what is left of it.
pub type Opened<D> = Result<Stored<D>, Stored<Kept>>;

fn opened<D: TryFrom<Deed>>(vault: &Sealer, lane: &Lane, row: &Row) -> Result<Opened<D>, Error> {
    let txn: String = row.try_get(1)?;
    let read = read(vault, &txn, row.try_get(3)?);
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
        taken_back: row.try_get::<i64, _>(9)? == 2,
    };
    Ok(match read {
        Ok(deed) => Ok(row.with(deed)),
        Err(kept) => Err(row.with(kept)),
    })
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
        let Self { id, entry, refused, tried_at, replayed, taken_back } = self;
        let Entry { lane, txn, author, accepted_at, expires_at, .. } = entry;
        let entry = Entry { lane, txn, author, deed, accepted_at, expires_at };
        Stored { id, entry, refused, tried_at, replayed, taken_back }
    }
}

/// Takes rows out: they are done.
pub fn done(script: &mut Script, ids: &[i64]) {
    if !ids.is_empty() {
        script.add_list("DELETE FROM portal_outbox WHERE id IN (", ids.to_vec());
    }
}

/// Says of rows that they may have been carried out, not before `since`.
pub fn may_be_out(script: &mut Script, txns: &[String], since: Timestamp) {
    for txn in txns {
        let query = script.add(
            "UPDATE portal_outbox SET replayed = TRUE, tried_at = COALESCE(tried_at, $2)
             WHERE txn = $1",
        );
        query.bind(txn).bind(at(since));
    }
}

/// The newest row there is, or none.
///
/// # Errors
/// [`Error`]
pub async fn newest(conn: &mut Conn) -> Result<i64, Error> {
    let newest: Option<i64> =
        sqlx::query_scalar("SELECT MAX(id) FROM portal_outbox").fetch_one(conn).await?;
    Ok(newest.unwrap_or_default())
}

/// Says that rows of a portal may be in the room that it was in: those that were tried, and those up to
/// `before`, of which it is not known.
///
/// # Errors
/// [`Error`]
pub async fn may_be_in_old_room(tx: &mut Tx, portal: PortalId, before: i64) -> Result<(), Error> {
    // With what is aside: it begins with the first, and comes before the second.
    sqlx::query(
        "UPDATE portal_outbox SET replayed = TRUE, tried_at = COALESCE(tried_at, accepted_at)
         WHERE lane >= $1 AND lane < $2
           AND (tried_at IS NOT NULL OR (id <= $3 AND accepted_at IS NOT NULL))",
    )
    .bind(Lane::ToMatrix(portal).to_string())
    .bind(format!("{}0", Lane::ToMatrix(portal)))
    .bind(before)
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

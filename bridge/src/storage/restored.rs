//! What a database that was put back does not know of its own rows.

use causeway_protocol::ids::{Seq, Timestamp};
use causeway_store::{Conn, Row, Script};
use sqlx::FromRow as _;

use super::{
    Error, at,
    effects::{Cause, Decided},
    time,
};
use crate::domain::{
    effect::{Effect, InGroup},
    portal::{Portal, PortalState},
};

/// How long a group is to be told.
const TOLD_MS: u64 = 30 * 24 * 3_600_000;
const TEXT: &str = "The bridge was restored from a backup. Messages between that backup and now may \
                    be missing here or in the room; what was still on its way is looked for before \
                    it is sent.";

/// Rows of the mailbox that come again: what they bring about may have been brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Again {
    /// Which restore it was.
    pub known: u64,
    /// The last of them.
    pub until: Seq,
    /// Not before this they came the first time.
    pub since: Timestamp,
    /// What comes now is new, but for what waited for a key.
    pub is_level: bool,
}

impl Again {
    /// Whether it is a row that came before; 0 is an op that came by another way.
    pub fn is_about(&self, seq: Seq) -> bool {
        if seq.0 == 0 { !self.is_level } else { seq <= self.until }
    }
}

/// It was put back, and what is to come again is to be asked for.
///
/// # Errors
/// [`Error`]
pub async fn begins(conn: &mut Conn, known: u64) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO restored (id, known) VALUES (1, $1) ON CONFLICT (id) DO UPDATE
         SET known = excluded.known, until_seq = NULL, since = NULL, is_level = FALSE",
    )
    .bind(i64::try_from(known).unwrap_or(i64::MAX))
    .execute(conn)
    .await?;
    Ok(())
}

/// Which restore it was, if what comes again is to be asked for.
///
/// # Errors
/// [`Error`]
pub async fn unasked(conn: &mut Conn) -> Result<Option<u64>, Error> {
    let known: Option<i64> =
        sqlx::query_scalar("SELECT known FROM restored WHERE until_seq IS NULL")
            .fetch_optional(conn)
            .await?;
    Ok(known.map(|known| u64::try_from(known).unwrap_or(0)))
}

/// These come again.
///
/// # Errors
/// [`Error`]
pub async fn reads_again(conn: &mut Conn, until: Seq, since: Timestamp) -> Result<(), Error> {
    sqlx::query("UPDATE restored SET until_seq = $1, since = $2")
        .bind(i64::try_from(until.0).unwrap_or(i64::MAX))
        .bind(at(since))
        .execute(conn)
        .await?;
    Ok(())
}

/// Asks for what comes again, or waits for a key since it did.
pub fn select_again(script: &mut Script) {
    script
        .add("SELECT known, until_seq, since, is_level FROM restored WHERE until_seq IS NOT NULL");
}

/// Reads what [`select_again`] asked for.
///
/// # Errors
/// [`Error`]
pub fn read_again(row: Option<&Row>) -> Result<Option<Again>, Error> {
    let Some(row) = row else { return Ok(None) };
    let (known, until, since, is_level) = <(i64, i64, i64, bool)>::from_row(row)?;
    Ok(Some(Again {
        known: u64::try_from(known).unwrap_or(0),
        until: Seq(u64::try_from(until).unwrap_or(0)),
        since: time(since),
        is_level,
    }))
}

/// All of it has come; what of it waits for a key comes later.
///
/// # Errors
/// [`Error`]
pub async fn is_level(conn: &mut Conn) -> Result<(), Error> {
    sqlx::query("UPDATE restored SET is_level = TRUE").execute(conn).await?;
    Ok(())
}

/// Nothing more comes again.
///
/// # Errors
/// [`Error`]
pub async fn is_over(conn: &mut Conn) -> Result<(), Error> {
    sqlx::query("DELETE FROM restored").execute(conn).await?;
    Ok(())
}

/// Says of every row of the outbox that it may have been carried out: it is looked for first, as far
/// back as it can have been. How many there are.
///
/// # Errors
/// [`Error`]
pub async fn may_have_gone(conn: &mut Conn, now: Timestamp) -> Result<u64, Error> {
    // Where nobody said anything there is no time; such rows are of the bridge's own, and no older
    // than the oldest that has one.
    let done = sqlx::query(
        "UPDATE portal_outbox SET replayed = TRUE, tried_at = COALESCE(tried_at, accepted_at,
            (SELECT MIN(accepted_at) FROM portal_outbox), $1)",
    )
    .bind(at(now))
    .execute(&mut *conn)
    .await?;
    // One that somebody had tried again since is there too.
    sqlx::query("UPDATE dead_letters SET tried_at = died_at WHERE tried_at IS NULL")
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Remembers how many commits were counted before anything is done, where it is not remembered yet:
/// what is counted from here on says nothing of whether the database was put back.
///
/// # Errors
/// [`Error`]
pub async fn is_uncompared(conn: &mut Conn) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO uncompared (id, since) SELECT 1, n FROM commits WHERE id = 1
         ON CONFLICT (id) DO NOTHING",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// How many commits were counted before anything was done, if nobody was asked since.
///
/// # Errors
/// [`Error`]
pub async fn uncompared_since(conn: &mut Conn) -> Result<Option<u64>, Error> {
    let since: Option<i64> = sqlx::query_scalar("SELECT since FROM uncompared WHERE id = 1")
        .fetch_optional(conn)
        .await?;
    Ok(since.and_then(|since| u64::try_from(since).ok()))
}

/// It was put back from a copy, which is known and meant: others know of at most `known` commits.
///
/// # Errors
/// [`Error`]
pub async fn is_known(conn: &mut Conn, known: u64) -> Result<(), Error> {
    sqlx::query("UPDATE uncompared SET since = $1 WHERE since < $1")
        .bind(i64::try_from(known).unwrap_or(i64::MAX))
        .execute(conn)
        .await?;
    Ok(())
}

/// Nobody knows of more than is here.
///
/// # Errors
/// [`Error`]
pub async fn is_compared(conn: &mut Conn) -> Result<(), Error> {
    sqlx::query("DELETE FROM uncompared").execute(conn).await?;
    Ok(())
}

/// Tells a group that something may be missing: once, however often it is told of this restore.
pub fn tell(portal: &mut Portal, known: u64, now: Timestamp, decided: &mut Decided) {
    if portal.state == PortalState::Closed {
        return;
    }
    let id = [b"restored\0".as_slice(), &known.to_be_bytes()].concat();
    let author = portal.names.bot().to_string();
    let expires_at = now.plus_ms(TOLD_MS);
    let cause = Cause { id: &id, author: &author, accepted_at: now, expires_at };
    let notice = Effect::InGroup(InGroup::Notice(TEXT.to_owned()));
    decided.take(portal, cause, vec![notice]);
}

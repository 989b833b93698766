//! What a database that was put back does not know of its own rows.

use causeway_protocol::ids::Timestamp;
use causeway_store::Conn;

use super::{Error, at};

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

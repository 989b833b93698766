//! The one fallback key: since when it is given out, whether it was used, and the one before it.

use causeway_protocol::ids::{CurveKey, Timestamp};
use causeway_store::Conn;

use super::{Error, ms};

/// A new one was made; the one before is kept until this one was at the server for a while.
pub(crate) async fn made(conn: &mut Conn, key: &CurveKey, now: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO fallback_key (id, curve25519, made_ms, is_used) VALUES (1, $1, $2, FALSE)
         ON CONFLICT (id) DO UPDATE SET curve25519 = excluded.curve25519,
             made_ms = excluded.made_ms, is_used = FALSE, former_until_ms = NULL",
    )
    .bind(key.as_bytes().as_slice())
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether this, or none, is another than the newest. A device of before does not know its own.
pub(crate) async fn is_other(conn: &mut Conn, key: Option<&CurveKey>) -> Result<bool, Error> {
    let newest: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT curve25519 FROM fallback_key").fetch_optional(conn).await?;
    let key = key.map(|key| key.as_bytes().as_slice());
    Ok(newest.is_some_and(|newest| Some(&*newest) != key))
}

/// The server has it: the one before is kept until then.
pub(crate) async fn published(conn: &mut Conn, until: Timestamp) -> Result<(), Error> {
    sqlx::query("UPDATE fallback_key SET former_until_ms = $1")
        .bind(ms(until))
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes that somebody opened a session with this key, if it is the fallback key; says whether it is.
pub(crate) async fn was_used(conn: &mut Conn, key: &CurveKey) -> Result<bool, Error> {
    let noted = sqlx::query("UPDATE fallback_key SET is_used = TRUE WHERE curve25519 = $1")
        .bind(key.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(noted.rows_affected() > 0)
}

/// Whether a new one is to be made: it was used, or made before `old`, and none of before is kept.
pub(crate) async fn is_due(conn: &mut Conn, old: Timestamp) -> Result<bool, Error> {
    let good: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM fallback_key
         WHERE former_until_ms IS NOT NULL OR (is_used = FALSE AND made_ms >= $1)",
    )
    .bind(ms(old))
    .fetch_one(conn)
    .await?;
    Ok(good == 0)
}

/// Whether the time of the one before is over; then it is kept no longer.
pub(crate) async fn former_ends(conn: &mut Conn, now: Timestamp) -> Result<bool, Error> {
    let ended =
        sqlx::query("UPDATE fallback_key SET former_until_ms = NULL WHERE former_until_ms <= $1")
            .bind(ms(now))
            .execute(conn)
            .await?;
    Ok(ended.rows_affected() > 0)
}

/// Whether what waits to be uploaded takes the place of all keys at the server.
pub(crate) async fn replaces(conn: &mut Conn) -> Result<bool, Error> {
    Ok(sqlx::query_scalar("SELECT replaces FROM own").fetch_one(conn).await?)
}

/// Says whether it does.
pub(crate) async fn set_replaces(conn: &mut Conn, replaces: bool) -> Result<(), Error> {
    sqlx::query("UPDATE own SET replaces = $1").bind(replaces).execute(conn).await?;
    Ok(())
}

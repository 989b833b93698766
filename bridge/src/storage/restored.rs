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

//! What is owed to other devices, links and words about links and keys of messages, and cannot go now: it lets the rest
//! pass, and ends.

use causeway_protocol::ids::{DeviceId, Timestamp};
use causeway_store::Conn;

use super::{Error, ms};

/// What could not go waits no longer than this, whatever the clock says.
pub(crate) const WAIT_MS: u64 = 10 * 60_000;

/// There is a session with this device: what waits for one may go.
pub(crate) async fn session_came(conn: &mut Conn, device: &DeviceId) -> Result<(), Error> {
    sqlx::query("UPDATE owed_words SET next_ms = 0 WHERE device = $1 AND next_ms > 0")
        .bind(device.as_bytes().as_slice())
        .execute(&mut *conn)
        .await?;
    sqlx::query("UPDATE owed_invites SET next_ms = 0 WHERE device = $1 AND next_ms > 0")
        .bind(device.as_bytes().as_slice())
        .execute(&mut *conn)
        .await?;
    sqlx::query("UPDATE owed_pieces SET next_ms = 0 WHERE device = $1 AND next_ms > 0")
        .bind(device.as_bytes().as_slice())
        .execute(&mut *conn)
        .await?;
    sqlx::query("UPDATE owed_shares SET next_ms = 0 WHERE device = $1 AND next_ms > 0")
        .bind(device.as_bytes().as_slice())
        .execute(&mut *conn)
        .await?;
    super::shared_keys::session_came(conn, device).await
}

/// Lets go of what is owed since before `before`: nobody could be told in all that time.
pub(crate) async fn expire(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM owed_words WHERE since_ms < $1")
        .bind(ms(before))
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM owed_invites WHERE since_ms < $1")
        .bind(ms(before))
        .execute(conn)
        .await?;
    Ok(())
}

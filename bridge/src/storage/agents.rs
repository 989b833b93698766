//! Agents of other servers that were invited into relay rooms and have not come.

use causeway_protocol::ids::Timestamp;
use causeway_store::{Conn, Tx};
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use sqlx::Row as _;

use super::{Error, at, time};

/// When an agent may be invited again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invited {
    /// Into which room.
    pub room: OwnedRoomId,
    /// Of which server.
    pub server: OwnedServerName,
    /// Not before.
    pub next_at: Timestamp,
    /// How long that was from the last time on, milliseconds.
    pub wait_ms: u64,
}

/// All of them.
///
/// # Errors
/// [`Error`]
pub async fn invited(conn: &mut Conn) -> Result<Vec<Invited>, Error> {
    let rows = sqlx::query("SELECT room, server, next_at, wait_ms FROM agents_invited")
        .fetch_all(conn)
        .await?;
    let rows = rows.into_iter().map(|row| {
        let (room, server): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        Ok(Invited {
            room: room.try_into().map_err(|_| Error::Row("agents_invited.room"))?,
            server: server.try_into().map_err(|_| Error::Row("agents_invited.server"))?,
            next_at: time(row.try_get(2)?),
            wait_ms: time(row.try_get(3)?).0,
        })
    });
    rows.collect()
}

/// An agent is invited now.
///
/// # Errors
/// [`Error`]
pub async fn invite(tx: &mut Tx, of: &Invited) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO agents_invited (room, server, next_at, wait_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (room, server) DO UPDATE SET next_at = excluded.next_at,
         wait_ms = excluded.wait_ms",
    )
    .bind(of.room.as_str())
    .bind(of.server.as_str())
    .bind(at(of.next_at))
    .bind(at(Timestamp(of.wait_ms)))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// It has come, or need not any more.
///
/// # Errors
/// [`Error`]
pub async fn forget(tx: &mut Tx, room: &RoomId, server: &ServerName) -> Result<(), Error> {
    sqlx::query("DELETE FROM agents_invited WHERE room = $1 AND server = $2")
        .bind(room.as_str())
        .bind(server.as_str())
        .execute(tx.conn())
        .await?;
    Ok(())
}

//! Messages from rooms that some device did not fetch in time, until their room is told.

use causeway_protocol::ids::EnvelopeId;
use causeway_store::{Read, Tx};
use ruma::{EventId, OwnedEventId};
use sqlx::Row as _;

use super::Error;
use crate::domain::portal::PortalId;

/// Woken when one is noted.
pub const TOPIC: &str = "expired";

/// Most that are kept of one portal: of more than that nobody needs to know the number.
pub const MOST: usize = 100;

/// A message, as each side calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// Its place.
    pub id: i64,
    /// The event that said it.
    pub event: OwnedEventId,
    /// The message in the group.
    pub message: EnvelopeId,
}

/// Notes that a message was not fetched in time, if an event of a room said it, and if of its portal
/// fewer than [`MOST`] wait.
///
/// # Errors
/// [`Error`]
pub async fn note(tx: &mut Tx, message: EnvelopeId) -> Result<(), Error> {
    let noted = sqlx::query(
        "INSERT INTO expired (portal, event_id, message_id)
         SELECT portal, event_id, message_id FROM links
         WHERE message_id = $1
           AND (SELECT count(*) FROM expired WHERE expired.portal = links.portal) < 100",
    )
    .bind(message.as_bytes().as_slice())
    .execute(tx.conn())
    .await?;
    if noted.rows_affected() > 0 {
        tx.wake(TOPIC);
    }
    Ok(())
}

/// Portals of which some are noted.
///
/// # Errors
/// [`Error`]
pub async fn portals(read: &mut Read) -> Result<Vec<PortalId>, Error> {
    let portals: Vec<i64> =
        sqlx::query_scalar("SELECT DISTINCT portal FROM expired ORDER BY portal")
            .fetch_all(read.conn())
            .await?;
    Ok(portals.into_iter().map(PortalId).collect())
}

/// What is noted of a portal, in the order in which it came; at most [`MOST`].
///
/// # Errors
/// [`Error`]
pub async fn of(read: &mut Read, portal: PortalId) -> Result<Vec<Noted>, Error> {
    let rows = sqlx::query(
        "SELECT id, event_id, message_id FROM expired WHERE portal = $1 ORDER BY id LIMIT 100",
    )
    .bind(portal.0)
    .fetch_all(read.conn())
    .await?;
    rows.into_iter()
        .map(|row| {
            let (event, message): (String, Vec<u8>) = (row.try_get(1)?, row.try_get(2)?);
            Ok(Noted {
                id: row.try_get(0)?,
                event: EventId::parse(event).map_err(|_| Error::Row("expired.event_id"))?,
                message: EnvelopeId::from_slice(&message)
                    .map_err(|_| Error::Row("expired.message_id"))?,
            })
        })
        .collect()
}

/// Forgets what is noted of a portal, up to and with the row `last`.
///
/// # Errors
/// [`Error`]
pub async fn forget(tx: &mut Tx, portal: PortalId, last: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM expired WHERE portal = $1 AND id <= $2")
        .bind(portal.0)
        .bind(last)
        .execute(tx.conn())
        .await?;
    Ok(())
}

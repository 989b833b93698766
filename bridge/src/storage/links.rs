//! Which event is which message: how replies find what they answer, and echoes are known.

use causeway_protocol::ids::{ClientId, DeviceId, EnvelopeId};
use causeway_store::{Conn, Script};
use ruma::{EventId, OwnedEventId};
use sqlx::Row as _;

use super::Error;
use crate::domain::{MessageRef, portal::PortalId};

/// One pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its portal.
    pub portal: PortalId,
    /// The event.
    pub event_id: OwnedEventId,
    /// The message, as its sender calls it.
    pub message: MessageRef,
    /// The message, as the server calls it.
    pub message_id: EnvelopeId,
}

/// Keeps links; one that is there stays.
pub fn put(script: &mut Script, links: &[Link]) {
    script.insert(
        "INSERT INTO links (event_id, portal, device, client_id, message_id) ",
        links,
        " ON CONFLICT DO NOTHING",
        |row, link| {
            row.bind(link.event_id.as_str())
                .bind(link.portal.0)
                .bind(link.message.device.as_bytes().as_slice())
                .bind(link.message.client_id.as_bytes().as_slice())
                .bind(link.message_id.as_bytes().as_slice());
        },
    );
}

/// The event that says what this message says.
///
/// # Errors
/// [`Error`]
pub async fn event_of(
    conn: &mut Conn,
    portal: PortalId,
    message: MessageRef,
) -> Result<Option<OwnedEventId>, Error> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT event_id FROM links WHERE portal = $1 AND device = $2 AND client_id = $3",
    )
    .bind(portal.0)
    .bind(message.device.as_bytes().as_slice())
    .bind(message.client_id.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    found.map(EventId::parse).transpose().map_err(|_| Error::Row("links.event_id"))
}

/// The message that says what this event says.
///
/// # Errors
/// [`Error`]
pub async fn message_of(conn: &mut Conn, event: &EventId) -> Result<Option<MessageRef>, Error> {
    let row = sqlx::query("SELECT device, client_id FROM links WHERE event_id = $1")
        .bind(event.as_str())
        .fetch_optional(conn)
        .await?;
    row.map(|row| {
        let (device, client_id): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        Ok(MessageRef {
            device: DeviceId::from_slice(&device).map_err(|_| Error::Row("links.device"))?,
            client_id: ClientId::from_slice(&client_id)
                .map_err(|_| Error::Row("links.client_id"))?,
        })
    })
    .transpose()
}

//! What a message is about, as the other side names it: first among what this round has done and
//! not committed yet, then in the links. The same both ways.

use causeway_store::Conn;
use ruma::{EventId, OwnedEventId};

use crate::{
    domain::{MessageRef, portal::PortalId},
    storage::{self, links},
};

/// An event, and the message that says the same.
pub(super) type Pair<'a> = (&'a EventId, MessageRef);

/// The event that says what `message` says, newest first; `None` if the room has none.
pub(super) fn event_here<'a>(
    mut round: impl DoubleEndedIterator<Item = Pair<'a>>,
    message: MessageRef,
) -> Option<OwnedEventId> {
    round.rfind(|(_, other)| *other == message).map(|(event, _)| event.to_owned())
}

/// The same, of all that was ever linked.
pub(super) async fn event_of(
    conn: &mut Conn,
    portal: PortalId,
    message: MessageRef,
) -> Result<Option<OwnedEventId>, storage::Error> {
    let found = links::event_of(conn, portal, message).await?;
    if found.is_none() {
        tracing::debug!(?portal, "a message is about one that the room does not have");
    }
    Ok(found)
}

/// The message that says what `event` says; `None` if the group has none.
pub(super) async fn message_of<'a>(
    conn: &mut Conn,
    mut round: impl Iterator<Item = Pair<'a>>,
    event: &EventId,
) -> Result<Option<MessageRef>, storage::Error> {
    if let Some((_, message)) = round.find(|(other, _)| *other == event) {
        return Ok(Some(message));
    }
    let found = links::message_of(conn, event).await?;
    if found.is_none() {
        tracing::debug!(%event, "a message is about one that the group does not have");
    }
    Ok(found)
}

//! What was missed: a suspect room is read back to the last event that was routed, and what never
//! came, or came in another order, is put at its place before anything of that room goes on.
//!
//! Synapse sends a transaction before one that failed when we come back at the wrong moment, keeps
//! one to itself that was made while it recovered, and forgets what it was sending when it dies.

use ruma::{EventId, OwnedEventId, RoomId};

use super::{AFTER_FAULT, Spine, StepError};
use crate::{
    domain::RoomEvent,
    gateway::matrix::{Direction, MatrixError},
    storage::{
        inbox,
        portals::{self, Suspect},
    },
};

/// Events of one page.
const PAGE: u32 = 100;
/// Pages read back at most: what is older was long ago.
const MAX_PAGES: u32 = 100;

/// Repairs until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut woken = spine.db.listen(portals::TOPIC);
    loop {
        let is_done = match step(spine).await {
            Ok(is_done) => is_done,
            Err(error) => {
                tracing::error!(%error, "suspect rooms could not be looked at; trying again");
                false
            }
        };
        tokio::select! {
            () = woken.changed() => {}
            () = tokio::time::sleep(AFTER_FAULT), if !is_done => {}
            () = &mut stop => return,
        }
    }
}

/// Looks at the suspect rooms once, until the homeserver is away; whether none is left.
///
/// # Errors
/// [`StepError`]
pub async fn step(spine: &Spine) -> Result<bool, StepError> {
    let suspects = portals::suspects(&mut spine.db.read().await?).await?;
    for suspect in suspects {
        match read_back(spine, &suspect).await {
            Ok(found) => put_right(spine, &suspect, &found).await?,
            // What may not be read will not be read later: what has come goes on as it is.
            Err(error @ MatrixError::Refused(..)) => {
                tracing::error!(room = %suspect.room, %error, "a suspect room cannot be read");
                put_right(spine, &suspect, &[]).await?;
            }
            Err(error) => {
                tracing::warn!(room = %suspect.room, %error, "a suspect room cannot be read yet");
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The room's events since the cursor, oldest first.
async fn read_back(spine: &Spine, suspect: &Suspect) -> Result<Vec<RoomEvent>, MatrixError> {
    let cursor = suspect.cursor.as_deref().and_then(|cursor| EventId::parse(cursor).ok());
    let mut found = Vec::new();
    let mut from: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let (page, end) = page(spine, &suspect.room, from.as_deref()).await?;
        let is_last = page.is_empty() || end.is_none();
        for event in page {
            if Some(&event.event_id) == cursor.as_ref() as Option<&OwnedEventId> {
                found.reverse();
                return Ok(found);
            }
            found.push(event);
        }
        if is_last {
            break;
        }
        from = end;
    }
    found.reverse();
    Ok(found)
}

/// What can be parsed of a page; the rest could not be routed either.
async fn page(
    spine: &Spine,
    room: &RoomId,
    from: Option<&str>,
) -> Result<(Vec<RoomEvent>, Option<String>), MatrixError> {
    let bot = spine.names.bot();
    let page = spine.matrix.messages(bot, room, Direction::Backwards, from, PAGE).await?;
    let events = page.chunk.iter().filter_map(|raw| serde_json::from_str(raw.get()).ok());
    Ok((events.collect(), page.end))
}

async fn put_right(spine: &Spine, suspect: &Suspect, found: &[RoomEvent]) -> Result<(), StepError> {
    let mut tx = spine.db.begin().await?;
    let missed =
        inbox::put_right(&mut tx, &spine.sealer, spine.now(), &suspect.room, found).await?;
    portals::trust(&mut tx, suspect).await?;
    tx.commit().await?;
    if missed > 0 {
        tracing::warn!(room = %suspect.room, missed, "events that never came were fetched");
        metrics::counter!("causeway_events_fetched_total").increment(missed);
    }
    Ok(())
}

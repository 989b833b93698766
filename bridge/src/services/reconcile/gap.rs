//! One room of which something is missing, read on page by page; each page is committed with the
//! place that it leads to.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use causeway_store::Tx;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use ruma::{OwnedRoomId, RoomId};
use tokio::time::{Instant, sleep_until};

use super::account::{LookError, count, event};
use crate::{
    domain::{
        RoomEvent,
        effect::{Effect, InGroup},
    },
    gateway::matrix::{Direction, MatrixError, MessagesPage},
    services::Spine,
    storage::{
        effects::{Cause, Decided},
        inbox, portals,
        reading::{self, Damaged, Gap},
    },
};

/// Events of one page; fewer where so many are longer than an answer may be.
const PAGES: [u32; 2] = [100, 10];
/// Rooms read at once.
const AT_ONCE: usize = 16;
/// Wait after the first try that failed; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait after a try that failed.
const LONGEST_WAIT: Duration = Duration::from_mins(2);
/// How long a word about what cannot be read is of use.
const TOLD_MS: u64 = 24 * 60 * 60 * 1_000;

/// Rooms that could not be read: how often in a row, and when to try again.
type Waits = BTreeMap<OwnedRoomId, (u32, Instant)>;

/// Fills gaps for ever, rooms side by side.
pub(super) async fn keep_filling(spine: &Spine) {
    let mut woken = spine.db.listen(reading::TOPIC);
    let mut waits = Waits::new();
    let mut at_work = BTreeSet::new();
    let mut tries = FuturesUnordered::new();
    loop {
        match due(spine, &mut waits, &at_work).await {
            Ok(rooms) => {
                for room in rooms.into_iter().take(AT_ONCE.saturating_sub(at_work.len())) {
                    at_work.insert(room.clone());
                    tries.push(async move {
                        let ended = fill(spine, &room).await;
                        (room, ended)
                    });
                }
            }
            Err(error) => tracing::error!(%error, "gaps cannot be looked at; trying again"),
        }
        let resting = waits.iter().filter(|(room, _)| !at_work.contains(*room));
        let next = resting.map(|(_, (_, until))| *until).min();
        let next = next.unwrap_or_else(|| Instant::now() + LONGEST_WAIT);
        tokio::select! {
            Some((room, ended)) = tries.next() => {
                at_work.remove(&room);
                match ended {
                    Ok(()) => drop(waits.remove(&room)),
                    Err(error) => {
                        let tries = waits.get(&room).map_or(0, |(tries, _)| *tries);
                        tracing::warn!(%room, %error, tries, "a room cannot be read yet; it waits");
                        let wait = FIRST_WAIT * 2_u32.saturating_pow(tries.min(16));
                        let until = Instant::now() + wait.min(LONGEST_WAIT);
                        waits.insert(room, (tries + 1, until));
                    }
                }
            }
            () = woken.changed() => {}
            () = sleep_until(next), if at_work.len() < AT_ONCE => {}
        }
    }
}

/// Rooms to be read now.
async fn due(
    spine: &Spine,
    waits: &mut Waits,
    at_work: &BTreeSet<OwnedRoomId>,
) -> Result<Vec<OwnedRoomId>, LookError> {
    let mut read = spine.db.read().await?;
    let gaps = reading::gaps(&mut read).await?.into_iter().map(|gap| gap.room);
    let damaged = reading::damaged(&mut read).await?.into_iter().map(|row| row.room);
    let rooms: BTreeSet<OwnedRoomId> = gaps.chain(damaged).collect();
    waits.retain(|room, _| rooms.contains(room));
    let now = Instant::now();
    let is_due = |room: &OwnedRoomId| {
        !at_work.contains(room) && waits.get(room).is_none_or(|(_, until)| *until <= now)
    };
    Ok(rooms.into_iter().filter(is_due).collect())
}

/// Fetches what is missing or damaged of one room, to the end.
///
/// # Errors
/// [`LookError`]: what was fetched so far is kept, and the room waits.
pub async fn fill(spine: &Spine, room: &RoomId) -> Result<(), LookError> {
    let damaged = reading::damaged(&mut spine.db.read().await?).await?;
    for row in damaged.into_iter().filter(|row| row.room == *room) {
        mend(spine, &row).await?;
    }
    // Each page is asked for after the gap was looked at: what opens it again in between shows.
    loop {
        // A reader held for the whole round would be held while the homeserver is waited for.
        let gap = reading::gap(&mut spine.db.read().await?, room).await?;
        let Some(gap) = gap else { return Ok(()) };
        match next_page(spine, &gap).await {
            Ok(()) => {}
            // What may not be read will not be read later: what has come goes on as it is.
            Err(LookError::Matrix(error)) if is_final(&error) => {
                tracing::error!(%room, %error, "a room cannot be read; what never came is lost");
                metrics::counter!("causeway_rooms_unreadable_total").increment(1);
                let mut tx = spine.db.begin().await?;
                reading::close_gap(&mut tx, &gap).await?;
                tx.commit().await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the homeserver itself says that it will not show it; a gateway before it says no
/// `errcode` of Matrix.
fn is_final(error: &MatrixError) -> bool {
    matches!(error, MatrixError::Refused(403 | 404, code, _) if code.starts_with("M_"))
}

/// Puts the next page of a room at its place; the gap is closed where there is no more.
async fn next_page(spine: &Spine, gap: &Gap) -> Result<(), LookError> {
    let room = &gap.room;
    let behind = match &gap.behind {
        Some(place) => Some(place.clone()),
        None => known_place(spine, room).await?,
    };
    let page = read_page(spine, room, behind.as_deref()).await;
    if matches!(page, Err(MatrixError::Refused(400, ..))) && gap.behind.is_some() {
        // A place of before the homeserver was put back: the next try begins at what we know.
        let mut tx = spine.db.begin().await?;
        reading::filled_to(&mut tx, room, None).await?;
        tx.commit().await?;
    }
    let MessagesPage { chunk, end } = page?;
    let events: Vec<RoomEvent> = chunk.iter().filter_map(|raw| event(room, raw)).collect();
    let mut tx = spine.db.begin().await?;
    let missed = inbox::put_page(&mut tx, &spine.sealer, spine.now(), room, &events).await?;
    match end {
        // An empty page is not the last: of what is in it nothing may be seen.
        Some(end) if Some(&end) != behind.as_ref() => {
            reading::filled_to(&mut tx, room, Some(&end)).await?;
        }
        _ => {
            let is_closed = reading::close_gap(&mut tx, gap).await?;
            tracing::debug!(%room, is_closed, "a room is read to its end");
        }
    }
    tx.commit().await?;
    count(missed);
    Ok(())
}

/// As many events behind a place as an answer holds.
async fn read_page(
    spine: &Spine,
    room: &RoomId,
    behind: Option<&str>,
) -> Result<MessagesPage, MatrixError> {
    let (matrix, bot) = (&spine.matrix, spine.names.bot());
    for limit in PAGES {
        match matrix.messages(bot, room, Direction::Forwards, behind, limit).await {
            Err(MatrixError::TooLong(_)) => {}
            other => return other,
        }
    }
    matrix.messages(bot, room, Direction::Forwards, behind, 1).await
}

/// The place behind the last event that was routed; `None`, the room's beginning, if it has none.
async fn known_place(spine: &Spine, room: &RoomId) -> Result<Option<String>, LookError> {
    let last = inbox::last_routed(&mut spine.db.read().await?, room).await?;
    match last {
        Some(event) => Ok(spine.matrix.place_behind(spine.names.bot(), room, &event).await?),
        None => Ok(None),
    }
}

/// Fetches an event again whose row does not open; the group is told where that fails for good.
async fn mend(spine: &Spine, row: &Damaged) -> Result<(), LookError> {
    let found = spine.matrix.event(spine.names.bot(), &row.room, &row.event).await;
    let mut tx = spine.db.begin().await?;
    match found {
        Ok(raw) => match event(&row.room, &raw) {
            Some(event) => inbox::mended(&mut tx, &spine.sealer, row.seq, &event).await?,
            None => lose(spine, &mut tx, row).await?,
        },
        Err(error) if is_final(&error) => lose(spine, &mut tx, row).await?,
        Err(error) => return Err(error.into()),
    }
    Ok(tx.commit().await?)
}

async fn lose(spine: &Spine, tx: &mut Tx, row: &Damaged) -> Result<(), LookError> {
    tracing::error!(room = %row.room, event = %row.event, "an event is damaged and cannot be had again");
    metrics::counter!("causeway_dead_letters_total").increment(1);
    inbox::routed(tx, &[row.seq]).await?;
    tx.wake(inbox::TOPIC);
    let Some(mut portal) = portals::of_room(tx, &spine.names, &row.room).await? else {
        return Ok(());
    };
    let text = "Something that was said in the room cannot be shown: what was kept of it is damaged, \
                and the homeserver does not have it any more.";
    let now = spine.now();
    let cause = Cause {
        id: row.event.as_bytes(),
        author: spine.names.bot().as_str(),
        accepted_at: now,
        expires_at: now.plus_ms(TOLD_MS),
    };
    let mut decided = Decided::default();
    let notice = Effect::InGroup(InGroup::Notice(text.to_owned()));
    decided.take(&mut portal, cause, vec![notice]);
    Ok(decided.keep(tx, &spine.sealer, now, std::iter::once(&mut portal)).await?)
}

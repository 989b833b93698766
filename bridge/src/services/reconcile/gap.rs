//! One room of which something is missing, read on page by page; each page is committed with the
//! place that it leads to.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use causeway_store::Tx;
use futures_util::{Stream, StreamExt as _, stream::FuturesUnordered};
use ruma::{EventId, OwnedRoomId, RoomId};
use tokio::time::{Instant, sleep_until};

use super::{
    account::{LookError, count, event},
    waits::{self, Waits},
};
use crate::{
    domain::{
        Input, News, RoomEvent,
        effect::{Effect, InGroup},
        portal::Portal,
        room::Found,
        route::route,
    },
    gateway::matrix::{Behind, Direction, MatrixError, MessagesPage},
    health::Kind,
    services::{Spine, StepError},
    storage::{
        effects::{Cause, Decided},
        inbox::{self, Looked},
        lanes, portals,
        reading::{self, Damaged, Gap},
    },
};

/// Events of one page; fewer where so many are longer than an answer may be.
const PAGES: [u32; 2] = [100, 10];
/// Rooms begun at once; more begin when these are done, or hang.
const AT_ONCE: usize = 16;
/// After how long a room counts as one that hangs.
const HANGS: Duration = Duration::from_secs(2);
/// Rooms at work at once, those that hang among them.
const IN_ALL: usize = 128;
/// Rooms at work at once that could not be read before: no others wait for them.
const AGAIN: usize = 64;
/// Wait after the rows could not be looked at.
const AFTER_FAULT: Duration = Duration::from_secs(1);
/// How long a word about what cannot be read is of use.
const TOLD_MS: u64 = 24 * 60 * 60 * 1_000;

/// Rooms at work: how often each was tried in vain before, and since when.
#[derive(Default)]
struct AtWork(BTreeMap<OwnedRoomId, (u32, Instant)>);

impl AtWork {
    /// Whether a room that was tried in vain `tries` times may begin.
    fn has_place(&self, tries: u32, now: Instant) -> bool {
        let brisk = self.0.values().filter(|(_, begun)| now < *begun + HANGS).count();
        let again = self.0.values().filter(|(tries, _)| *tries > 0).count();
        brisk < AT_ONCE && self.0.len() < IN_ALL && (tries == 0 || again < AGAIN)
    }

    /// When the next one will count as one that hangs.
    fn next_hangs(&self, now: Instant) -> Option<Instant> {
        self.0.values().map(|(_, begun)| *begun + HANGS).filter(|hangs| *hangs > now).min()
    }
}

/// How the work on a room ended.
type Ended = (OwnedRoomId, Result<(), LookError>);

/// Fills gaps for ever, rooms side by side.
pub(super) async fn keep_filling(spine: &Spine) {
    let mut woken = spine.db.listen(reading::TOPIC);
    let mut back = spine.db.listen(lanes::BACK);
    let mut waits = Waits::default();
    let mut at_work = AtWork::default();
    let mut tries = FuturesUnordered::new();
    loop {
        let now = Instant::now();
        let mut next = now + waits::LONGEST;
        let mut ended = Vec::new();
        match beside(due(spine, &mut waits, &at_work, now), &mut tries, &mut ended).await {
            Ok(rooms) => {
                for (before, room) in rooms {
                    if !at_work.has_place(before, now) {
                        continue;
                    }
                    at_work.0.insert(room.clone(), (before, now));
                    tries.push(async move {
                        let ended = fill(spine, &room).await;
                        (room, ended)
                    });
                }
            }
            Err(error) => {
                tracing::error!(%error, "gaps cannot be looked at; trying again");
                next = now + AFTER_FAULT;
            }
        }
        // Who is due and has no place waits for one to end or to hang.
        let next = [waits.next(now), at_work.next_hangs(now)]
            .into_iter()
            .flatten()
            .fold(next, Instant::min);
        if ended.is_empty() {
            tokio::select! {
                Some(room) = tries.next() => ended.push(room),
                () = woken.changed() => {}
                () = back.changed() => waits.hurry(Instant::now()),
                () = sleep_until(next) => {}
            }
        }
        for (room, outcome) in ended {
            at_work.0.remove(&room);
            note(spine, &mut waits, &room, outcome);
        }
    }
}

/// Looks while the rooms at work go on: they hold what the look waits for.
async fn beside<T>(
    look: impl Future<Output = T>,
    tries: &mut (impl Stream<Item = Ended> + Unpin),
    ended: &mut Vec<Ended>,
) -> T {
    tokio::pin!(look);
    loop {
        tokio::select! {
            looked = &mut look => return looked,
            Some(room) = tries.next() => ended.push(room),
        }
    }
}

/// Notes how a room fared, and when it is tried again.
fn note(spine: &Spine, waits: &mut Waits, room: &OwnedRoomId, outcome: Result<(), LookError>) {
    let Err(error) = outcome else {
        spine.troubles.goes(Kind::Room, room.as_str());
        waits.read(room);
        return;
    };
    let away = matches!(&error, LookError::Matrix(error) if error.is_away());
    let wait = waits.failed(room.clone(), Instant::now(), away);
    tracing::debug!(%room, %error, ?wait, "a room cannot be read yet; it waits");
    spine.troubles.stands(Kind::Room, room.as_str(), &error.to_string(), Some(wait));
}

/// Rooms to be read now and how often each was tried in vain, those first that were not.
async fn due(
    spine: &Spine,
    waits: &mut Waits,
    at_work: &AtWork,
    now: Instant,
) -> Result<BTreeSet<(u32, OwnedRoomId)>, LookError> {
    let mut read = spine.db.read().await?;
    let gaps = reading::gaps(&mut read).await?.into_iter().map(|gap| gap.room);
    let rooms: BTreeSet<OwnedRoomId> =
        gaps.chain(reading::damaged_rooms(&mut read).await?).collect();
    waits.keep(&rooms);
    let resting = rooms.into_iter().filter(|room| !at_work.0.contains_key(room));
    Ok(resting.filter_map(|room| waits.tries(&room, now).map(|tries| (tries, room))).collect())
}

/// Fetches what is missing or damaged of one room, to the end.
///
/// # Errors
/// [`LookError`]: what was fetched so far is kept, and the room waits.
pub async fn fill(spine: &Spine, room: &RoomId) -> Result<(), LookError> {
    loop {
        let damaged = reading::damaged(&mut spine.db.read().await?, room).await?;
        let Some(row) = damaged else { break };
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
                let text = "What was said in the room while the bridge did not hear it cannot be \
                            read from the homeserver any more: it may be missing here.";
                tell(spine, &mut tx, room, &format!("unread {room} {}", spine.now().0), text)
                    .await?;
                tx.wake(portals::TOPIC);
                tx.commit().await?;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the homeserver itself says that it will not show it; a gateway before it says no
/// `errcode` of Matrix, and what is held against our bot says nothing of the room.
fn is_final(error: &MatrixError) -> bool {
    matches!(error, MatrixError::Refused(403 | 404, code, _)
        if code.starts_with("M_") && !code.starts_with("M_USER_"))
}

/// Puts the next page of a room at its place; the gap is closed where there is no more.
async fn next_page(spine: &Spine, gap: &Gap) -> Result<(), LookError> {
    let room = &gap.room;
    let behind = match &gap.behind {
        Some(place) => Some(place.clone()),
        None => known_place(spine, room).await?,
    };
    let newest = inbox::newest(spine.db.read().await?.conn()).await?;
    let page = read_page(spine, room, behind.as_deref()).await;
    if matches!(page, Err(MatrixError::Refused(400, ..))) && gap.behind.is_some() {
        // A place of before the homeserver was put back: the next try begins at what we know.
        let mut tx = spine.db.begin().await?;
        reading::filled_to(&mut tx, room, None).await?;
        tx.commit().await?;
    }
    let MessagesPage { chunk, end, .. } = page?;
    let events: Vec<RoomEvent> = chunk.iter().filter_map(|raw| event(room, raw)).collect();
    for event in &events {
        spine.encryption.read(event);
    }
    let mut tx = spine.db.begin().await?;
    let top = inbox::newest(tx.conn()).await?;
    let missed = inbox::put_page(&mut tx, &spine.sealer, spine.now(), room, &events).await?;
    match end {
        // An empty page is not the last: of what is in it nothing may be seen.
        Some(end) if Some(&end) != behind.as_ref() => {
            reading::filled_to(&mut tx, room, Some(&end)).await?;
        }
        _ => {
            // What came while the last page was asked for is behind it. Synapse shows it on one page
            // more; others end with the page that they call the last.
            inbox::put_behind_all(&mut tx, newest, top).await?;
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
            Err(MatrixError::TooLong(..)) => {}
            other => return other,
        }
    }
    matrix.messages(bot, room, Direction::Forwards, behind, 1).await
}

/// The place behind the last event that was routed; `None`, the room's beginning, if it has none.
async fn known_place(spine: &Spine, room: &RoomId) -> Result<Option<String>, LookError> {
    let last = inbox::last_routed(&mut spine.db.read().await?, room).await?;
    match last {
        Some(event) => match spine.matrix.place_behind(spine.names.bot(), room, &event).await? {
            Behind::Place(place) => Ok(Some(place)),
            Behind::Unnamed => Ok(None),
            Behind::Gone => {
                forgot(spine, room, &event).await?;
                Ok(None)
            }
        },
        None => Ok(None),
    }
}

/// The homeserver was put back: what natives said since is not in the room, and nobody there knows; who is
/// in it, and what he may do, is as it was then.
async fn forgot(spine: &Spine, room: &RoomId, last: &EventId) -> Result<(), LookError> {
    let found = found(spine, room).await?;
    tracing::error!(%room, %last, "the homeserver does not have what it said last in a room");
    metrics::counter!("causeway_rooms_put_back_total").increment(1);
    let text = "The homeserver no longer has what was last said in the Matrix room: it was put back to \
                an earlier state, as it seems. What was said between that state and now is missing in \
                the room, also what went there from here: say again what matters.";
    let mut tx = spine.db.begin().await?;
    tell(spine, &mut tx, room, &format!("forgot {room} {last}"), text).await?;
    if let Some(found) = found {
        let Some(mut portal) = portals::of_room(&mut tx, &spine.names, room).await? else {
            return Ok(tx.commit().await?);
        };
        let roster = spine.native.machine().roster(&mut tx, portal.group).await;
        portal.natives = roster.map_err(StepError::from)?;
        let news = Input::Room(News::Entered(found, None));
        if let Ok(effects) = route(&portal, &news) {
            decide(spine, &mut tx, &mut portal, &format!("as it was {room} {last}"), effects)
                .await?;
        }
    }
    Ok(tx.commit().await?)
}

/// How a room is; `None` where the bot is not in it.
async fn found(spine: &Spine, room: &RoomId) -> Result<Option<Found>, LookError> {
    let Spine { matrix, names, encryption, .. } = spine;
    let breaks = matrix.breaks();
    match matrix.whole_state(names.bot(), room).await {
        Ok(state) => {
            let found = Found::of(names, room, &state);
            encryption.found(room, found.encrypted, breaks);
            Ok(Some(found).filter(|found| found.is_in))
        }
        Err(MatrixError::Refused(403 | 404, ..)) => Ok(None),
        Err(error) => Err(error.into()),
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
    inbox::looked(tx, Looked { routed: vec![row.seq], ..Looked::default() });
    tx.wake(inbox::TOPIC);
    let text = "Something that was said in the room cannot be shown: what was kept of it is damaged, \
                and the homeserver does not have it any more.";
    tell(spine, tx, &row.room, row.event.as_str(), text).await
}

/// Tells a room's group what it will not hear, because of `cause`.
async fn tell(
    spine: &Spine,
    tx: &mut Tx,
    room: &RoomId,
    cause: &str,
    text: &str,
) -> Result<(), LookError> {
    let Some(mut portal) = portals::of_room(tx, &spine.names, room).await? else {
        return Ok(());
    };
    let notice = Effect::InGroup(InGroup::Notice(text.to_owned()));
    decide(spine, tx, &mut portal, cause, vec![notice]).await
}

/// Has this done, because of `cause`.
async fn decide(
    spine: &Spine,
    tx: &mut Tx,
    portal: &mut Portal,
    cause: &str,
    effects: Vec<Effect>,
) -> Result<(), LookError> {
    let now = spine.now();
    let cause = Cause {
        id: cause.as_bytes(),
        author: spine.names.bot().as_str(),
        accepted_at: now,
        expires_at: now.plus_ms(TOLD_MS),
    };
    let mut decided = Decided::default();
    decided.take(portal, cause, effects);
    Ok(decided.keep(tx, &spine.sealer, now, std::iter::once(portal)).await?)
}

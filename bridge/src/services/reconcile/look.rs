//! `/sync`, read on from the token of the last time: when there is doubt, and now and then without.

use std::{
    collections::BTreeSet,
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use ruma::{OwnedEventId, OwnedRoomId};
use tokio::time::{Instant, sleep_until};

use super::account::{LookError, count, event, invitation};
use crate::{
    domain::{RoomEvent, suspicion::went_back},
    gateway::matrix::{MatrixError, Synced},
    health::Kind,
    services::{Spine, random},
    steps::Step,
    storage::{
        inbox, portals,
        reading::{self, Place},
    },
};

/// Longest between two looks while something happens.
const BUSY: Duration = Duration::from_secs(30);
/// Longest between two looks while nothing does.
const QUIET: Duration = Duration::from_mins(5);
/// Events of one room in one answer; where there are more, the room is paged through.
const TIMELINE: u32 = 20;
/// Shortest between two looks.
const BETWEEN: Duration = Duration::from_millis(50);
/// Wait after the first look that failed; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait after a look that failed.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Longest wait that the homeserver may ask for.
const LONGEST_TOLD: Duration = Duration::from_mins(2);

pub(super) async fn keep_looking(spine: &Spine) {
    let mut woken = spine.db.listen(reading::TOPIC);
    let mut last = Instant::now();
    let mut seen = spine.db.counts().transactions;
    let mut wait = FIRST_WAIT;
    loop {
        let doubted = match is_doubted(spine).await {
            Ok(doubted) => doubted,
            Err(error) => {
                tracing::error!(%error, "it cannot be seen whether events are missing");
                sleep_until(Instant::now() + LONGEST_WAIT).await;
                continue;
            }
        };
        let is_busy = spine.db.counts().transactions > seen;
        let due = last + if is_busy { BUSY } else { QUIET };
        if !doubted && Instant::now() < due {
            // A quiet bridge that gets busy is looked at in time, too.
            let moment = due.min(Instant::now() + BUSY);
            tokio::select! {
                () = woken.changed() => {}
                () = sleep_until(moment) => {}
            }
            continue;
        }
        match look(spine).await {
            Ok(()) => {
                // Doubt may come with every transaction; rooms with a gap need a moment without.
                sleep_until(Instant::now() + BETWEEN).await;
                spine.troubles.goes(Kind::Account, "");
                spine.token_taken.send_if_modified(|taken| !std::mem::replace(taken, true));
                // The look's own transaction, and not others', makes it no busier.
                (last, seen) = (Instant::now(), spine.db.counts().transactions);
                wait = FIRST_WAIT;
            }
            Err(error) => {
                tracing::debug!(%error, "what happened cannot be read from the homeserver yet");
                let told = match &error {
                    LookError::Matrix(MatrixError::RateLimited(after)) => *after,
                    LookError::Matrix(MatrixError::UnknownToken) => {
                        spine.token_taken.send_replace(false);
                        None
                    }
                    _ => None,
                };
                let wait_now = told.unwrap_or_default().clamp(wait, LONGEST_TOLD);
                spine.troubles.stands(Kind::Account, "", &error.to_string(), Some(wait_now));
                sleep_until(Instant::now() + wait_now).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

async fn is_doubted(spine: &Spine) -> Result<bool, LookError> {
    Ok(reading::place(&mut spine.db.read().await?).await?.doubts > 0)
}

/// Reads on from where the last look ended.
///
/// # Errors
/// [`LookError`]: nothing is different, and there is as much doubt.
pub async fn look(spine: &Spine) -> Result<(), LookError> {
    let mut read = spine.db.read().await?;
    let before = Before {
        place: reading::place(&mut read).await?,
        gaps: reading::gaps(&mut read).await?.into_iter().map(|gap| gap.room).collect(),
        newest: inbox::newest(read.conn()).await?,
    };
    let heard = inbox::last_heard(&mut read).await?;
    drop(read);
    let token = before.place.token.as_deref();
    let mut since = token;
    let mut answer = ask(spine, token).await;
    if let (Err(LookError::Matrix(MatrixError::Refused(400, code, _))), Some(_)) = (&answer, token)
    {
        // A homeserver that was put back does not know a token of later: begun anew.
        tracing::warn!(code, "the homeserver does not know our place in its rooms any more");
        since = None;
        answer = ask(spine, None).await;
    }
    let forgotten = if answer.is_ok() { forgotten(spine, heard).await? } else { None };
    // Of what is passed over each room is read back by itself.
    if forgotten.is_some() || matches!(&answer, Ok(synced) if synced.is_passed_over) {
        since = None;
    }
    match answer {
        Ok(synced) => {
            take_over(spine, &before, since, Some(synced)).await?;
            // Only now it is dealt with.
            if forgotten.is_some() {
                *spine.forgotten.lock().unwrap_or_else(PoisonError::into_inner) = forgotten;
            }
            Ok(())
        }
        Err(LookError::Matrix(error)) if is_no_account(&error) => {
            tracing::error!(%error, "the homeserver gives no account of its rooms by /sync; each is \
                read back by itself");
            take_over(spine, &before, None, None).await
        }
        Err(error) => Err(error),
    }
}

/// What was heard last, if the homeserver does not have it and that was not dealt with: where our place
/// is older than what it was put back to, nothing else says so.
async fn forgotten(
    spine: &Spine,
    heard: Option<(OwnedRoomId, OwnedEventId)>,
) -> Result<Option<OwnedEventId>, LookError> {
    let Some((room, event)) = heard else { return Ok(None) };
    match spine.matrix.event(spine.names.bot(), &room, &event).await {
        Err(error) if error.is_code("M_NOT_FOUND") => {}
        Err(error) if error.is_away() => return Err(error.into()),
        _ => return Ok(None),
    }
    let known = spine.forgotten.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if known.as_ref() == Some(&event) {
        return Ok(None);
    }
    tracing::warn!(%room, "the homeserver does not have what was heard last; its rooms are read from \
        what we know");
    Ok(Some(event))
}

/// Whether the homeserver itself says that there is no account to be had, or says something else;
/// a gateway before it says no `errcode` of Matrix. What it holds against our bot is another matter:
/// then rooms cannot be read either.
fn is_no_account(error: &MatrixError) -> bool {
    match error {
        MatrixError::Misunderstood(_) | MatrixError::TooLong(..) => true,
        MatrixError::Refused(_, code, _) => code.starts_with("M_") && !code.starts_with("M_USER_"),
        MatrixError::NotReached(_)
        | MatrixError::NoAnswer(_)
        | MatrixError::RateLimited(_)
        | MatrixError::Server(..)
        | MatrixError::UnknownToken => false,
    }
}

/// Asks what happened since `token`; where that is too long, rooms of which more than one event is
/// new are paged through, each by itself.
async fn ask(spine: &Spine, token: Option<&str>) -> Result<Synced, LookError> {
    let (matrix, bot) = (&spine.matrix, spine.names.bot());
    let timeline = if token.is_some() { TIMELINE } else { 1 };
    match matrix.sync(bot, token, timeline, random()?).await {
        Err(error @ MatrixError::TooLong(..)) if timeline > 1 => {
            tracing::warn!(%error, "so much happened that each room is read by itself");
            Ok(matrix.sync_past(bot, token, random()?).await?)
        }
        Err(error @ MatrixError::TooLong(..)) => {
            tracing::warn!(%error, "so much is shown that it is asked for once more");
            Ok(matrix.sync_past(bot, token, random()?).await?)
        }
        other => Ok(other?),
    }
}

/// How things stood before the homeserver was asked.
struct Before {
    place: Place,
    gaps: BTreeSet<OwnedRoomId>,
    newest: i64,
}

/// Puts what was read since a place where it belongs; rows and the next place are committed
/// together. Where there is no place to go on from, every room is read back by itself.
async fn take_over(
    spine: &Spine,
    before: &Before,
    since: Option<&str>,
    synced: Option<Synced>,
) -> Result<(), LookError> {
    let now = spine.now();
    let (next, rooms, invites) = match synced {
        Some(Synced { next, rooms, invites, .. }) => (Some(next), rooms, invites),
        None => (None, Vec::new(), Vec::new()),
    };
    let mut tx = spine.db.begin().await?;
    let mut missed = 0;
    let is_older = |since: &&str| next.as_deref().is_some_and(|next| went_back(since, next));
    let back = since.filter(is_older);
    if back.is_some() {
        tracing::warn!("the homeserver was put back; its rooms are read from what we know");
    }
    let since = since.filter(|_| back.is_none());
    if since.is_none() {
        for room in portals::rooms(&mut tx).await? {
            reading::open_gap(&mut tx, &room, None).await?;
            // One that was open has a place of before the homeserver was put back.
            reading::filled_to(&mut tx, &room, None).await?;
        }
        if before.place.token.is_some() {
            // The groups' rooms may be those that they had then.
            spine.rooms_known.store(false, Ordering::Relaxed);
            tx.wake(portals::TOPIC);
        }
    }
    let top = inbox::newest(tx.conn()).await?;
    for room in rooms.iter().filter(|_| since.is_some()) {
        // A gap that was filled meanwhile has put rows where this answer knows nothing of them.
        if room.limited || before.gaps.contains(&room.room) {
            reading::open_gap(&mut tx, &room.room, since).await?;
            continue;
        }
        let events: Vec<RoomEvent> =
            room.events.iter().filter_map(|raw| event(&room.room, raw)).collect();
        for event in &events {
            spine.encryption.read(event);
        }
        if !events.is_empty() {
            missed += inbox::put_page(&mut tx, &spine.sealer, now, &room.room, &events).await?;
        }
    }
    for (room, shown) in &invites {
        let Some(event) = invitation(room, spine.names.bot(), shown, now) else { continue };
        missed += inbox::put_page(&mut tx, &spine.sealer, now, room, &[event]).await?;
    }
    // What came while the homeserver was asked is behind what it said, and not settled yet: where
    // doubt comes with every transaction, the rest goes on all the same.
    let newest = inbox::newest(tx.conn()).await?;
    let settled = if newest > top { newest } else { before.newest };
    if newest > top {
        inbox::put_behind_all(&mut tx, before.newest, top).await?;
    }
    reading::read_to(&mut tx, &before.place, next.as_deref(), settled).await?;
    spine.steps.reached(Step::ReadingBack).await;
    tx.commit().await?;
    spine.steps.reached(Step::ReadBack).await;
    count(missed);
    Ok(())
}

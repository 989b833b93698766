//! `/sync`, read on from the token of the last time: when there is doubt, and now and then without.

use std::{collections::BTreeSet, time::Duration};

use ruma::OwnedRoomId;
use tokio::time::{Instant, sleep_until};

use super::account::{LookError, count, event};
use crate::{
    domain::RoomEvent,
    gateway::matrix::{MatrixError, Synced},
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
/// Wait after the first look that failed; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait after a look that failed.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

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
                // The look's own transaction, and not others', makes it no busier.
                (last, seen) = (Instant::now(), spine.db.counts().transactions);
                wait = FIRST_WAIT;
            }
            Err(error) => {
                tracing::warn!(%error, "what happened cannot be read from the homeserver yet");
                sleep_until(Instant::now() + wait).await;
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
        newest: inbox::newest(&mut read).await?,
    };
    drop(read);
    let bot = spine.names.bot();
    let token = before.place.token.as_deref();
    let synced = match spine.matrix.sync(bot, token, random()?).await {
        // A homeserver that was put back does not know a token of later: begun anew.
        Err(MatrixError::Refused(400, code, _)) if token.is_some() => {
            tracing::warn!(code, "the homeserver does not know our place in its rooms any more");
            let place = Place { token: None, ..before.place };
            let before = Before { place, ..before };
            let synced = spine.matrix.sync(bot, None, random()?).await?;
            return take_over(spine, &before, synced).await;
        }
        other => other?,
    };
    take_over(spine, &before, synced).await
}

/// How things stood before the homeserver was asked.
struct Before {
    place: Place,
    gaps: BTreeSet<OwnedRoomId>,
    newest: i64,
}

/// Puts what was read at its place; rows and token are committed together.
async fn take_over(spine: &Spine, before: &Before, synced: Synced) -> Result<(), LookError> {
    let now = spine.now();
    let mut tx = spine.db.begin().await?;
    let mut missed = 0;
    let since = before.place.token.as_deref();
    if since.is_none() {
        for room in portals::rooms(&mut tx).await? {
            reading::open_gap(&mut tx, &room, None).await?;
        }
    }
    for room in &synced.rooms {
        if since.is_none() {
            continue;
        }
        // A gap that was filled meanwhile has put rows where this answer knows nothing of them.
        if room.limited || before.gaps.contains(&room.room) {
            reading::open_gap(&mut tx, &room.room, since).await?;
            continue;
        }
        let events: Vec<RoomEvent> =
            room.events.iter().filter_map(|raw| event(&room.room, raw)).collect();
        if !events.is_empty() {
            missed +=
                inbox::put_right(&mut tx, &spine.sealer, now, &room.room, &events, before.newest)
                    .await?;
        }
    }
    reading::read_to(&mut tx, &before.place, &synced.next).await?;
    spine.steps.reached(Step::ReadingBack).await;
    tx.commit().await?;
    spine.steps.reached(Step::ReadBack).await;
    count(missed);
    Ok(())
}

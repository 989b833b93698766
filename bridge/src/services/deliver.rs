//! Outbox → out: lanes, each by one worker at a time, first in, first out.
//!
//! A row stays until its outcome is committed; trying it twice is safe. No transaction stays open
//! across the network.

mod begun;
mod by_hand;
mod leases;
mod markers;
mod paused;
mod relations;
mod slots;
mod slow;
mod to_matrix;
mod to_native;
mod waits;

use std::time::Duration;

pub use by_hand::{Bench, ByHandError};
pub use leases::Leases;
pub use markers::Markers;
pub use paused::{end_in_paused, run as run_paused};

use causeway_protocol::ids::Timestamp;
use causeway_store::{Script, Tx};

use futures_util::{StreamExt as _, future::OptionFuture, stream::FuturesUnordered};
use tokio::{sync::SemaphorePermit, time::Instant};

use self::{
    begun::Begun,
    leases::Lease,
    markers::Found,
    waits::{Ready, Stop},
};
use super::{AFTER_FAULT, Spine, Step, StepError, TOGETHER};
use crate::{
    domain::{
        Outcome,
        effect::Deed,
        ending::{Word, word_of, word_of_unreadable},
        ghost::Names,
        lane::Lane,
        portal::PortalState,
        retry::{Failure, Meaning, Place, Tries, judge, meaning},
    },
    figures::MESSAGE_SECONDS,
    gateway::matrix::MatrixError,
    steps,
    storage::{
        self, answered, dead_letters,
        effects::{Cause, Decided},
        lanes,
        outbox::{self, Entry, Head, Kept, Stored},
        portals,
        sealed::Sealer,
    },
};

/// Time after which outcomes are committed, even of fewer rows.
const SOON: Duration = Duration::from_millis(20);
/// Commits after which a lane gives way to others.
const ROUNDS: u32 = 16;
/// Time after which a lane gives way to others.
const TURN: Duration = Duration::from_millis(50);
/// Most lanes that one worker has, those that hang included.
const LANES_OF_ONE: usize = 64;
/// Wait of a lane that met a fault of ours.
const FAULT: Duration = Duration::from_secs(5);
/// Time in which the same failure is told once.
const NOTICE_MS: u64 = 60 * 60 * 1_000;
/// Wait between looks at whether the homeserver takes our token again.
const TOKEN_WAIT: Duration = Duration::from_secs(30);

/// Delivers until `stop` is done, many lanes at once. Several may run.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut serving = FuturesUnordered::new();
    let mut next = None;
    let mut wait = None;
    loop {
        // Once begun it goes on, full or not: what it has of others' it must not keep asleep.
        if next.is_none() && serving.len() < LANES_OF_ONE {
            next = Some(Box::pin(serve_next(spine, wait.take())));
        }
        tokio::select! {
            Some((lent, later)) = OptionFuture::from(next.as_mut()), if next.is_some() => {
                if let Some((lease, place)) = lent {
                    serving.push(serve_in_place(spine, lease, place));
                }
                (next, wait) = (None, later);
            }
            Some(()) = serving.next() => {}
            () = &mut stop => return,
        }
    }
}

/// The next lane and a place for it, after `wait`; or how long to wait, since none could be looked
/// for.
async fn serve_next(
    spine: &Spine,
    wait: Option<Duration>,
) -> (Option<(Lease, Option<SemaphorePermit<'_>>)>, Option<Duration>) {
    if let Some(wait) = wait {
        tokio::time::sleep(wait).await;
    }
    let place = spine.leases.slots().place().await;
    match spine.leases.wait(spine).await {
        Ok(lease) => (Some((lease, place)), None),
        Err(error) => {
            tracing::error!(%error, "no lane could be looked for; trying again");
            (None, Some(AFTER_FAULT))
        }
    }
}

/// Serves a lane, which keeps its place for as long as others need theirs.
async fn serve_in_place(spine: &Spine, mut lease: Lease, place: Option<SemaphorePermit<'_>>) {
    let (began, patience) = (Instant::now(), spine.leases.slots().patience());
    let mut place = Some(place);
    let sealed = lease.begun.take();
    let served = {
        let served = serve(spine, &lease.ready, sealed);
        tokio::pin!(served);
        tokio::select! {
            served = &mut served => served,
            () = tokio::time::sleep(patience) => {
                drop(place.take());
                served.await
            }
        }
    };
    // What is left needs none.
    drop(place);
    let served = match served {
        Ok(end) => {
            spine.leases.slots().took(began.elapsed());
            ends(spine, lease, end).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "a lane could not be served; trying again");
    }
}

/// Serves the lane that has waited longest.
///
/// # Errors
/// [`StepError`]: its rows are still there.
pub async fn step(spine: &Spine) -> Result<Step, StepError> {
    match spine.leases.next(spine).await? {
        Ok(mut lease) => {
            let begun = lease.begun.take();
            let end = serve(spine, &lease.ready, begun).await?;
            ends(spine, lease, end).await.map(|()| Step::Did)
        }
        Err(until) => Ok(Step::Idle(until.map(|until| {
            let left = until.saturating_sub(spine.steady());
            spine.now().plus_ms(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
        }))),
    }
}

/// What is left of serving a lane: the end of its rows comes to disk, with whatever is committed next.
/// Until then the lane is ours, and nobody takes its rows for such as wait. Should it not come to disk,
/// they are carried out again, and the other side has them already.
struct End {
    script: Script,
    /// What is reached once it is there.
    step: steps::Step,
}

/// Serves a lane, as far as others may be kept waiting for it.
async fn serve(
    spine: &Spine,
    leased: &Ready,
    begun: Option<Begun>,
) -> Result<Option<End>, StepError> {
    let served = match leased.lane {
        Lane::ToMatrix(_) | Lane::Bot(_) | Lane::Aside(..) | Lane::BotAside(..) => {
            to_matrix::serve(spine, leased).await
        }
        Lane::ToNative(_) => to_native::serve(spine, leased, begun).await,
    };
    if let Err(error) = &served {
        stumbled(spine, leased, error).await?;
    }
    served
}

/// Has the end of rows written down; then the lane is anybody's.
async fn ends(spine: &Spine, lease: Lease, end: Option<End>) -> Result<(), StepError> {
    let Some(End { script, step }) = end else {
        spine.leases.served(&spine.troubles, &lease.ready);
        return Ok(());
    };
    let (leased, troubles) = (lease.ready.clone(), spine.troubles.clone());
    let number = lease.number;
    // Free before anybody hears of what was committed with it: who looks then finds it so.
    let then = move || {
        lease.leases.served(&troubles, &lease.ready);
        drop(lease);
    };
    let kept = spine.db.write_soon(script, Box::new(then));
    spine.leases.ends(&leased.lane, number);
    spine.steps.reached(steps::Step::Ending).await;
    if let Err(error) = kept.await {
        let error = error.into();
        stumbled(spine, &leased, &error).await?;
        return Err(error);
    }
    spine.steps.reached(step).await;
    Ok(())
}

/// This lane waits a moment; the others go on.
async fn stumbled(spine: &Spine, leased: &Ready, error: &StepError) -> Result<(), StepError> {
    let mut tx = spine.db.begin().await?;
    let stop = Stop { wait: FAULT, away: false, row: None };
    spine.leases.postpone(spine, &mut tx, leased, stop, &error.to_string()).await?;
    Ok(tx.commit().await?)
}

/// Whether the homeserver takes our token, asked again after it had not; else when to ask again.
async fn token_is_taken(spine: &Spine) -> Result<(), Duration> {
    if *spine.token_taken.borrow() {
        return Ok(());
    }
    if matches!(spine.matrix.whoami(None).await, Err(MatrixError::UnknownToken)) {
        return Err(spine.steady() + TOKEN_WAIT);
    }
    spine.token_taken.send_replace(true);
    Ok(())
}

/// What it comes to that `place` was answered so, where nothing mends it.
fn failed(place: Place, error: &MatrixError) -> Failure {
    let text = error.to_string();
    match error {
        MatrixError::NotReached(_) => Failure::NotNow(text, None),
        MatrixError::RateLimited(after) => {
            let ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
            Failure::NotNow(text, ms)
        }
        // A gateway says nothing of the homeserver.
        MatrixError::Server(_, errcode, _) if !errcode.is_empty() => Failure::Fault(text),
        MatrixError::NoAnswer(_)
        | MatrixError::Server(..)
        | MatrixError::Misunderstood(_)
        | MatrixError::TooLong(..) => Failure::Unknown(text),
        MatrixError::UnknownToken => Failure::Token,
        MatrixError::Refused(status, errcode, _) => {
            Failure::refused(meaning(place, *status, errcode), text)
        }
    }
}

/// Notes how long messages took that the other side has now.
fn took(spine: &Spine, direction: &'static str, accepted: &mut Vec<Timestamp>) {
    let seconds = metrics::histogram!(MESSAGE_SECONDS, "direction" => direction);
    for at in accepted.drain(..) {
        seconds.record(Duration::from_millis(spine.now().0.saturating_sub(at.0)));
    }
}

/// What `failure` means for `row`.
fn judged<D>(
    spine: &Spine,
    leased: &Ready,
    row: &Stored<D>,
    is_invite: bool,
    failure: &Failure,
) -> Result<Outcome, StepError> {
    let (now, agreed) = (spine.steady(), spine.leases.agreed(spine));
    // Whose words fail alone, in which room, is known; none of them has five minutes for itself.
    let (room, stood) = match (&leased.lane, row.entry.accepted_at) {
        (Lane::Aside(portal, _), Some(accepted)) => {
            let age = Duration::from_millis(agreed.0.saturating_sub(accepted.0));
            (Some(*portal), leased.failed_for(now).min(age))
        }
        _ => (None, leased.stood(row.id, now)),
    };
    let tries = Tries {
        refused: row.refused,
        limit: spine.delivery_limit,
        failures: leased.failures,
        stood,
        others_do_well: spine.leases.waits().rooms_take(now, room),
        room_takes: spine.leases.waits().just_took(now, leased.lane.portal()),
        is_alone: room.is_some(),
        is_invite,
        is_over: agreed >= row.entry.expires_at,
    };
    let outcome = judge(failure, tries, super::random()?);
    tracing::debug!(lane = %leased.lane, row = row.id, %failure, ?outcome, "not delivered");
    Ok(outcome)
}

/// What it takes to bury a row.
#[derive(Clone, Copy)]
struct Rites<'a> {
    sealer: &'a Sealer,
    names: &'a Names,
    now: Timestamp,
}

impl Spine {
    fn rites(&self) -> Rites<'_> {
        Rites { sealer: &self.sealer, names: &self.names, now: self.now() }
    }
}

/// Buries a row; the lane goes on, and the other side is told what it will not see.
async fn bury<D: Clone + Into<Deed>>(
    rites: Rites<'_>,
    tx: &mut Tx,
    row: &Stored<D>,
    reason: &str,
    tries: u32,
) -> Result<(), storage::Error> {
    let mut row = row.clone().with(row.entry.deed.clone().into());
    row.entry.lane = row.entry.lane.home(&row.entry.deed);
    let Stored { entry, tried_at, .. } = &row;
    given_up(tx, entry, reason);
    let Rites { sealer, now, .. } = rites;
    dead_letters::put(tx, sealer, now, entry, reason, tries, *tried_at).await?;
    let word = word_of(&entry.deed, &entry.author, reason);
    tell(rites, tx, entry, word).await
}

/// Buries a row that cannot be read, and takes it out.
async fn bury_unreadable(
    rites: Rites<'_>,
    tx: &mut Tx,
    row: &Stored<Kept>,
) -> Result<(), storage::Error> {
    let (entry, reason) = (&row.entry, row.entry.deed.why.to_string());
    given_up(tx, entry, &reason);
    dead_letters::put_unreadable(tx, rites.sealer, rites.now, row).await?;
    outbox::remove(tx, row.id).await?;
    let word = word_of_unreadable(&entry.lane, &entry.author, &reason);
    tell(rites, tx, entry, word).await
}

fn given_up<D>(tx: &mut Tx, entry: &Entry<D>, reason: &str) {
    tracing::warn!(lane = %entry.lane, author = entry.author, reason, "given up");
    metrics::counter!("causeway_dead_letters_total").increment(1);
    if !matches!(entry.lane, Lane::ToNative(_)) {
        // The room may not be what it was.
        tx.wake(portals::TOPIC);
    }
}

/// Tells the side that it came from, once an hour for the same author and reason.
async fn tell<D>(
    Rites { sealer, names, now }: Rites<'_>,
    tx: &mut Tx,
    entry: &Entry<D>,
    word: Option<Word>,
) -> Result<(), storage::Error> {
    let Some(Word { notice, about }) = word else { return Ok(()) };
    let mut portal = portals::place(tx.conn(), names, entry.lane.portal()).await?;
    if portal.state == PortalState::Closed
        && portal.refused.is_none()
        && entry.accepted_at.is_some()
        && matches!(notice, Deed::InGroup(_))
    {
        // It can say nothing there now.
        return answered::owes(tx, portal.id, &entry.author).await;
    }
    let hour = now.0 / NOTICE_MS;
    let id = format!("dead {hour} {} {about}", entry.author);
    let cause = Cause {
        id: id.as_bytes(),
        author: names.bot().as_str(),
        accepted_at: now,
        expires_at: now.plus_ms(NOTICE_MS),
    };
    let mut decided = Decided::default();
    decided.take(&mut portal, cause, vec![notice.into()]);
    decided.keep(tx, sealer, now, std::iter::once(&mut portal)).await
}

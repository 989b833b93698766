//! Into the room: as a ghost, or as the bot.

mod act;
mod send;

use std::{collections::BTreeMap, time::Duration};

use causeway_protocol::ids::{AccountId, Timestamp};
use causeway_store::{Conn, Tx};
use ruma::OwnedRoomId;
use tokio::time::Instant;

use super::{
    Failure, Head, Meaning, Outcome, Place, ROUNDS, Ready, SOON, Spine, StepError, Stop, Stored,
    TURN, bury, bury_unreadable, failed, judged, meaning, outbox, relations, steps, took,
};
use crate::{
    domain::{
        effect::{Here, InRoom},
        lane::Lane,
        portal::Portal,
    },
    gateway::matrix::MatrixError,
    storage::{
        ghosts::{self, Standing},
        inbox, lanes,
        links::{self, Link},
        portals,
    },
};

/// What metrics call this way.
const DIRECTION: &str = "native_to_matrix";

/// Carries out the first rows of a lane, until it is empty, has to wait, or others are due.
pub(super) async fn serve(spine: &Spine, leased: &Ready) -> Result<(), StepError> {
    let (lane, mut leased, began) = (&leased.lane, leased.clone(), Instant::now());
    // To look costs no commit; what was done and what comes next share one.
    let mut read = spine.db.read().await?;
    let mut next = first(spine, read.conn(), lane).await?;
    drop(read);
    let mut rounds = 0;
    while let Some((portal, head)) = next {
        let rows = match head {
            Head::Rows(rows) => rows,
            Head::Unreadable(row) => {
                let mut tx = spine.db.begin().await?;
                bury_unreadable(spine, &mut tx, &row).await?;
                next = first(spine, tx.conn(), lane).await?;
                tx.commit().await?;
                continue;
            }
        };
        spine.steps.reached(steps::Step::Claimed).await;
        let (facts, end) = carry_out(spine, &leased, portal, &rows).await?;
        if end.done > 0 {
            leased = leased.went_on();
            spine.leases.waits().taken(spine.steady());
        }
        let mut delivered = delivered_of(&rows, &facts, &end).collect();
        let mut tx = spine.db.begin().await?;
        let has_to_wait = record(spine, &mut tx, &leased, &rows, facts, end).await?;
        rounds += 1;
        next = if has_to_wait || rounds == ROUNDS || began.elapsed() >= TURN {
            None
        } else {
            first(spine, tx.conn(), lane).await?
        };
        if next.is_none() && !has_to_wait {
            spine.leases.release(spine, &mut tx, lane).await?;
        }
        spine.steps.reached(steps::Step::RecordingEvents).await;
        tx.commit().await?;
        took(spine, DIRECTION, &mut delivered);
        spine.steps.reached(steps::Step::RecordedEvents).await;
        if next.is_none() {
            return Ok(());
        }
    }
    let mut tx = spine.db.begin().await?;
    spine.leases.release(spine, &mut tx, lane).await?;
    Ok(tx.commit().await?)
}

/// What stands first in a lane, and its portal; `None` if there are none, or the lane is paused.
async fn first(
    spine: &Spine,
    conn: &mut Conn,
    lane: &Lane,
) -> Result<Option<(Portal, Head<InRoom>)>, StepError> {
    let head = outbox::first(conn, &spine.sealer, lane).await?;
    if matches!(&head, Head::Rows(rows) if rows.is_empty()) {
        return Ok(None);
    }
    let portal = portals::place(conn, &spine.names, lane.portal()).await?;
    Ok(Some((portal, head)))
}

/// When the messages were accepted that a round has delivered.
fn delivered_of<'a>(
    rows: &'a [Stored<InRoom>],
    facts: &'a Facts,
    end: &End,
) -> impl Iterator<Item = Timestamp> + 'a {
    let is_dead = |index: usize| facts.dead.iter().any(|dead| dead.index == index);
    let done = rows.iter().take(end.done).enumerate();
    done.filter(move |(index, _)| !is_dead(*index)).filter_map(|(_, row)| row.entry.accepted_at)
}

/// Rows that are carried out in one go, and what was learnt.
struct Round<'a> {
    spine: &'a Spine,
    portal: Portal,
    facts: Facts,
    /// What the rows say of accounts that this round has met.
    met: BTreeMap<AccountId, (Standing, bool)>,
}

/// What was learnt while rows were carried out; committed with them.
#[derive(Debug, Default)]
struct Facts {
    made: BTreeMap<AccountId, String>,
    standing: BTreeMap<AccountId, Standing>,
    room: Option<OwnedRoomId>,
    links: Vec<Link>,
    dead: Vec<Dead>,
}

/// A row that is given up.
#[derive(Debug)]
struct Dead {
    index: usize,
    reason: String,
    /// When it was tried just now, if that may have been done all the same.
    tried_at: Option<Timestamp>,
}

/// How far a round came.
struct End {
    /// Rows that are done with, from the first.
    done: usize,
    /// Why the next one is not: to be tried again.
    stopped: Option<(Failure, Outcome)>,
}

async fn carry_out(
    spine: &Spine,
    leased: &Ready,
    portal: Portal,
    rows: &[Stored<InRoom>],
) -> Result<(Facts, End), StepError> {
    let began = Instant::now();
    let mut round = Round { spine, portal, facts: Facts::default(), met: BTreeMap::new() };
    for (index, row) in rows.iter().enumerate() {
        if index > 0 && began.elapsed() >= SOON {
            return Ok((round.facts, End { done: index, stopped: None }));
        }
        let Err(failure) = round.carry_out(row).await? else { continue };
        let leased = if index > 0 { &leased.went_on() } else { leased };
        let is_invite = matches!(row.entry.deed, InRoom::Invite(_));
        match judged(spine, leased, row, is_invite, &failure)? {
            Outcome::Done => {}
            Outcome::Dead(reason) => {
                let tried_at = failure.is_unknown().then(|| spine.now());
                round.facts.dead.push(Dead { index, reason, tried_at });
            }
            outcome @ (Outcome::Again(..) | Outcome::Halt) => {
                let stopped = Some((failure, outcome));
                return Ok((round.facts, End { done: index, stopped }));
            }
        }
    }
    Ok((round.facts, End { done: rows.len(), stopped: None }))
}

/// Writes down what a round came to; `true` if the lane has been given back, since it has to wait.
async fn record(
    spine: &Spine,
    tx: &mut Tx,
    leased: &Ready,
    rows: &[Stored<InRoom>],
    facts: Facts,
    end: End,
) -> Result<bool, StepError> {
    let (now, lane) = (spine.now(), &leased.lane);
    for (account, name) in &facts.made {
        if let Some(ghost) = spine.names.ghost(account) {
            ghosts::made(tx, now, account, &ghost, name).await?;
        }
    }
    for (account, standing) in &facts.standing {
        match standing {
            Standing::Joined => ghosts::has_joined(tx, lane.portal(), account).await?,
            Standing::Absent => ghosts::has_left(tx, lane.portal(), account).await?,
            Standing::Removed(_) => {}
        }
    }
    if let Some(room) = &facts.room {
        let mut portal = portals::place(tx.conn(), &spine.names, lane.portal()).await?;
        portal.apply(&Here::Made(room.clone()));
        portals::save(tx, &mut portal).await?;
        inbox::room_is_made(tx, room).await?;
        inbox::forget_early(tx).await?;
        // Who is to be invited waited for it.
        lanes::hurry(tx);
    }
    links::put(tx, &facts.links).await?;
    for Dead { index, reason, tried_at } in &facts.dead {
        if let Some(row) = rows.get(*index) {
            let row = Stored { tried_at: row.tried_at.or(*tried_at), ..row.clone() };
            bury(spine, tx, &row, reason).await?;
        }
    }
    if let Some(last) = end.done.checked_sub(1).and_then(|last| rows.get(last)) {
        outbox::done(tx, lane, last.id).await?;
    }
    metrics::counter!("causeway_delivered_total", "to" => "matrix").increment(end.done as u64);
    let Some((failure, outcome)) = end.stopped else { return Ok(false) };
    let (wait, counts) = match outcome {
        Outcome::Again(wait, counts) => (wait, counts),
        Outcome::Halt => {
            spine.token_taken.send_replace(false);
            tracing::error!("{failure}; nothing is delivered until it does");
            (0, false)
        }
        Outcome::Done | Outcome::Dead(_) => (0, false),
    };
    let row = rows.get(end.done);
    if let Some(row) = row
        && (counts || failure.is_unknown())
    {
        outbox::tried(tx, now, row.id, counts).await?;
    }
    let stop = Stop {
        wait: Duration::from_millis(wait),
        away: failure.is_away(),
        row: row.map(|row| row.id),
    };
    spine.leases.postpone(spine, tx, leased, stop, &failure.to_string()).await?;
    Ok(true)
}

/// What a refusal or failure at `place` comes to.
fn at(place: Place) -> impl Fn(MatrixError) -> Failure {
    move |error| failed(place, &error)
}

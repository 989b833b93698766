//! Into the room: as a ghost, or as the bot.

mod act;
mod asked;
mod encrypted;
mod enter;
mod find;
mod readers;
mod record;
mod replaced;
mod send;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use causeway_protocol::ids::{AccountId, Timestamp};
use causeway_store::{Conn, Script, Tx};
use ruma::OwnedUserId;
use tokio::time::Instant;

use self::record::{record, settled};
use super::{
    Failure, Found, Head, Leases, Meaning, Outcome, Place, ROUNDS, Ready, SOON, Spine, StepError,
    Stop, Stored, TURN, bury, bury_unreadable, failed, judged, meaning, outbox, relations, steps,
    took,
};
use crate::{
    domain::{News, effect::InRoom, lane::Lane, portal::Portal},
    gateway::matrix::MatrixError,
    storage::{ghosts::Standing, lanes, links::Link},
};

/// What metrics call this way.
const DIRECTION: &str = "native_to_matrix";
/// People of a room whose rows fail, one after the other, before it is the room that fails.
const SUSPECTS: usize = outbox::LEFT_OUT;

/// `Ok(Err(_))`: it failed, and what follows is to be judged.
type Tried = Result<Result<(), Failure>, StepError>;

/// Carries out the first rows of a lane, until it is empty, has to wait, or others are due.
pub(super) async fn serve(spine: &Spine, leased: &Ready) -> Result<Option<super::End>, StepError> {
    let (lane, mut leased, began) = (&leased.lane, leased.clone(), Instant::now());
    // To look costs no commit; what was done and what comes next share one.
    let mut read = spine.db.read().await?;
    let mut next = first(spine, read.conn(), lane, Script::default()).await?;
    drop(read);
    if next.is_none() {
        let (mut tx, mut script) = (spine.db.begin().await?, Script::default());
        Leases::release(spine, &mut script, lane);
        script.run(tx.conn()).await?;
        tx.commit().await?;
        return Ok(None);
    }
    let mut rounds = 0;
    while let Some((portal, head)) = next {
        let mut rows = match head {
            Head::Rows(rows) => rows,
            Head::Unreadable(row) => {
                let (mut tx, mut script) = (spine.db.begin().await?, Script::default());
                bury_unreadable(spine.rites(), &mut tx, &row).await?;
                Leases::release(spine, &mut script, lane);
                next = first(spine, tx.conn(), lane, script).await?;
                rounds += 1;
                next = next.filter(|_| goes_on(spine, &mut tx, &leased, (rounds, began)));
                tx.commit().await?;
                continue;
            }
        };
        spine.steps.reached(steps::Step::Claimed).await;
        let (facts, end) = carry_out(spine, &leased, portal, &mut rows).await?;
        if !end.done.is_empty() {
            spine.leases.waits().taken(spine.steady(), lane.portal());
        }
        let mut delivered = delivered_of(&rows, &end).collect();
        if end.is_all(&rows) && facts.are_links() {
            // What has come since has woken whoever looks for lanes.
            let script = settled(spine, &leased, &rows, &facts, &end);
            spine.steps.reached(steps::Step::RecordingEvents).await;
            // The homeserver has them, whatever becomes of us.
            took(spine, DIRECTION, &mut delivered);
            return Ok(Some(super::End { script, step: steps::Step::RecordedEvents }));
        }
        let mut tx = spine.db.begin().await?;
        let after = end.after(&leased, &facts);
        next = record(spine, &mut tx, &leased, &rows, facts, end).await?;
        leased = after;
        rounds += 1;
        next = next.filter(|_| goes_on(spine, &mut tx, &leased, (rounds, began)));
        spine.steps.reached(steps::Step::RecordingEvents).await;
        tx.commit().await?;
        took(spine, DIRECTION, &mut delivered);
        spine.steps.reached(steps::Step::RecordedEvents).await;
    }
    Ok(None)
}

/// Whether the lane that has more goes on at once; else it does when others had their turn.
fn goes_on(spine: &Spine, tx: &mut Tx, leased: &Ready, (rounds, began): (u32, Instant)) -> bool {
    let goes_on = rounds < ROUNDS && began.elapsed() < TURN;
    if !goes_on {
        spine.leases.waits().gives_way(spine.steady(), leased);
        lanes::look(tx);
    }
    goes_on
}

/// What stands first in a lane, and its portal, after what `script` does; `None` if there are none, or
/// the lane is paused.
async fn first(
    spine: &Spine,
    conn: &mut Conn,
    lane: &Lane,
    script: Script,
) -> Result<Option<(Portal, Head<InRoom>)>, StepError> {
    let (portal, head) = outbox::first(conn, &spine.sealer, &spine.names, lane, script).await?;
    let is_empty = matches!(&head, Head::Rows(rows) if rows.is_empty());
    Ok((!is_empty).then_some((portal, head)))
}

/// When the messages were accepted that a round has delivered.
fn delivered_of<'a>(
    rows: &'a [Stored<InRoom>],
    end: &'a End,
) -> impl Iterator<Item = Timestamp> + 'a {
    end.done.iter().filter_map(|index| rows.get(*index)?.entry.accepted_at)
}

/// Rows that are carried out in one go, and what was learnt.
struct Round<'a> {
    spine: &'a Spine,
    portal: Portal,
    facts: Facts,
    /// What the rows say of accounts that this round has met.
    met: BTreeMap<AccountId, (Standing, bool)>,
    /// The room's people, once a message may name some of them.
    people: Option<BTreeMap<OwnedUserId, String>>,
}

/// What was learnt while rows were carried out; committed with them.
#[derive(Debug, Default)]
struct Facts {
    made: BTreeMap<AccountId, String>,
    standing: BTreeMap<AccountId, Standing>,
    /// What became known of the room itself.
    news: Vec<News>,
    links: Vec<Link>,
    dead: Vec<Dead>,
    /// The group has another room now: what may have been sent may be in the one before.
    moved: bool,
}

impl Facts {
    /// Whether they are links alone.
    fn are_links(&self) -> bool {
        let Self { made, standing, news, links: _, dead, moved } = self;
        let is_news = !made.is_empty() || !standing.is_empty() || !news.is_empty() || *moved;
        !is_news && dead.is_empty()
    }
}

/// A row that is given up.
#[derive(Debug)]
struct Dead {
    index: usize,
    reason: String,
    /// When it was tried just now, if that may have been done all the same.
    tried_at: Option<Timestamp>,
}

/// How far a round came; rows by their index.
#[derive(Default)]
struct End {
    /// Rows that are done.
    done: Vec<usize>,
    /// Rows that failed while others of the lane did not.
    aside: Vec<Failed>,
    /// Rows that go beside the others untried: invites, since one is not answered, and what is theirs
    /// who are slow.
    apart: Vec<usize>,
    /// Why the lane has to wait, for the first of them; in company none of them was done.
    stopped: Vec<Failed>,
}

/// A row that is to be tried again.
struct Failed {
    index: usize,
    failure: Failure,
    outcome: Outcome,
    /// How long it was tried.
    took: Duration,
}

impl End {
    /// Whether these were all that the lane had, and all are done.
    fn is_all(&self, rows: &[Stored<InRoom>]) -> bool {
        let Self { done, aside, apart, stopped } = self;
        let rest = aside.is_empty() && apart.is_empty() && stopped.is_empty();
        rest && done.len() == rows.len() && rows.len() < outbox::HEAD
    }

    /// The lane as it stands after that.
    fn after(&self, leased: &Ready, facts: &Facts) -> Ready {
        if !self.done.is_empty() || !self.aside.is_empty() {
            leased.went_on()
        } else if facts.dead.is_empty() {
            leased.clone()
        } else {
            leased.is_rid()
        }
    }
}

async fn carry_out(
    spine: &Spine,
    leased: &Ready,
    portal: Portal,
    rows: &mut Vec<Stored<InRoom>>,
) -> Result<(Facts, End), StepError> {
    let began = Instant::now();
    let mut round =
        Round { spine, portal, facts: Facts::default(), met: BTreeMap::new(), people: None };
    let mut end = End::default();
    // They failed, and may be the only ones to fail: another's row will show it.
    let mut suspects: Vec<Failed> = Vec::new();
    // Those whose rows are left out of this round.
    let mut held: Vec<String> = Vec::new();
    let mut next = in_order(&round.portal, &leased.lane, rows);
    loop {
        let Some((index, is_early)) = next.pop_front() else {
            if suspects.is_empty() || !rows.len().is_multiple_of(outbox::HEAD) {
                break;
            }
            // All of these are theirs who fail: somebody else may stand behind them.
            let others = behind(spine, &leased.lane, rows, &held).await?;
            next.extend((rows.len()..).take(others.len()).map(|index| (index, false)));
            rows.extend(others);
            if next.is_empty() {
                break;
            }
            continue;
        };
        let Some(row) = rows.get(index) else { break };
        if index > 0 && suspects.is_empty() && began.elapsed() >= SOON {
            break;
        }
        let who = row.entry.deed.who();
        match who {
            Some(who) if held.iter().any(|held| held == who) => continue,
            // What concerns the whole room waits for what stands before it.
            None if !held.is_empty() => break,
            Some(_) | None => {}
        }
        let own = who.filter(|who| leased.lane.aside(who).is_some());
        let (slow, portal, asked) = (spine.leases.slow(), leased.lane.portal(), spine.steady());
        if let Some(who) = own.filter(|who| slow.is_slow(asked, portal, who)) {
            held.push(who.to_owned());
            end.apart.push(index);
            continue;
        }
        let tried = round.carry_out(row).await?;
        let now = spine.steady();
        let took = now.saturating_sub(asked);
        let Err(failure) = tried else {
            // What was asked before may have been done since.
            if let Some(who) = who.filter(|_| row.tried_at.is_none()) {
                slow.took(now, portal, who, took);
            }
            for Failed { index, took, .. } in &suspects {
                if let Some(who) = rows.get(*index).and_then(|row| row.entry.deed.who()) {
                    slow.took(now, portal, who, *took);
                }
            }
            if !is_early {
                end.done.push(index);
            }
            end.aside.append(&mut suspects);
            continue;
        };
        let ready = &end.after(leased, &round.facts);
        let is_invite = row.entry.deed.is_invitation();
        match judged(spine, ready, row, is_invite, &failure)? {
            Outcome::Done => end.done.push(index),
            Outcome::Dead(reason) => {
                let tried_at = failure.is_unknown().then(|| spine.now());
                round.facts.dead.push(Dead { index, reason, tried_at });
            }
            outcome @ (Outcome::Again(..) | Outcome::Halt) => {
                let (is_own, may_be) = if own.is_some() {
                    (failure.is_own(is_invite), failure.may_be_own(ready.failures, took))
                } else {
                    (false, false)
                };
                let failed = Failed { index, failure, outcome, took };
                held.extend(who.map(ToOwned::to_owned));
                if is_own {
                    if is_invite && failed.failure.is_unknown() {
                        let is_invite = |index: &usize| {
                            let row = rows.get(*index);
                            row.is_some_and(|row| row.entry.deed.is_invitation())
                        };
                        end.apart.extend(next.iter().map(|(index, _)| *index).filter(is_invite));
                        next.retain(|(index, _)| !end.apart.contains(index));
                    }
                    end.aside.push(failed);
                    continue;
                }
                suspects.push(failed);
                // So many fail: it is the room, or the homeserver.
                if !may_be || suspects.len() >= SUSPECTS {
                    break;
                }
            }
        }
    }
    end.stopped = suspects;
    Ok((round.facts, end))
}

/// What stands behind rows that are all of `held`, and is of none of them.
async fn behind(
    spine: &Spine,
    lane: &Lane,
    rows: &[Stored<InRoom>],
    held: &[String],
) -> Result<Vec<Stored<InRoom>>, StepError> {
    let Some(last) = rows.last() else { return Ok(Vec::new()) };
    let mut read = spine.db.read().await?;
    Ok(outbox::of_others(read.conn(), &spine.sealer, lane, last.id, held).await?)
}

/// The order in which rows are carried out, by their index, and whether one goes before its turn, and
/// again in its turn, which may be in another room: who has to go from an encrypted room does not wait
/// for what he may not say there.
fn in_order(portal: &Portal, lane: &Lane, rows: &[Stored<InRoom>]) -> VecDeque<(usize, bool)> {
    let may_be_early = portal.encrypted && matches!(lane, Lane::Aside(..));
    let goes = |row: &Stored<InRoom>| {
        may_be_early && matches!(row.entry.deed, InRoom::Leave(_) | InRoom::PutOut(..))
    };
    let indices = |early| rows.iter().enumerate().filter(move |(_, row)| goes(row) == early);
    let first = indices(true).enumerate().map(|(nth, (index, _))| (index, nth < index));
    first.chain(indices(false).map(|(index, _)| (index, false))).collect()
}

/// What a refusal or failure at `place` comes to.
fn at(place: Place) -> impl Fn(MatrixError) -> Failure {
    move |error| failed(place, &error)
}

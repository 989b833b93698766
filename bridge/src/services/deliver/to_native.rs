//! Into the group: sealed and kept in one transaction, then posted, and re-sent as it is until the
//! server has answered. It is sealed again only after an answered refusal; the batch's life is the
//! SDK's ([`Sending`]), its rows are the outbox's.

mod at_once;
mod first;
mod sealing;

use std::time::Duration;

use causeway_groups::{
    machine::{SealError, ToSeal},
    sdk::{Answer, CallError, SdkError, Sending},
};
use causeway_protocol::{
    envelope::{Kind, Submission},
    ids::{GroupId, Timestamp},
};
use causeway_store::{Script, Tx};
use tokio::time::Instant;

use self::first::{First, first};
use super::{
    Begun, End, Failure, Head, Leases, Outcome, ROUNDS, Ready, Spine, StepError, Stop, Stored,
    TURN, bury, bury_unreadable, judged, lanes, outbox, relations, steps, took,
};
use crate::{
    domain::{MessageRef, effect::InGroup, late::may_be, to_native},
    storage::{
        late,
        links::{self, Link},
    },
};

/// How long another server's limit is heeded, milliseconds: it is not the one that takes what goes out.
const OTHERS_REST_MS: u64 = 60_000;

/// Wait while the group has two histories: a person decides.
const FORKED: Duration = Duration::from_mins(1);

/// What metrics call this way.
const DIRECTION: &str = "matrix_to_native";

/// Wait while our session is to be renewed, unless that wakes us.
const LOCKED_OUT: Duration = Duration::from_mins(1);

/// Wait where somebody joined or left just now.
const UNPREPARED: Duration = Duration::from_millis(50);

/// How a message under a shared key begins, beside which cipher it is (protocol §5.2).
const SHARED_KEY: u8 = 0x30;

/// What a round came to.
enum Round {
    /// There may be more. What is to be written down is in the script, in the transaction if there is one.
    Next(Box<(Option<Tx>, Script)>),
    /// It was all that was seen, and is written down soon.
    Done(End),
    /// The lane was given back.
    Released,
}

impl Round {
    /// What is to be written down is, in this transaction.
    fn after(tx: Tx) -> Self {
        Self::Next(Box::new((Some(tx), Script::default())))
    }
}

/// Carries out the first rows of a lane, until it is empty, has to wait, or others are due.
pub(super) async fn serve(
    spine: &Spine,
    leased: &Ready,
    sealed: Option<Begun>,
) -> Result<Option<End>, StepError> {
    let (mut leased, began) = (leased.clone(), Instant::now());
    let mut delivered = Vec::new();
    let (mut tx, mut script) = (None, Script::default());
    let mut before = 0;
    if let Some(Begun { group, rows, sending, is_all }) = sealed {
        let way = Way { spine, leased: &leased, group };
        match way.post(rows, &sending, is_all, &mut delivered).await? {
            Round::Next(next) => {
                (tx, script) = *next;
                leased = leased.went_on();
                before = 1;
            }
            Round::Done(end) => {
                took(spine, DIRECTION, &mut delivered);
                return Ok(Some(end));
            }
            Round::Released => return Ok(None),
        }
    }
    if spine.locked_out.borrow().is_some() {
        let mut tx = spine.db.begin().await?;
        let stop = Stop { wait: LOCKED_OUT, away: true, row: None };
        spine.leases.postpone(spine, &mut tx, &leased, stop, "the session is not known").await?;
        tx.commit().await?;
        return Ok(None);
    }
    for round in before..=ROUNDS {
        if round > 0 {
            Leases::release(spine, &mut script, &leased.lane);
        }
        let done = std::mem::take(&mut script);
        let (mut at, first) = first(spine, tx.take(), &leased.lane, done).await?;
        if round == ROUNDS || (round > 0 && began.elapsed() >= TURN) {
            lanes::look(&mut at);
            tx = Some(at);
            break;
        }
        let First { portal, head, sending, to_seal } = first;
        let rows = match head {
            Head::Rows(rows) if rows.is_empty() => {
                if round == 0 {
                    Leases::release(spine, &mut script, &leased.lane);
                }
                tx = Some(at);
                break;
            }
            Head::Rows(rows) => rows,
            Head::Unreadable(row) => {
                // What it was sealed in may be out already; sealed anew, the rest has the ids it had.
                Sending::drop_of(&mut at, portal.group).await?;
                bury_unreadable(spine.rites(), &mut at, &row).await?;
                tx = Some(at);
                continue;
            }
        };
        let way = Way { spine, leased: &leased, group: portal.group };
        match way.round(at, rows, (sending, to_seal), &mut delivered).await? {
            Round::Next(next) => {
                (tx, script) = *next;
                leased = leased.went_on();
            }
            Round::Done(end) => {
                // The server has them, whatever becomes of us.
                took(spine, DIRECTION, &mut delivered);
                return Ok(Some(end));
            }
            Round::Released => {
                took(spine, DIRECTION, &mut delivered);
                return Ok(None);
            }
        }
    }
    if let Some(tx) = tx {
        tx.commit_with(script).await?;
    }
    took(spine, DIRECTION, &mut delivered);
    spine.steps.reached(steps::Step::RecordedEnvelopes).await;
    Ok(None)
}

/// A lane, and the group that it leads into.
struct Way<'a> {
    spine: &'a Spine,
    leased: &'a Ready,
    group: GroupId,
}

impl Way<'_> {
    /// One batch; notes in `delivered` what the server has by now, and is not counted yet.
    async fn round(
        &self,
        mut tx: Tx,
        mut rows: Vec<Stored<InGroup>>,
        (sending, to_seal): (Option<Sending>, ToSeal),
        delivered: &mut Vec<Timestamp>,
    ) -> Result<Round, StepError> {
        let is_all = rows.len() < outbox::HEAD;
        let sending = if let Some(sending) = self.begun(&mut tx, sending, &rows).await? {
            tx.commit().await?;
            sending
        } else if rows.iter().any(|row| row.taken_back) {
            for row in rows.iter().filter(|row| row.taken_back) {
                outbox::remove(&mut tx, row.id).await?;
            }
            return Ok(Round::after(tx));
        } else {
            // Who was refused in company is tried alone.
            if rows.first().is_some_and(|row| row.refused > 0) {
                rows.truncate(1);
            }
            match self.seal(tx, to_seal, &rows).await? {
                Ok(sending) => sending,
                Err(round) => return Ok(round),
            }
        };
        let seen = rows.len();
        rows.truncate(rows.iter().take_while(|row| sending.rows.contains(&row.id)).count());
        let is_all = is_all && rows.len() == seen;
        took(self.spine, DIRECTION, delivered);
        self.post(rows, &sending, is_all, delivered).await
    }

    /// Posts what is kept; `is_all`: nothing else was seen in the lane.
    async fn post(
        &self,
        rows: Vec<Stored<InGroup>>,
        sending: &Sending,
        is_all: bool,
        delivered: &mut Vec<Timestamp>,
    ) -> Result<Round, StepError> {
        self.spine.steps.reached(steps::Step::Sealed).await;
        match self.spine.native.post_kept(sending).await {
            Ok(Answer::Taken) => {
                self.spine.steps.reached(steps::Step::Posted).await;
                let done = self.posted(&rows, sending, is_all).await?;
                delivered.extend(rows.iter().filter_map(|row| row.entry.accepted_at));
                Ok(done)
            }
            // The rows are sealed anew with the same client ids.
            Ok(behind @ Answer::Behind(_)) => {
                let mut tx = self.spine.db.begin().await?;
                self.spine.native.settle(&mut tx, sending, &behind).await?;
                Ok(Round::after(tx))
            }
            Err(error) => self.failed(&rows, Some(sending), error).await,
        }
    }

    /// The batch that carries the first of these rows, if it was sealed already.
    async fn begun(
        &self,
        tx: &mut Tx,
        sending: Option<Sending>,
        rows: &[Stored<InGroup>],
    ) -> Result<Option<Sending>, StepError> {
        let Some(sending) = sending else { return Ok(None) };
        if rows.first().is_some_and(|row| sending.rows.contains(&row.id)) {
            return Ok(Some(sending));
        }
        // Nothing of it waits any more.
        sending.give_up(tx).await?;
        Ok(None)
    }

    /// Nothing was sealed.
    async fn unsealed(
        &self,
        mut tx: Tx,
        rows: &[Stored<InGroup>],
        error: SealError,
    ) -> Result<Round, StepError> {
        match error {
            // Somebody came or went: what was asked for, or the group's next key, is there in a moment.
            SealError::Unprepared(_) | SealError::NoKey => {
                self.wait(tx, UNPREPARED, &error.to_string()).await
            }
            SealError::TooLarge(index, ..) => {
                let Some(row) = rows.get(index) else { return Err(StepError::row("outbox")) };
                self.give_up(&mut tx, None, std::slice::from_ref(row), &error.to_string()).await?;
                Ok(Round::after(tx))
            }
            // Who reads is said in a channel, too, whatever it goes with.
            SealError::Channel => {
                let is_barred =
                    |row: &&Stored<InGroup>| !matches!(row.entry.deed, InGroup::Announce(..));
                for row in rows.iter().filter(is_barred) {
                    let row = std::slice::from_ref(row);
                    self.give_up(&mut tx, None, row, &error.to_string()).await?;
                }
                Ok(Round::after(tx))
            }
            SealError::NotMember(_) | SealError::Closed | SealError::Scheme => {
                self.give_up(&mut tx, None, rows, &error.to_string()).await?;
                Ok(Round::after(tx))
            }
            // The bridge follows its server, and is not kept from sending by this.
            SealError::Forked | SealError::Changed(_) | SealError::Offered => {
                tracing::error!(group = %self.group, "{error}");
                self.wait(tx, FORKED, &error.to_string()).await
            }
            SealError::TooMany(..) | SealError::Machine(_) => Err(error.into()),
        }
    }

    /// The lane waits, through no fault of its rows.
    async fn wait(&self, mut tx: Tx, wait: Duration, why: &str) -> Result<Round, StepError> {
        let stop = Stop { wait, away: false, row: None };
        self.spine.leases.postpone(self.spine, &mut tx, self.leased, stop, why).await?;
        tx.commit().await?;
        Ok(Round::Released)
    }

    /// The server has the envelopes, which is written down soon where they were all that was seen.
    async fn posted(
        &self,
        rows: &[Stored<InGroup>],
        sending: &Sending,
        is_all: bool,
    ) -> Result<Round, StepError> {
        let lane = &self.leased.lane;
        let device = self.spine.native.me().record.device_id;
        let links: Vec<Link> = rows
            .iter()
            .zip(&sending.batch.messages)
            .filter_map(|(row, envelopes)| {
                let InGroup::Say(relayed) = &row.entry.deed else { return None };
                let client_id = row.entry.txn.parse().ok()?;
                Some(Link {
                    portal: lane.portal(),
                    event_id: relayed.event_id.clone(),
                    message: MessageRef { device, client_id },
                    message_id: envelopes.first,
                })
            })
            .collect();
        let done: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let mut script = Script::default();
        links::put(&mut script, &links);
        sending.taken(&mut script);
        if self.may_be_late(sending).await? {
            let names = sending.batch.messages.iter().map(|envelopes| envelopes.first);
            let kept: Vec<_> = done.iter().copied().zip(names).collect();
            late::keep(&mut script, &kept, sending.batch.epoch, self.spine.now());
        }
        outbox::done(&mut script, &done);
        let count = rows.len() as u64;
        metrics::counter!("causeway_delivered_total", "to" => "native").increment(count);
        self.spine.steps.reached(steps::Step::RecordingEnvelopes).await;
        if !is_all {
            return Ok(Round::Next(Box::new((None, script))));
        }
        // What has come since has woken whoever looks for lanes.
        Leases::release(self.spine, &mut script, lane);
        Ok(Round::Done(End { script, step: steps::Step::RecordedEnvelopes }))
    }

    /// Whether another server may have it behind a cut, where nobody opens it.
    async fn may_be_late(&self, sending: &Sending) -> Result<bool, StepError> {
        let is_shared = |of: &Submission| {
            of.kind == Kind::Message
                && of.payload.first().is_some_and(|tag| tag & 0xF0 == SHARED_KEY)
        };
        if !sending.batch.submissions.iter().any(is_shared) {
            return Ok(false);
        }
        match self.spine.native.roster(self.group).await {
            Ok(roster) => Ok(may_be(&roster, self.spine.names.server())),
            Err(SdkError::UnknownGroup(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Neither posted nor refused for its epoch; rows that are being sent share their fate.
    async fn failed(
        &self,
        rows: &[Stored<InGroup>],
        sending: Option<&Sending>,
        error: SdkError,
    ) -> Result<Round, StepError> {
        let failure = match &error {
            error @ SdkError::Call(_) if self.spine.is_locked_out_by(error) => {
                Failure::NotNow(error.to_string(), None)
            }
            SdkError::Call(CallError::Unreachable(_) | CallError::Full(_))
            | SdkError::Contended => Failure::NotNow(error.to_string(), None),
            SdkError::Call(CallError::Refused { .. }) => Failure::Refused(error.to_string()),
            SdkError::Call(CallError::RetryAfter { ms, server, .. }) => {
                let most = if server.is_some() { OTHERS_REST_MS } else { u64::MAX };
                Failure::NotNow(error.to_string(), Some((*ms).min(most)))
            }
            SdkError::Call(
                CallError::Unknown(_)
                | CallError::Elsewhere { .. }
                | CallError::Foreign { .. }
                | CallError::Stale { .. },
            ) => Failure::Unknown(error.to_string()),
            SdkError::Machine(_)
            | SdkError::Store(_)
            | SdkError::Keep(_)
            | SdkError::Seal(_)
            | SdkError::Op(_)
            | SdkError::Invite(_)
            | SdkError::UnknownGroup(_) => return Err(error.into()),
        };
        let last = rows.iter().max_by_key(|row| row.entry.expires_at);
        let Some(judge) = (if sending.is_some() { last } else { rows.first() }) else {
            return Err(StepError::row("outbox"));
        };
        let now = self.spine.now();
        let outcome = judged(self.spine, self.leased, judge, false, &failure)?;
        let mut tx = self.spine.db.begin().await?;
        let (wait, counts) = match outcome {
            Outcome::Dead(reason) => {
                let over = self.spine.leases.agreed(self.spine);
                let is_refused = matches!(failure, Failure::Refused(_));
                let is_over = |row: &Stored<InGroup>| row.entry.expires_at <= over;
                let dead =
                    rows.iter().take_while(|row| sending.is_some() || is_refused || is_over(row));
                let dead = rows.get(..dead.count()).unwrap_or(rows);
                self.give_up(&mut tx, sending, dead, &reason).await?;
                return Ok(Round::after(tx));
            }
            Outcome::Again(wait, counts) => (wait, counts),
            Outcome::Done | Outcome::Halt => (0, false),
        };
        if let Some(sending) = sending.filter(|_| counts) {
            sending.give_up(&mut tx).await?;
        }
        for row in rows {
            outbox::tried(&mut tx, now, row.id, counts).await?;
        }
        let stop = Stop {
            wait: Duration::from_millis(wait),
            away: failure.is_away(),
            row: rows.first().map(|row| row.id),
        };
        let why = failure.to_string();
        self.spine.leases.postpone(self.spine, &mut tx, self.leased, stop, &why).await?;
        tx.commit().await?;
        Ok(Round::Released)
    }

    /// Buries rows, and with them the envelopes that they were in.
    async fn give_up(
        &self,
        tx: &mut Tx,
        sending: Option<&Sending>,
        rows: &[Stored<InGroup>],
        reason: &str,
    ) -> Result<(), StepError> {
        if let Some(sending) = sending {
            sending.give_up(tx).await?;
        }
        for row in rows {
            bury(self.spine.rites(), tx, row, reason, row.refused + 1).await?;
            outbox::remove(tx, row.id).await?;
        }
        Ok(())
    }
}

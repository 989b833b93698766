//! Into the group: sealed and kept in one transaction, then posted, and re-sent as it is until the
//! server has answered. It is sealed again only after an answered refusal; the batch's life is the
//! SDK's ([`Sending`]), its rows are the outbox's.

use std::time::Duration;

use causeway_groups::{
    machine::{Batch, Outgoing, SealError},
    sdk::{Answer, CallError, SdkError, Sending},
};
use causeway_protocol::ids::{GroupId, Timestamp};
use causeway_store::{Script, Tx};
use ruma::EventId;
use tokio::time::Instant;

use super::{
    Failure, Head, Leases, Outcome, ROUNDS, Ready, Spine, StepError, Stop, Stored, TURN, bury,
    bury_unreadable, judged, lanes, outbox, relations, steps, took,
};
use crate::{
    domain::{MessageRef, effect::InGroup, to_native},
    storage::links::{self, Link},
};

/// Wait while the group has two histories: a person decides.
const FORKED: Duration = Duration::from_mins(1);

/// What metrics call this way.
const DIRECTION: &str = "matrix_to_native";

/// Wait while our session is to be renewed, unless that wakes us.
const LOCKED_OUT: Duration = Duration::from_mins(1);

/// Wait where somebody joined just now.
const UNPREPARED: Duration = Duration::from_millis(50);

/// What a round came to.
enum Round {
    /// There may be more; the transaction goes on, and has this to do.
    Next(Tx, Script),
    /// The lane was given back.
    Released,
}

/// Carries out the first rows of a lane, until it is empty, has to wait, or others are due.
pub(super) async fn serve(spine: &Spine, leased: &Ready) -> Result<(), StepError> {
    let (mut leased, began) = (leased.clone(), Instant::now());
    let mut tx = spine.db.begin().await?;
    if spine.locked_out.borrow().is_some() {
        let stop = Stop { wait: LOCKED_OUT, away: true, row: None };
        spine.leases.postpone(spine, &mut tx, &leased, stop, "the session is not known").await?;
        return Ok(tx.commit().await?);
    }
    let mut delivered = Vec::new();
    let mut script = Script::default();
    for round in 0..=ROUNDS {
        if round > 0 {
            Leases::release(spine, &mut script, &leased.lane);
        }
        let done = std::mem::take(&mut script);
        let (Spine { sealer, names, .. }, lane) = (spine, &leased.lane);
        let (portal, head) = outbox::first(tx.conn(), sealer, names, lane, done).await?;
        if round == ROUNDS || (round > 0 && began.elapsed() >= TURN) {
            lanes::look(&mut tx);
            break;
        }
        let first = match head {
            Head::Rows(rows) if rows.is_empty() => {
                if round == 0 {
                    Leases::release(spine, &mut script, lane);
                    script.run(tx.conn()).await?;
                }
                break;
            }
            Head::Rows(rows) => rows,
            Head::Unreadable(row) => {
                // What it was sealed in may be out already; sealed anew, the rest has the ids it had.
                Sending::drop_of(&mut tx, portal.group).await?;
                bury_unreadable(spine.rites(), &mut tx, &row).await?;
                continue;
            }
        };
        let way = Way { spine, leased: &leased, group: portal.group };
        match way.round(tx, first, &mut delivered).await? {
            Round::Next(next, done) => {
                (tx, script) = (next, done);
                leased = leased.went_on();
            }
            Round::Released => {
                took(spine, DIRECTION, &mut delivered);
                return Ok(());
            }
        }
    }
    tx.commit().await?;
    took(spine, DIRECTION, &mut delivered);
    spine.steps.reached(steps::Step::RecordedEnvelopes).await;
    Ok(())
}

/// A lane, and the group that it leads into.
struct Way<'a> {
    spine: &'a Spine,
    leased: &'a Ready,
    group: GroupId,
}

impl Way<'_> {
    /// One batch; notes in `delivered` what is written down as such, and not yet committed.
    async fn round(
        &self,
        mut tx: Tx,
        mut rows: Vec<Stored<InGroup>>,
        delivered: &mut Vec<Timestamp>,
    ) -> Result<Round, StepError> {
        let sending = if let Some(sending) = self.begun(&mut tx, &rows).await? {
            tx.commit().await?;
            sending
        } else {
            // Who was refused in company is tried alone.
            if rows.first().is_some_and(|row| row.refused > 0) {
                rows.truncate(1);
            }
            match self.seal(tx, &rows).await? {
                Ok(sending) => sending,
                Err(round) => return Ok(round),
            }
        };
        rows.truncate(rows.iter().take_while(|row| sending.rows.contains(&row.id)).count());
        took(self.spine, DIRECTION, delivered);
        self.spine.steps.reached(steps::Step::Sealed).await;
        match self.spine.native.post_kept(&sending).await {
            Ok(Answer::Taken) => {
                self.spine.steps.reached(steps::Step::Posted).await;
                let next = self.posted(&rows, &sending).await?;
                delivered.extend(rows.iter().filter_map(|row| row.entry.accepted_at));
                Ok(next)
            }
            // The rows are sealed anew with the same client ids.
            Ok(behind @ Answer::Behind(_)) => {
                let mut tx = self.spine.db.begin().await?;
                self.spine.native.settle(&mut tx, &sending, &behind).await?;
                Ok(Round::Next(tx, Script::default()))
            }
            Err(error) => self.failed(&rows, Some(&sending), error).await,
        }
    }

    /// The batch that carries the first of these rows, if it was sealed already.
    async fn begun(
        &self,
        tx: &mut Tx,
        rows: &[Stored<InGroup>],
    ) -> Result<Option<Sending>, StepError> {
        let Some(sending) = self.spine.native.sending(tx.conn(), self.group).await? else {
            return Ok(None);
        };
        if rows.first().is_some_and(|row| sending.rows.contains(&row.id)) {
            return Ok(Some(sending));
        }
        // Nothing of it waits any more.
        sending.give_up(tx).await?;
        Ok(None)
    }

    /// Seals and keeps, after asking the server for what is lacking.
    async fn seal(
        &self,
        mut tx: Tx,
        rows: &[Stored<InGroup>],
    ) -> Result<Result<Sending, Round>, StepError> {
        let Self { spine, group, .. } = self;
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            items.push(self.outgoing(&mut tx, row, rows).await?);
        }
        let mut sealed = self.seal_what_fits(&mut tx, &items).await?;
        if let Err(SealError::Unprepared(_)) = sealed {
            tx.commit().await?;
            if let Err(error) = spine.native.prepare(*group).await {
                return self.failed(rows, None, error).await.map(Err);
            }
            spine.steps.reached(steps::Step::Prepared).await;
            tx = spine.db.begin().await?;
            sealed = self.seal_what_fits(&mut tx, &items).await?;
        }
        let batch = match sealed {
            Ok(batch) => batch,
            Err(error) => return self.unsealed(tx, rows, error).await.map(Err),
        };
        let sealed = rows.iter().take(batch.messages.len()).map(|row| row.id).collect();
        let sending = spine.native.keep_sending(&mut tx, batch, sealed).await?;
        spine.steps.reached(steps::Step::Sealing).await;
        tx.commit().await?;
        Ok(Ok(sending))
    }

    /// Seals all, or the first alone: many may need a new chain where one does not.
    async fn seal_what_fits(
        &self,
        tx: &mut Tx,
        items: &[Outgoing],
    ) -> Result<Result<Batch, SealError>, StepError> {
        match self.try_to_seal(tx, items).await? {
            Err(SealError::Unprepared(_)) if items.len() > 1 => {
                self.try_to_seal(tx, items.get(..1).unwrap_or(items)).await
            }
            sealed => Ok(sealed),
        }
    }

    /// Seals, or leaves the transaction as it was.
    async fn try_to_seal(
        &self,
        tx: &mut Tx,
        items: &[Outgoing],
    ) -> Result<Result<Batch, SealError>, StepError> {
        let (machine, now) = (self.spine.native.machine(), self.spine.now());
        Ok(tx.nested(async |tx| machine.seal(tx, now, self.group, items).await).await?)
    }

    async fn outgoing(
        &self,
        tx: &mut Tx,
        row: &Stored<InGroup>,
        rows: &[Stored<InGroup>],
    ) -> Result<Outgoing, StepError> {
        let client_id = row.entry.txn.parse().map_err(|_| StepError::row("outbox.txn"))?;
        let found = match &row.entry.deed {
            InGroup::Say(relayed) => match relayed.said.about() {
                Some(event) => self.message_of(tx, event, rows).await?,
                None => None,
            },
            InGroup::Announce(..) | InGroup::Notice(_) => None,
        };
        let content = to_native::content(&row.entry.deed, found);
        Ok(Outgoing { client_id, ttl_s: 0, content })
    }

    /// The message that says what `event` says, also if it goes out with this one.
    async fn message_of(
        &self,
        tx: &mut Tx,
        event: &EventId,
        rows: &[Stored<InGroup>],
    ) -> Result<Option<MessageRef>, StepError> {
        let device = self.spine.native.me().record.device_id;
        let round = rows.iter().filter_map(|row| {
            let InGroup::Say(relayed) = &row.entry.deed else { return None };
            let client_id = row.entry.txn.parse().ok()?;
            Some((&*relayed.event_id, MessageRef { device, client_id }))
        });
        Ok(relations::message_of(tx.conn(), round, event).await?)
    }

    /// Nothing was sealed.
    async fn unsealed(
        &self,
        mut tx: Tx,
        rows: &[Stored<InGroup>],
        error: SealError,
    ) -> Result<Round, StepError> {
        match error {
            // Somebody came between asking and sealing: asked again after a moment.
            SealError::Unprepared(_) => self.wait(tx, UNPREPARED, &error.to_string()).await,
            SealError::TooLarge(index, ..) => {
                let Some(row) = rows.get(index) else { return Err(StepError::row("outbox")) };
                self.give_up(&mut tx, None, std::slice::from_ref(row), &error.to_string()).await?;
                Ok(Round::Next(tx, Script::default()))
            }
            SealError::NotMember(_)
            | SealError::Closed
            | SealError::Channel
            | SealError::Scheme => {
                self.give_up(&mut tx, None, rows, &error.to_string()).await?;
                Ok(Round::Next(tx, Script::default()))
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

    /// The server has the envelopes.
    async fn posted(
        &self,
        rows: &[Stored<InGroup>],
        sending: &Sending,
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
        let tx = self.spine.db.begin().await?;
        let done: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let mut script = Script::default();
        links::put(&mut script, &links);
        sending.taken(&mut script);
        outbox::done(&mut script, &done);
        let count = rows.len() as u64;
        metrics::counter!("causeway_delivered_total", "to" => "native").increment(count);
        self.spine.steps.reached(steps::Step::RecordingEnvelopes).await;
        Ok(Round::Next(tx, script))
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
            SdkError::Call(CallError::RetryAfter { ms, .. }) => {
                Failure::NotNow(error.to_string(), Some(*ms))
            }
            SdkError::Call(
                CallError::Unknown(_) | CallError::Foreign { .. } | CallError::Stale { .. },
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
                return Ok(Round::Next(tx, Script::default()));
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

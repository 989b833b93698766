//! Rows of the mailbox, in the order of protocol §4.2.
//!
//! Bad content is a result, never an error: what cannot be opened changes nothing, what cannot be
//! judged yet is held, and a row for which there is no room is parked at the server.

mod calls;
mod direct;
mod look;

use causeway_protocol::{
    api::StreamRow,
    content::{Content, Plaintext, RosterSync, Text},
    envelope::{Kind, Recipient, Sender},
    ids::{AccountId, ClientId, EnvelopeId, GroupId, Timestamp},
    roster::{Log, Role, Roster, is_dropped_in_channel},
};
use causeway_store::Tx;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    Incoming, Machine, MachineError, Receipts, What,
    opening::Opening,
    schemes::{self, Form, Lacked},
    work::{Again, Judged, ToReceive, Work},
};
use crate::storage::{
    accounts::KnownDevice,
    chores, groups as rows, holds,
    holds::{Sighting, WaitsFor},
};

/// Whether the row is dealt with.
#[must_use]
enum Step {
    Done,
    /// There is no room to hold it: it stays at the server.
    NoRoom,
}

impl Machine {
    /// Takes a slice of rows: opens, installs, holds. Nothing may be acknowledged, nor shown,
    /// before `tx` is committed.
    ///
    /// # Errors
    /// [`MachineError`]: the database's faults and ours; content never fails here.
    pub async fn receive(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        rows: &[StreamRow],
    ) -> Result<Receipts, MachineError> {
        let mut work = Work::new(self, tx, now);
        work.rows(rows).await?;
        work.receipts(rows).await
    }

    /// The same, by what was [looked at](Self::look_for) in this transaction, in which no more is read or
    /// changed of the machine's.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn receive_looked(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        rows: &[StreamRow],
        looked: ToReceive,
    ) -> Result<Receipts, MachineError> {
        let mut work = Work::new(self, tx, now);
        work.begin_with(looked).await?;
        work.rows(rows).await?;
        work.receipts(rows).await
    }

    /// Takes a slice of rows that were parked, likewise: of these, [`Receipts::parked`] stay so.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn receive_parked(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        rows: &[StreamRow],
    ) -> Result<Receipts, MachineError> {
        let mut work = Work::new(self, tx, now);
        work.is_parked = true;
        work.rows(rows).await?;
        work.receipts(rows).await
    }
}

impl Work<'_> {
    async fn rows(&mut self, rows: &[StreamRow]) -> Result<(), MachineError> {
        for row in rows {
            if let (Step::NoRoom, Some(sender)) = (self.row(row).await?, &row.envelope.sender) {
                self.park(row, sender).await?;
            }
        }
        Ok(())
    }

    async fn receipts(mut self, rows: &[StreamRow]) -> Result<Receipts, MachineError> {
        let through = rows.last().map(|row| row.seq);
        let (parked, no_room) = (std::mem::take(&mut self.parked), self.no_room.take());
        let calls = std::mem::take(&mut self.calls);
        Ok(Receipts { received: self.finish().await?, through, parked, no_room, calls })
    }

    async fn row(&mut self, row: &StreamRow) -> Result<Step, MachineError> {
        if row.envelope.check().is_err() {
            self.fail(row, "bad_envelope");
            return Ok(Step::Done);
        }
        let step = self.one_of_stream(row).await?;
        self.judge_again().await?;
        Ok(step)
    }

    async fn one_of_stream(&mut self, row: &StreamRow) -> Result<Step, MachineError> {
        let envelope = &row.envelope;
        if let Some(sender) = &envelope.sender
            && envelope.kind.is_read()
            && self.is_behind_parked(envelope.group, sender.device).await?
        {
            return Ok(Step::NoRoom);
        }
        self.one(row, false).await
    }

    /// Judges what was taken out of the holds, and what that in turn takes out.
    pub(super) async fn judge_again(&mut self) -> Result<(), MachineError> {
        while let Some(Again { mut row, opened }) = self.again.pop_front() {
            self.judged = if opened { Judged::AgainOpened } else { Judged::Again };
            if let Step::NoRoom = self.one(&row, opened).await? {
                self.fail(&row, "no_room");
            }
            if opened {
                row.envelope.payload.zeroize();
                row.envelope.piece.iter_mut().for_each(|piece| piece.0.zeroize());
            }
        }
        self.judged = Judged::First;
        Ok(())
    }

    async fn one(&mut self, row: &StreamRow, opened: bool) -> Result<Step, MachineError> {
        let envelope = &row.envelope;
        if self.is_of_forgotten(row).await? {
            self.say(row.seq, envelope.group, What::Keys);
            return Ok(Step::Done);
        }
        if !opened && self.keep_unopened(row).await? {
            return Ok(Step::Done);
        }
        match (envelope.kind, &envelope.sender) {
            (Kind::Message | Kind::Fanout, Some(sender)) => self.message(row, sender).await,
            (
                Kind::KeyDistribution | Kind::KeyRequest | Kind::KeyAck | Kind::Direct,
                Some(sender),
            ) => self.direct(row, sender, opened).await,
            (Kind::Roster, _) => {
                self.roster_row(row).await?;
                Ok(Step::Done)
            }
            (Kind::Join, _) => {
                self.join_row(row).await?;
                Ok(Step::Done)
            }
            (Kind::Expired, _) => {
                match EnvelopeId::from_slice(&envelope.payload) {
                    Ok(id) => {
                        let what = if self.is_first(envelope.id).await? {
                            What::Expired { id }
                        } else {
                            What::Duplicate
                        };
                        self.say(row.seq, envelope.group, what);
                    }
                    Err(_) => self.fail(row, "malformed"),
                }
                Ok(Step::Done)
            }
            (Kind::CallChanged, _) => {
                self.call_row(row).await?;
                Ok(Step::Done)
            }
            (Kind::Call, Some(sender)) if envelope.to != Recipient::Broadcast => {
                self.direct(row, sender, opened).await
            }
            (Kind::Call, _) => {
                self.fail(row, "not_built");
                Ok(Step::Done)
            }
            (
                Kind::Message
                | Kind::Fanout
                | Kind::KeyDistribution
                | Kind::KeyRequest
                | Kind::KeyAck
                | Kind::Direct,
                None,
            ) => {
                self.fail(row, "bad_envelope");
                Ok(Step::Done)
            }
        }
    }

    /// Whether this row, which the server made, comes for the first time.
    async fn is_first(&mut self, id: EnvelopeId) -> Result<bool, MachineError> {
        let (me, now) = (self.machine.me().record.device_id, self.now);
        Ok(holds::see(self.conn(), &me, *id.as_bytes(), id, now).await?)
    }

    async fn message(&mut self, row: &StreamRow, sender: &Sender) -> Result<Step, MachineError> {
        let envelope = &row.envelope;
        let form = match Form::parse(envelope) {
            Ok(form) => form,
            Err(reason) => {
                self.fail(row, reason);
                return Ok(Step::Done);
            }
        };
        let Some((_, log)) = self.group(&envelope.group).await? else {
            self.fail(row, "unknown_group");
            return Ok(Step::Done);
        };
        let Some(log) = log.clone() else {
            return self.hold(row, sender, WaitsFor::Roster).await;
        };
        let me = self.machine.me().record.device_id;
        let missing = form.missing(envelope, me);
        let Some(device) = self.device(sender.device).await? else {
            if form.has_key() {
                return self.hold_for_record(row, sender).await;
            }
            return self.hold_for_key(row, sender, false, missing).await;
        };
        match schemes::open(self, (row, sender), &device, &form, &log).await? {
            Opening::Opened { roster, text, late } => {
                self.opened((row, sender), &device, (&roster, &log), (text, late)).await?;
            }
            Opening::NoKey => return self.hold_for_key(row, sender, true, missing).await,
            Opening::NoRoster => {
                self.sync_roster(&envelope.group, &log, envelope.epoch).await?;
                return self.hold(row, sender, WaitsFor::Roster).await;
            }
            Opening::Spent => {
                if self.was_seen(sender, envelope.id).await? {
                    self.say(row.seq, envelope.group, What::Duplicate);
                } else {
                    self.fail(row, "spent");
                }
            }
            Opening::Known => self.say(row.seq, envelope.group, What::Duplicate),
            Opening::Refused(reason) => self.fail(row, reason),
        }
        Ok(Step::Done)
    }

    pub(super) async fn was_seen(
        &mut self,
        sender: &Sender,
        id: EnvelopeId,
    ) -> Result<bool, MachineError> {
        self.seen.has(self.tx.conn(), &sender.device, id).await
    }

    /// Whether a message that its sender calls this was received, in whichever envelope.
    pub(super) async fn was_said(
        &mut self,
        sender: &Sender,
        name: &ClientId,
    ) -> Result<bool, MachineError> {
        self.seen.has_name(self.tx.conn(), &sender.device, name).await
    }

    /// What a message that opened says, once.
    async fn opened(
        &mut self,
        (row, sender): (&StreamRow, &Sender),
        device: &KnownDevice,
        (roster, log): (&Roster, &Log),
        (text, late): (Zeroizing<Vec<u8>>, bool),
    ) -> Result<(), MachineError> {
        let envelope = &row.envelope;
        let Ok(plaintext) = Plaintext::parse(&text) else {
            self.fail(row, "bad_plaintext");
            return Ok(());
        };
        let (now, client_id) = (self.now, plaintext.client_id);
        let name = *client_id.as_bytes();
        let sighting = Sighting { sender: sender.device, name, envelope: envelope.id };
        // What is acted on at once has to be known as new at once.
        let is_new = match &plaintext.content {
            Content::RosterSync(_) => self.seen.sees(self.tx.conn(), now, sighting).await?,
            Content::Text(_)
            | Content::Mirrors(_)
            | Content::BridgeRequest(_)
            | Content::Unknown(..) => self.seen.meets(self.received.len(), sighting),
        };
        if !is_new {
            self.say(row.seq, envelope.group, What::Duplicate);
            return Ok(());
        }
        let device = device.record.device();
        let role = roster.counts(&device).map_or(Role::Member, |member| member.role);
        let me = self.machine.me().record.member_id;
        let my_role = roster.member(&me).map_or(Role::Member, |member| member.role);
        if plaintext.expires_at(roster.policy().ttl_s) < now {
            match plaintext.content {
                // Nobody has missed anything.
                Content::RosterSync(_) => self.say(row.seq, envelope.group, What::Keys),
                _ => self.fail(row, "expired"),
            }
        } else if is_dropped_in_channel(roster, &device, plaintext.content.number()) {
            self.fail(row, "dropped_in_channel");
        } else if speaks_for_bridge(&plaintext.content) && role != Role::Bridge {
            self.fail(row, "not_the_bridge");
        } else if mirrors_a_ghost(&plaintext.content, &sender.account) {
            self.fail(row, "mirror_is_a_ghost");
        } else if let Content::RosterSync(sync) = plaintext.content {
            self.compare(row, log, sync).await?;
        } else {
            let trust = self.trust(&sender.account, &device.member_id).await?;
            let incoming = Incoming {
                id: envelope.id,
                sender: sender.account.clone(),
                device: sender.device,
                member: device.member_id,
                role,
                trust,
                my_role,
                client_id,
                sent_at: plaintext.sent_at,
                content: plaintext.content,
                late,
            };
            self.say(row.seq, envelope.group, What::Message(incoming));
        }
        Ok(())
    }

    /// A member says which roster it has.
    async fn compare(
        &mut self,
        row: &StreamRow,
        log: &Log,
        sync: RosterSync,
    ) -> Result<(), MachineError> {
        let group = row.envelope.group;
        match log.entry(sync.epoch) {
            Some(entry) if entry.roster_hash != sync.roster_hash => {
                self.fork_by_word(row.seq, group, log, sync.epoch).await?;
                // If the server shows another op there, that is a fork.
                rows::fetch_from(self.conn(), &group, Some(sync.epoch)).await?;
            }
            Some(_) => self.say(row.seq, group, What::Keys),
            None => {
                self.sync_roster(&group, log, sync.epoch).await?;
                self.say(row.seq, group, What::Keys);
            }
        }
        Ok(())
    }

    /// Ops of an epoch that an envelope speaks of otherwise than this device are to be fetched.
    async fn sync_roster(
        &mut self,
        group: &GroupId,
        log: &Log,
        epoch: causeway_protocol::ids::Epoch,
    ) -> Result<(), MachineError> {
        // Where the sender has another roster at an epoch that is known here, the server is asked
        // for that one again: if it shows another op there, that is a fork.
        let from = log.head().epoch().next().map(|next| next.min(epoch));
        rows::fetch_from(self.conn(), group, from).await?;
        Ok(())
    }

    async fn hold(
        &mut self,
        row: &StreamRow,
        sender: &Sender,
        waits_for: WaitsFor,
    ) -> Result<Step, MachineError> {
        // Behind one that is parked nothing of its sender is held: it would be heard before it.
        if self.is_any_parked(&row.envelope.group, &sender.device).await?
            || !self.is_held(row, sender, waits_for, self.judged == Judged::AgainOpened).await?
        {
            return Ok(Step::NoRoom);
        }
        Ok(Step::Done)
    }

    /// Holds what cannot be opened before the sending device's record is here.
    async fn hold_for_record(
        &mut self,
        row: &StreamRow,
        sender: &Sender,
    ) -> Result<Step, MachineError> {
        let step = self.hold(row, sender, WaitsFor::Device).await?;
        self.ask_account(&sender.account).await?;
        Ok(step)
    }

    /// Holds a row, `opened` or not, if there is room; whether there was.
    async fn is_held(
        &mut self,
        row: &StreamRow,
        sender: &Sender,
        waits_for: WaitsFor,
        opened: bool,
    ) -> Result<bool, MachineError> {
        let (vault, now) = (self.vault(), self.now);
        let held = (row, opened);
        let is_held = holds::hold(self.conn(), vault, held, &sender.device, waits_for, now).await?;
        if is_held {
            self.held(row, sender.device, waits_for);
        }
        Ok(is_held)
    }

    async fn hold_for_key(
        &mut self,
        row: &StreamRow,
        sender: &Sender,
        is_known: bool,
        Lacked { request, first_ms, kept_ms }: Lacked,
    ) -> Result<Step, MachineError> {
        let group = row.envelope.group;
        if self.was_seen(sender, row.envelope.id).await? {
            // Its chain was let go of after it had been shown.
            self.say(row.seq, group, What::Duplicate);
            return Ok(Step::Done);
        }
        let step = self.hold(row, sender, WaitsFor::Chain).await?;
        // Of what is parked there is too much to ask for each; but where nothing of it is held,
        // nobody has asked.
        let is_asked = match step {
            Step::Done => false,
            Step::NoRoom => chores::is_requested(self.conn(), &group, &request.device).await?,
        };
        if !is_asked {
            let first = self.now.plus_ms(first_ms);
            let until = self.now.plus_ms(row.envelope.ttl_ms.min(kept_ms));
            chores::request_key(self.conn(), &request, (first, until)).await?;
            self.requested = None;
            if !is_known {
                self.ask_account(&sender.account).await?;
            }
        }
        Ok(step)
    }
}

/// Whether the bridge speaks for what stands for one of its own native accounts (protocol §2.1).
fn mirrors_a_ghost(content: &Content, bridge: &AccountId) -> bool {
    let Content::Text(Text { mirror: Some(mirror), .. }) = content else { return false };
    let ghost = mirror.strip_prefix("@causeway_").and_then(|rest| rest.split_once(':'));
    ghost.is_some_and(|(_, server)| server == bridge.server())
}

/// Whether only the bridge may say this (protocol §2.1).
fn speaks_for_bridge(content: &Content) -> bool {
    match content {
        Content::Mirrors(_) => true,
        Content::Text(text) => text.mirror.is_some(),
        Content::RosterSync(_) | Content::BridgeRequest(_) | Content::Unknown(..) => false,
    }
}

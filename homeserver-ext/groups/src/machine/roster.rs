//! Ops: from the mailbox, from a 409, from a page of the log. Judged by the protocol, installed
//! in order, and what waited for them judged again.

use std::sync::Arc;

use causeway_protocol::{
    api::{OpBytes, StreamRow},
    ids::{AccountId, Epoch, GroupId, MemberId, Seq, Timestamp},
    roster::{Installed, Kind, Log, LogEntry, Offer, Op, Policy, Roster},
};
use causeway_store::Tx;

use super::{
    Machine, MachineError, PolicyChange, Received, RosterChange, What, schemes,
    work::{Again, Work},
};
use crate::{
    entropy,
    storage::{accounts, groups as rows, holds, holds::WaitsFor, joins, ops, own, parked::For},
};

/// Place of ops of before this device first joined: they count as before everything (protocol §4.2).
/// Those that were made after it left have none, as if they had not come.
const BEFORE_EVERYTHING: Seq = Seq(0);

impl Machine {
    /// Installs ops that did not come by the mailbox: the answer to a POST, the ops of a 409, a
    /// page of the roster log. Those known already are passed over.
    ///
    /// # Errors
    /// [`MachineError`]; an invalid op is a result, [`What::Failed`].
    pub async fn install_ops(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
        ops: &[OpBytes],
    ) -> Result<Vec<Received>, MachineError> {
        let mut work = Work::new(self, tx, now);
        rows::fetch_from(work.conn(), &group, None).await?;
        for OpBytes(op) in ops {
            if let Err(reason) = work.offer_bytes(group, op, None).await? {
                work.fail_op(group, Seq(0), reason);
                break;
            }
        }
        work.judge_again().await?;
        work.finish().await
    }
}

impl Work<'_> {
    pub(super) async fn roster_row(&mut self, row: &StreamRow) -> Result<(), MachineError> {
        let envelope = &row.envelope;
        let offered = self.offer_bytes(envelope.group, &envelope.payload, Some(row.seq)).await?;
        if let Err(reason) = offered {
            self.fail(row, reason);
        }
        Ok(())
    }

    fn fail_op(&mut self, group: GroupId, seq: Seq, reason: &'static str) {
        let id = causeway_protocol::ids::EnvelopeId::new([0; 16]);
        tracing::warn!(%group, reason, "the server showed an op that is not valid");
        self.say(seq, group, What::Failed { id, sender: None, reason });
    }

    /// Installs one op if it is next; otherwise says what it is, and changes nothing else.
    pub(super) async fn offer_bytes(
        &mut self,
        group: GroupId,
        bytes: &[u8],
        place: Option<Seq>,
    ) -> Result<Result<(), &'static str>, MachineError> {
        let op = match Op::parse(bytes) {
            Ok(op) if op.group() == group => op,
            Ok(_) => return Ok(Err("wrong_group")),
            Err(invalid) => return Ok(Err(invalid.reason())),
        };
        if let Some(place) = place {
            ops::insert_place(self.conn(), &group, &op.hash(), place).await?;
        }
        let seq = place.unwrap_or_default();
        match self.log(&group).await? {
            None => self.begin(seq, &op).await,
            Some(log) => self.offer(seq, log, &op, place).await,
        }
    }

    async fn begin(&mut self, seq: Seq, op: &Op) -> Result<Result<(), &'static str>, MachineError> {
        let group = op.group();
        if op.epoch() != Epoch(0) {
            // Heard of for the first time, or still to be fetched from the beginning.
            rows::hear_of(self.conn(), &group, entropy::bytes()?).await?;
            rows::fetch_from(self.conn(), &group, Some(Epoch(0))).await?;
            self.reload(&group);
            self.say(seq, group, What::Keys);
            return Ok(Ok(()));
        }
        let log = match Log::begin(op) {
            Ok(log) => log,
            Err(invalid) => return Ok(Err(invalid.reason())),
        };
        rows::hear_of(self.conn(), &group, entropy::bytes()?).await?;
        self.reload(&group);
        let after = Arc::clone(log.head());
        self.installed(seq, log, op, &Installed { before: None, after, cut: false }).await?;
        Ok(Ok(()))
    }

    async fn offer(
        &mut self,
        seq: Seq,
        log: Arc<Log>,
        op: &Op,
        place: Option<Seq>,
    ) -> Result<Result<(), &'static str>, MachineError> {
        let group = op.group();
        let mut log = match log.entry(op.epoch()) {
            // It may be a second one on the roster before.
            Some(entry) if entry.op_hash != op.hash() => {
                let before = Epoch(op.epoch().0.saturating_sub(1));
                Arc::unwrap_or_clone(self.at_hand(log, before).await?)
            }
            Some(_) | None => Arc::unwrap_or_clone(log),
        };
        match log.offer(op) {
            Offer::Installed(installed) => self.installed(seq, log, op, &installed).await?,
            Offer::Known(epoch) => {
                let unplaced = log.entry(epoch).is_some_and(|entry| entry.place.is_none());
                if let Some(place) = place.filter(|_| unplaced) {
                    log.put_place(epoch, place);
                    ops::set_place(self.conn(), &group, epoch, place).await?;
                    schemes::look_after(self.conn(), &group).await?;
                    self.save_log(log).await?;
                }
                self.say(seq, group, What::Keys);
            }
            Offer::Fork(fork) => self.fork_by_op(seq, &log, &fork, op).await?,
            Offer::Ahead(from) => {
                rows::fetch_from(self.conn(), &group, Some(from)).await?;
                self.say(seq, group, What::Keys);
            }
            Offer::Forgotten => self.say(seq, group, What::Keys),
            Offer::Invalid(invalid) => return Ok(Err(invalid.reason())),
        }
        Ok(Ok(()))
    }

    async fn installed(
        &mut self,
        seq: Seq,
        mut log: Log,
        op: &Op,
        installed: &Installed,
    ) -> Result<(), MachineError> {
        let (group, now) = (op.group(), self.now);
        let me = self.machine.me().record.member_id;
        let Installed { before, after, .. } = installed;
        let was_in = before.as_ref().is_some_and(|before| before.member(&me).is_some());
        let is_in = after.member(&me).is_some();
        let known = ops::place(self.conn(), &group, &op.hash()).await?;
        let never_in = match after.epoch().0.checked_sub(1) {
            None => true,
            Some(before) => {
                log.entry(Epoch(before)).is_some_and(|entry| entry.place == Some(BEFORE_EVERYTHING))
            }
        };
        let place = known.or((never_in && !is_in).then_some(BEFORE_EVERYTHING));
        if let Some(place) = place {
            log.put_place(after.epoch(), place);
        }
        if let Some(entry) = log.entry(after.epoch()) {
            ops::insert(self.conn(), op, entry, after, now).await?;
        }
        if was_in && !is_in {
            schemes::drop_own(self.conn(), &group).await?;
        }
        schemes::moved_on(self.conn(), after).await?;
        let news = before.as_deref().filter(|_| was_in);
        let took_part = self.takes_part(&group).await?;
        let is_offer = self.weigh(op, (was_in, after), seq).await?;
        if is_in && !is_offer {
            self.ask_for_strangers(news, after).await?;
            self.owe_new_admins(before.as_deref(), after, op.signer()).await?;
        }
        let could_add = before.as_ref().is_none_or(|before| before.may_add(&me));
        if !could_add && after.may_add(&me) && !is_offer {
            // Those who asked before could not be answered from here.
            rows::set_fetch_requests(self.conn(), &group, true).await?;
            joins::may_add_now(self.conn(), &group).await?;
        }
        let change = change(&log, op, installed, &me);
        self.save_log(log).await?;
        if is_in && !is_offer {
            self.tell_again(&group).await?;
        }
        // One line is said of an offer, and nothing of what a stranger does in his group.
        if !is_offer && (took_part || self.takes_part(&group).await?) {
            self.say(seq, group, What::Roster(change));
        } else {
            self.say(seq, group, What::Keys);
        }
        if is_in && !is_offer {
            self.say_who_is_not(seq, news, after).await?;
        }
        self.retake(&group).await
    }

    /// Keeps a changed log under a new revision.
    pub(super) async fn save_log(&mut self, log: Log) -> Result<(), MachineError> {
        let group = log.head().group();
        let revision = entropy::bytes()?;
        let joined = log.head().member(&self.machine.me().record.member_id).is_some();
        rows::save_head(self.conn(), &group, revision, log.head().epoch(), joined).await?;
        self.machine.remember(group, revision, &Arc::new(log));
        self.reload(&group);
        Ok(())
    }

    /// Takes out of the holds what waited for an op of this group.
    async fn retake(&mut self, group: &GroupId) -> Result<(), MachineError> {
        let vault = self.vault();
        let waited = holds::take(self.conn(), vault, Some(group), None, WaitsFor::Roster).await?;
        self.ask_for_parked(For::Group(group)).await?;
        self.again.extend(waited.into_iter().map(|(row, opened)| {
            // A version of before held keys opened, and did not say so.
            let opened = opened || !row.envelope.kind.is_read();
            Again { row, opened }
        }));
        Ok(())
    }

    /// Asks for the lists and records of members that came, so that it is known who they are, and
    /// what they send can be judged.
    pub(super) async fn ask_for_strangers(
        &mut self,
        before: Option<&Roster>,
        after: &Roster,
    ) -> Result<(), MachineError> {
        let me = self.machine.me().record.member_id;
        for (id, member) in after.members() {
            let same = before.and_then(|before| before.member(id));
            if same.is_some_and(|same| same.devices == member.devices) {
                continue;
            }
            if *id == me {
                // Another device of this account has signed a newer list.
                if own::list_version(self.conn()).await? < member.list_version {
                    self.ask_account_anew(&member.account).await?;
                }
                continue;
            }
            let trust = self.trust(&member.account, id).await?;
            let mut unknown = !trust.is_trusted();
            for device in member.devices.iter() {
                unknown |= accounts::device(self.conn(), device).await?.is_none();
            }
            let listed = accounts::list(self.conn(), &member.account, id).await?;
            let is_newer = listed.is_none_or(|list| list.version < member.list_version);
            if trust.is_wrong() || (unknown && is_newer) {
                self.ask_account_anew(&member.account).await?;
            } else if unknown {
                self.ask_account(&member.account.clone()).await?;
            }
        }
        Ok(())
    }
}

fn change(log: &Log, op: &Op, installed: &Installed, me: &MemberId) -> RosterChange {
    let Installed { before, after, cut } = installed;
    let role_in = |roster: &Roster| roster.member(me).map(|member| member.role);
    let (my_role_before, my_role) = (before.as_deref().and_then(role_in), role_in(after));
    let signer = op.signer().member_id;
    let account_of = |roster: &Roster| -> Option<AccountId> {
        roster.member(&signer).map(|member| member.account.clone())
    };
    let joined = after.members().iter().filter(|(id, member)| {
        before.as_ref().is_none_or(|b| b.member(id).is_none_or(|was| was.role != member.role))
    });
    let left = before
        .iter()
        .flat_map(|before| before.members())
        .filter(|(id, _)| after.member(id).is_none());
    let kind = log.entry(after.epoch()).map_or(op.kind(), |entry: &LogEntry| entry.kind);
    RosterChange {
        epoch: after.epoch(),
        kind,
        by: before.as_deref().and_then(account_of).or_else(|| account_of(after)),
        joined: joined.map(|(_, member)| (member.account.clone(), member.role)).collect(),
        left: left.map(|(_, member)| member.account.clone()).collect(),
        my_role_before,
        my_role,
        me_joined: my_role.is_some() && my_role_before.is_none(),
        me_left: my_role_before.is_some() && my_role.is_none(),
        cut: *cut,
        closed: after.closed(),
        policy: before.as_deref().filter(|_| kind == Kind::Policy).map(|before| {
            let (was, is) = (before.policy(), after.policy());
            let (name, description) = (is.name.clone(), is.description.clone());
            PolicyChange {
                name: (name != was.name).then(|| name.clone()),
                topic: (description != was.description).then(|| description.clone()),
                settings: *is != Policy { name, description, ..was.clone() },
            }
        }),
    }
}

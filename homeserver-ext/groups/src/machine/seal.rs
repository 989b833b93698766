//! From what is to be said to bytes to post (protocol §4.2, send order).
//!
//! Moved chain, counted generation and finished bytes stand in one transaction; nothing leaves
//! before that is committed, and a retry sends the same bytes.

use causeway_protocol::{
    device::DeviceOf,
    envelope::Kind,
    ids::{GroupId, Timestamp},
    roster::{Log, is_dropped_in_channel},
};
use causeway_store::{Db, Rows, Script, Tx};

use super::{
    Age, Batch, Machine, MachineError, Needs, Outgoing, SealError, batch::MAX_AT_ONCE,
    reach::Reach, schemes, work::Work,
};
use crate::storage::{accounts::KnownDevice, chains::OwnAndGiven, chores, groups as rows, own};

/// What the next messages of a group are sealed by, as of one transaction.
pub struct ToSeal {
    group: GroupId,
    row: Option<rows::Group>,
    own: OwnAndGiven,
    commits: u64,
}

impl Machine {
    /// Seals messages, at most 1,000, for everyone who is in the group now: begins a new chain if
    /// that is due, gives it to whoever lacks it, and moves it on. Nothing may be posted before
    /// `tx` is committed with the batch in it.
    ///
    /// # Errors
    /// [`SealError`]; the transaction is then to be dropped.
    pub async fn seal(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
        items: &[Outgoing],
    ) -> Result<Batch, SealError> {
        let mut work = Work::new(self, tx, now);
        let batch = work.seal_last(group, items).await?;
        work.finish().await?;
        Ok(batch)
    }

    /// As [`Self::seal`], by what [`Self::look`] has shown in this transaction, in which no more is read
    /// or changed of the machine's: what is written down last is in the script.
    ///
    /// # Errors
    /// Outside, the transaction is to be dropped; inside, it is as it was.
    pub async fn seal_looked(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        looked: ToSeal,
        items: &[Outgoing],
    ) -> Result<Result<(Batch, Script), SealError>, MachineError> {
        let ToSeal { group, row, own, commits } = looked;
        let mut work = Work::new(self, tx, now);
        work.own = Some(own);
        if let Some(row) = row {
            work.loaded(group, row).await?;
        }
        match work.seal_last(group, items).await {
            Ok(batch) => Ok(Ok((batch, work.finish_last(commits).await?))),
            Err(SealError::Machine(error)) => Err(error),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Asks for what is sealed by, in one errand with what else is asked.
    pub fn look(script: &mut Script, group: &GroupId) {
        rows::select(script, group);
        schemes::look(script, group);
        own::select_commits(script);
    }

    /// Reads what [`Self::look`] asked for.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn looked(&self, rows: &mut Rows, group: GroupId) -> Result<ToSeal, MachineError> {
        let row = rows::read(rows.take().first())?;
        let own = schemes::looked(self, group, &rows.take())?;
        let commits = own::read_commits(rows.take().first())?;
        Ok(ToSeal { group, row, own, commits })
    }

    /// How good that still is which a batch was sealed under.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn age(&self, db: &Db, now: Timestamp, batch: &Batch) -> Result<Age, MachineError> {
        let messages = batch.submissions.iter().filter(|s| s.kind == Kind::Message);
        let messages = messages.map(|s| s.payload.as_slice());
        schemes::age(self, db, now, &batch.group, messages).await
    }

    /// The server has every envelope of `batch`. Only needed where [`Batch::has_keys`].
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn accepted(&self, tx: &mut Tx, batch: &Batch) -> Result<(), MachineError> {
        for id in batch.direct() {
            chores::sent(tx.conn(), &id).await?;
        }
        Ok(())
    }

    /// Begins a new chain with the next message: the chain's secrets may be known to others.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn rotate(&self, tx: &mut Tx, group: GroupId) -> Result<(), MachineError> {
        rows::set_rotate(tx.conn(), &group, true).await?;
        schemes::look_after(tx.conn(), &group).await
    }
}

impl Work<'_> {
    pub(super) async fn seal(
        &mut self,
        group: GroupId,
        items: &[Outgoing],
    ) -> Result<Batch, SealError> {
        let batch = self.seal_last(group, items).await?;
        self.save().await?;
        Ok(batch)
    }

    /// As [`Self::seal`], where nothing but [`Self::finish`] comes after it, which saves the chain.
    async fn seal_last(&mut self, group: GroupId, items: &[Outgoing]) -> Result<Batch, SealError> {
        if items.len() > MAX_AT_ONCE {
            return Err(SealError::TooMany(items.len(), MAX_AT_ONCE));
        }
        let was_looked = self.own.is_some();
        let (row, log) = self.may_send(group).await?;
        let plan = schemes::plan(self, &row, &log, items.len()).await?;
        let head = log.head();
        let me = self.machine.me().device();
        let barred = items.iter().any(|i| is_dropped_in_channel(head, &me, i.content.number()));
        if barred {
            return Err(SealError::Channel);
        }
        let reached = self.reach_all(&log, plan.lacking()).await?;
        let has_direct = row.has_finished || !reached.is_empty();
        // Where nothing is changed but by what is written last, there is nothing to go back from.
        let is_marked = was_looked && (has_direct || plan.begins());
        if is_marked {
            self.tx.mark().await.map_err(MachineError::from)?;
        }
        let sealed = schemes::seal(self, plan, &log, &reached, items).await;
        if is_marked {
            self.tx.unmark(sealed.is_ok()).await.map_err(MachineError::from)?;
        }
        let sealed = sealed?;
        let direct = if has_direct { self.finished(group, head).await? } else { Vec::new() };
        self.sealed = true;
        self.touch(&group).await?;
        Ok(Batch::new(head, direct, items.iter().map(|item| item.client_id).zip(sealed)))
    }

    /// Those of `devices` that can be reached at all. Nothing was changed for any of them where
    /// something is needed first.
    async fn reach_all(
        &mut self,
        log: &Log,
        devices: &[DeviceOf],
    ) -> Result<Vec<KnownDevice>, SealError> {
        let (mut reached, mut needs) = (Vec::new(), Needs::default());
        self.look_up(devices).await?;
        for device in devices {
            match self.reach(log, device).await? {
                Reach::Session(known) => reached.push(*known),
                Reach::Unknown(_) | Reach::NoSession(_) => {
                    self.need(log, device, &mut needs).await?;
                }
                Reach::Never => {}
            }
        }
        for account in self.strangers(log).await? {
            if !needs.accounts.contains(&account) {
                needs.accounts.push(account);
            }
        }
        if needs.is_empty() { Ok(reached) } else { Err(SealError::Unprepared(needs)) }
    }
}

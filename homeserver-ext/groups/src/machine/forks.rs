//! Second histories: said, and left to a person (protocol §3.3).
//!
//! The branch that was installed first stays. Nothing here ever chooses: any rule that a program
//! could follow, a removed admin could play with the server's help.

use causeway_protocol::{
    api::OpBytes,
    ids::{Epoch, GroupId, Seq, Timestamp},
    roster::{Fork as TwoOps, Log, Op},
};
use causeway_store::Tx;
use serde::{Deserialize, Serialize};

use super::{Fork, ForkedOp, Machine, MachineError, OpError, Received, What, schemes, work::Work};
use crate::{
    entropy,
    storage::{Error, groups as rows, json, ops},
};

/// What a person sees before deciding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkView {
    /// The two ops.
    pub fork: Fork,
    /// The other branch as far as it was shown: its ops, from the fork on.
    pub other_ops: Vec<OpBytes>,
    /// Whether a person has decided to stay on the first one.
    pub kept: bool,
}

impl Machine {
    /// The second history of `group`, if one was ever shown.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn fork(
        &self,
        tx: &mut Tx,
        group: GroupId,
    ) -> Result<Option<ForkView>, MachineError> {
        let Some(row) = rows::group(tx.conn(), &group).await? else { return Ok(None) };
        row.fork.as_deref().map(view).transpose()
    }

    /// Stays on the branch that was installed first, and sends there again.
    ///
    /// # Errors
    /// [`OpError::NoFork`].
    pub async fn keep(&self, tx: &mut Tx, group: GroupId) -> Result<(), OpError> {
        let mut view = self.fork(tx, group).await?.ok_or(OpError::NoFork)?;
        view.kept = true;
        rows::set_fork(tx.conn(), &group, Some(&json(&view))).await.map_err(MachineError::from)?;
        Ok(())
    }

    /// Goes over to the other branch: takes back the ops from the fork on, and installs the other
    /// ones. The next message begins a new chain.
    ///
    /// # Errors
    /// [`OpError::NoFork`]; [`OpError::OtherUnknown`] while only a member's word tells of the other
    /// branch: fetch the log from [`Fork::epoch`] on first.
    pub async fn adopt(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
    ) -> Result<Vec<Received>, OpError> {
        let view = self.fork(tx, group).await?.ok_or(OpError::NoFork)?;
        if view.other_ops.is_empty() {
            return Err(OpError::OtherUnknown);
        }
        let epoch = view.fork.epoch;
        let conn = tx.conn();
        let storage = MachineError::from;
        ops::drop_from(conn, &group, epoch).await.map_err(storage)?;
        schemes::drop_own(conn, &group).await?;
        rows::set_fork(conn, &group, None).await.map_err(storage)?;
        let revision = entropy::bytes().map_err(MachineError::from)?;
        match epoch.0.checked_sub(1) {
            Some(last) => {
                let head = Epoch(last);
                rows::save_head(conn, &group, revision, head, true).await.map_err(storage)?;
            }
            None => rows::unlearn(conn, &group, revision).await.map_err(storage)?,
        }
        let received = self.install_ops(tx, now, group, &view.other_ops).await?;
        // What follows on that branch, the server has.
        let row = rows::group(tx.conn(), &group).await.map_err(storage)?;
        let next = row.and_then(|row| row.head).and_then(Epoch::next);
        rows::fetch_from(tx.conn(), &group, next).await.map_err(storage)?;
        Ok(received)
    }
}

fn view(json: &str) -> Result<ForkView, MachineError> {
    serde_json::from_str(json).map_err(|_| Error::Broken("groups").into())
}

impl Work<'_> {
    /// A valid op on a `prev` that another op follows already.
    pub(super) async fn fork_by_op(
        &mut self,
        seq: Seq,
        log: &Log,
        two: &TwoOps,
        op: &Op,
    ) -> Result<(), MachineError> {
        let group = op.group();
        let known = self.known_fork(&group).await?;
        if known.as_ref().is_some_and(|known| known.kept) {
            self.say(seq, group, What::Keys);
            return Ok(());
        }
        let other = Some(self.forked(log, op).await?);
        let mut fork = Fork { epoch: two.epoch, mine: self.mine(log, two.epoch).await?, other };
        let mut other_ops = vec![OpBytes(op.as_bytes().to_vec())];
        if let Some(known) = known
            && known.fork.other.is_some()
        {
            // The first one said stays on record; what follows it is its branch.
            fork = known.fork;
            other_ops = known.other_ops;
        }
        self.record_fork(seq, group, ForkView { fork, other_ops, kept: false }).await
    }

    /// A member names another roster hash for an epoch that is known.
    pub(super) async fn fork_by_word(
        &mut self,
        seq: Seq,
        group: GroupId,
        log: &Log,
        epoch: Epoch,
    ) -> Result<(), MachineError> {
        if self.known_fork(&group).await?.is_some() {
            self.say(seq, group, What::Keys);
            return Ok(());
        }
        let fork = Fork { epoch, mine: self.mine(log, epoch).await?, other: None };
        self.record_fork(seq, group, ForkView { fork, other_ops: Vec::new(), kept: false }).await
    }

    async fn known_fork(&mut self, group: &GroupId) -> Result<Option<ForkView>, MachineError> {
        let row = rows::group(self.conn(), group).await?;
        row.and_then(|row| row.fork).as_deref().map(view).transpose()
    }

    async fn record_fork(
        &mut self,
        seq: Seq,
        group: GroupId,
        view: ForkView,
    ) -> Result<(), MachineError> {
        tracing::warn!(%group, epoch = %view.fork.epoch, "the server shows a second history");
        rows::set_fork(self.conn(), &group, Some(&json(&view))).await?;
        self.reload(&group);
        self.say(seq, group, What::Fork(view.fork));
        Ok(())
    }

    async fn mine(&mut self, log: &Log, epoch: Epoch) -> Result<ForkedOp, MachineError> {
        let group = log.head().group();
        let bytes = ops::from(self.conn(), &group, epoch).await?;
        let op = bytes.first().and_then(|bytes| Op::parse(bytes).ok());
        let op = op.ok_or(Error::Broken("ops"))?;
        self.forked(log, &op).await
    }

    async fn forked(&mut self, log: &Log, op: &Op) -> Result<ForkedOp, MachineError> {
        let by = op.signer().member_id;
        let before = match op.epoch().0.checked_sub(1) {
            Some(before) => self.roster_at(log, Epoch(before)).await?,
            None => None,
        };
        let account = before.as_ref().and_then(|roster| roster.member(&by));
        Ok(ForkedOp {
            op_hash: op.hash(),
            kind: op.kind().name().to_owned(),
            by,
            account: account.map(|member| member.account.clone()),
            by_creator: by == log.head().creator(),
        })
    }
}

//! What a person does to a group: each op is signed on the head, posted, and installed when the
//! server has taken it; when the group has moved on meanwhile, it is signed anew.

use causeway_protocol::{
    api::{BridgeInfo, OpBytes},
    ids::{AccountId, Epoch, GroupId, MemberId},
    roster::{Invalid, Policy, Role, Scheme},
};

use super::{CallError, Client, SdkError, backoff::insistently};
use crate::{
    machine::{Fork, ForkView, NewGroup, OpError},
    schemes::legacy::Suite,
    storage::forgotten,
};

/// How often an op is signed anew before others are thought to be too busy.
const TRIES: usize = 16;
/// Lines that are let go of in one commit: nobody else's waits long for it.
const LINES_AT_ONCE: u32 = 10_000;

/// An op that is not signed yet.
enum Change<'a> {
    /// Of this identity, where a person was shown one.
    Add(&'a AccountId, Role, Option<MemberId>),
    Remove(&'a AccountId),
    Role(&'a AccountId, Role),
    // On what the policy is by then: two admins who change different things undo nothing.
    Policy(&'a (dyn Fn(&mut Policy) + Sync)),
    Leave,
    Close,
}

impl Client {
    /// Makes a group with this account as its admin.
    pub async fn create_group(&self, new: NewGroup) -> Result<GroupId, SdkError> {
        let mut tx = self.db.begin().await?;
        let made = self.machine.create_group(&mut tx, self.now(), new).await?;
        drop(tx);
        self.begin_group(made).await
    }

    /// As [`Self::create_group`], one that speaks this legacy suite until it is upgraded.
    pub async fn create_legacy_group(
        &self,
        suite: Suite,
        new: NewGroup,
    ) -> Result<GroupId, SdkError> {
        let mut tx = self.db.begin().await?;
        let made = self.machine.create_legacy_group(&mut tx, self.now(), suite, new).await?;
        drop(tx);
        self.begin_group(made).await
    }

    async fn begin_group(&self, (group, op): (GroupId, OpBytes)) -> Result<GroupId, SdkError> {
        insistently(async || self.http.create_group(&op).await).await?;
        self.take_in(group, &[op]).await?;
        Ok(group)
    }

    /// Adds an account, by its newest device list. Returns the epoch that this made.
    pub async fn add(
        &self,
        group: GroupId,
        account: &AccountId,
        role: Role,
    ) -> Result<Epoch, SdkError> {
        self.learn(account).await?;
        self.change(group, Change::Add(account, role, None)).await
    }

    /// Lets the server's bridge in: it can read everything from then on.
    ///
    /// # Errors
    /// [`OpError::OtherIdentity`] if the account is not who was shown, [`OpError::Invalid`] if the
    /// asker is no admin, also where the bridge is in already; then nothing was changed.
    pub async fn add_bridge(&self, group: GroupId, bridge: &BridgeInfo) -> Result<Epoch, SdkError> {
        self.sync_group(group).await?;
        let roster = self.roster(group).await?;
        if roster.bridge().is_some_and(|(id, _)| *id == bridge.member_id) {
            let me = roster.member(&self.me().record.member_id);
            if me.is_none_or(|me| me.role != Role::Admin) {
                return Err(OpError::Invalid(Invalid::NotAdmin).into());
            }
            return Ok(roster.epoch());
        }
        if let Some(suite) = Suite::from_number(roster.effective_suite()) {
            return Err(OpError::NoBridge(suite.name()).into());
        }
        self.learn(&bridge.account).await?;
        let add = Change::Add(&bridge.account, Role::Bridge, Some(bridge.member_id));
        self.change(group, add).await
    }

    /// Removes an account: what is sent afterwards it cannot read.
    pub async fn remove(&self, group: GroupId, account: &AccountId) -> Result<Epoch, SdkError> {
        self.change(group, Change::Remove(account)).await
    }

    /// Makes an account an admin, or a member again.
    pub async fn set_role(
        &self,
        group: GroupId,
        account: &AccountId,
        role: Role,
    ) -> Result<Epoch, SdkError> {
        self.change(group, Change::Role(account, role)).await
    }

    /// Changes the group's policy: its name, who may add, who may post, how long is kept.
    ///
    /// # Errors
    /// [`OpError::Unchanged`] where it is so already, by somebody else since, perhaps.
    pub async fn change_policy(
        &self,
        group: GroupId,
        change: &(dyn Fn(&mut Policy) + Sync),
    ) -> Result<Epoch, SdkError> {
        self.change(group, Change::Policy(change)).await
    }

    /// Leaves.
    pub async fn leave(&self, group: GroupId) -> Result<Epoch, SdkError> {
        self.change(group, Change::Leave).await
    }

    /// Ends the group for everyone.
    pub async fn close_group(&self, group: GroupId) -> Result<Epoch, SdkError> {
        self.change(group, Change::Close).await
    }

    /// Forgets all that is kept of a group that is closed, that this account is out of, or that was offered
    /// and not taken; also one in which the server does not know it. Killed on the way, the group is
    /// there still, with fewer lines.
    ///
    /// # Errors
    /// [`OpError::Open`]: nothing was changed.
    pub async fn forget(&self, group: GroupId) -> Result<(), SdkError> {
        let roster = self.roster(group).await?;
        let is_in = !roster.closed() && roster.member(&self.me().record.member_id).is_some();
        let is_over = !is_in
            || self.untold.outside(self.now()).contains(&group)
            || self.offer(group).await?.is_some();
        if !is_over {
            return Err(OpError::Open.into());
        }
        loop {
            let mut tx = self.db.begin().await?;
            let more = forgotten::drop_lines(tx.conn(), &group, LINES_AT_ONCE).await?;
            if !more {
                self.machine.forget(&mut tx, group).await?;
            }
            tx.commit().await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// The second history that the server has shown, if it has.
    pub async fn fork(&self, group: GroupId) -> Result<Option<ForkView>, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.fork(&mut tx, group).await?)
    }

    /// Stays with the history that was installed first, and sends there again.
    pub async fn keep_fork(&self, group: GroupId) -> Result<(), SdkError> {
        let mut tx = self.db.begin().await?;
        self.machine.keep(&mut tx, group).await?;
        Ok(tx.commit().await?)
    }

    /// Goes over to the other history; fetches it first where only a member's word told of it.
    pub async fn adopt_fork(&self, group: GroupId) -> Result<(), SdkError> {
        if let Some(ForkView { fork: Fork { epoch, .. }, other_ops, .. }) = self.fork(group).await?
            && other_ops.is_empty()
        {
            self.fetch_ops(group, epoch).await?;
        }
        let mut tx = self.db.begin().await?;
        let received = self.machine.adopt(&mut tx, self.now(), group).await?;
        self.keep(&mut tx, received).await?;
        tx.commit().await?;
        self.sync_group(group).await
    }

    async fn change(&self, group: GroupId, change: Change<'_>) -> Result<Epoch, SdkError> {
        for _ in 0..TRIES {
            let op = self.signed(group, &change).await?;
            match insistently(async || self.http.post_op(group, &op).await).await {
                Ok(head) => {
                    self.take_in(group, &[op]).await?;
                    self.hand_out(group).await?;
                    return Ok(head.epoch);
                }
                // It was taken before, and that answer was lost.
                Err(CallError::Stale { epoch, ops }) if ops.contains(&op) => {
                    self.take_in(group, &ops).await?;
                    self.hand_out(group).await?;
                    return Ok(epoch);
                }
                Err(CallError::Stale { ops, .. }) if ops.is_empty() => {
                    self.give_back(group).await?;
                }
                Err(CallError::Stale { ops, .. }) => self.take_in(group, &ops).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(SdkError::Contended)
    }

    /// Where a group shares a key, whoever changes who is in it gives all the next: at once, as others
    /// can say nothing before. What fails is done with the next chores.
    async fn hand_out(&self, group: GroupId) -> Result<(), SdkError> {
        if self.roster(group).await?.scheme() == Scheme::SharedKey
            && let Err(error) = self.chores().await
        {
            tracing::debug!(%error, %group, "the group's new key was not given to all yet");
        }
        Ok(())
    }

    async fn signed(&self, group: GroupId, change: &Change<'_>) -> Result<OpBytes, OpError> {
        let now = self.now();
        let mut tx = self.db.begin().await.map_err(crate::machine::MachineError::from)?;
        let machine = &self.machine;
        match *change {
            Change::Add(account, role, shown) => {
                // In the transaction that signs: what the server says meanwhile changes nothing.
                let is = machine.identity(&mut tx, account).await?;
                if shown.is_some() && shown != is {
                    return Err(OpError::OtherIdentity(account.clone()));
                }
                machine.add(&mut tx, now, group, account, role).await
            }
            Change::Remove(account) => machine.remove(&mut tx, now, group, account).await,
            Change::Role(account, role) => {
                machine.set_role(&mut tx, now, group, account, role).await
            }
            Change::Policy(change) => {
                let roster = machine.roster(&mut tx, group).await?;
                let roster = roster.ok_or(OpError::UnknownGroup(group))?;
                let mut policy = roster.policy().clone();
                change(&mut policy);
                if policy == *roster.policy() {
                    return Err(OpError::Unchanged);
                }
                machine.set_policy(&mut tx, now, group, policy).await
            }
            Change::Leave => machine.leave(&mut tx, now, group).await,
            Change::Close => machine.close(&mut tx, now, group).await,
        }
    }

    /// Fetches an account's list and records, and teaches them to the machine.
    pub(super) async fn learn(&self, account: &AccountId) -> Result<(), SdkError> {
        let answer = self.http.account(account).await?;
        let mut tx = self.db.begin().await?;
        let freed = self.machine.learn(&mut tx, self.now(), account, Some(&answer)).await?;
        self.keep(&mut tx, freed).await?;
        Ok(tx.commit().await?)
    }
}

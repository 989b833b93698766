//! Groups as their members see them, and the ops that this device signs.
//!
//! A signed op changes nothing here: it is posted, and installed when the server took it, or
//! signed anew on what a 409 brought.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use causeway_protocol::{
    TooLong,
    api::OpBytes,
    ids::{AccountId, Epoch, GroupId, MemberId, Timestamp},
    roster::{Body, Create, Devices, Entry, Invalid, Op, OpCore, Policy, Role, Roster, Scheme},
    visible::shows_something,
};
use causeway_store::{Row, Script, Tx};

use super::{Machine, MachineError, schemes, work::Work};
use crate::{
    entropy,
    schemes::legacy::Suite,
    storage::{accounts, groups as rows, ops, own},
};

/// How a group begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroup {
    /// How its messages are sealed.
    pub scheme: Scheme,
    /// The AEAD's number in it; `None`: what such a group begins with.
    pub suite: Option<u8>,
    /// What it is called, at most 255 bytes.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// Whether every member may let people in, not admins only.
    pub members_may_add: bool,
    /// Whether only admins write.
    pub is_channel: bool,
    /// Most members, bridge included.
    pub max_members: u32,
    /// How long messages are kept for whoever has not read them, in seconds.
    pub ttl_s: u32,
}

/// Why no op was signed, or no decision taken.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// Nothing of this group is known here.
    #[error("group {0} is not known here")]
    UnknownGroup(GroupId),
    /// No such member.
    #[error("{0} is not in this group")]
    NotMember(AccountId),
    /// It can be left, or closed; what goes on is not forgotten.
    #[error("the group is open, and you are in it")]
    Open,
    /// Its device list is to be fetched first ([`Machine::learn`]).
    #[error("nothing is known of {0} yet")]
    UnknownAccount(AccountId),
    /// Its newest device list is by another identity than the one that a person was shown.
    #[error("{0} has another identity than the one that was shown")]
    OtherIdentity(AccountId),
    /// Its newest device list is by another identity than the one that it is known by.
    #[error("{0} has another identity than the one that is known here")]
    ChangedIdentity(AccountId),
    /// The server would refuse it, and every client: the step that it fails.
    #[error("this is not allowed: {}", .0.reason())]
    Invalid(Invalid),
    /// Of its name, or its topic, nobody could see anything.
    #[error("the group's {0} has no character that can be seen")]
    Blank(&'static str),
    /// The group's policy is that already: there is nothing that others would have to hear.
    #[error("the group has that already")]
    Unchanged,
    /// Its legacy suite can say neither who speaks through a bridge nor what a bridge is asked for.
    #[error("a group that speaks {0} has no bridge")]
    NoBridge(&'static str),
    /// A name or a list does not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// This group has one history.
    #[error("this group has one history")]
    NoFork,
    /// Only a member's word tells of the other history.
    #[error("the other history was not shown yet; fetch the group's ops first")]
    OtherUnknown,
    /// Ours to log.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl Machine {
    /// The newest roster of every group that is known, by id.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn rosters(&self, tx: &mut Tx) -> Result<Vec<Arc<Roster>>, MachineError> {
        let mut rosters = Vec::new();
        for group in rows::all(tx.conn()).await? {
            rosters.extend(self.roster(tx, group).await?);
        }
        Ok(rosters)
    }

    /// The newest roster of a group; `None` while nothing of it is known.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn roster(
        &self,
        tx: &mut Tx,
        group: GroupId,
    ) -> Result<Option<Arc<Roster>>, MachineError> {
        let known = self.log(tx.conn(), &group).await?;
        Ok(known.and_then(|(_, log)| log).map(|log| Arc::clone(log.head())))
    }

    /// Whether what another server has too late may be sealed anew, which was sealed under `epoch`
    /// ([`may_seal_anew`](causeway_protocol::roster::Log::may_seal_anew)); not where that epoch's roster is forgotten.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn may_seal_anew(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        (group, epoch): (GroupId, Epoch),
    ) -> Result<bool, MachineError> {
        let mut work = Work::new(self, tx, now);
        let Some(log) = work.log(&group).await? else { return Ok(false) };
        let then = work.roster_at(&log, epoch).await?;
        Ok(then.is_some_and(|then| log.may_seal_anew(&then)))
    }

    /// Asks for the newest rosters of these groups, for [`Self::read_rosters`].
    pub fn select_rosters(script: &mut Script, groups: &BTreeSet<GroupId>) {
        rows::select_many(script, groups);
    }

    /// Reads what [`Self::select_rosters`] asked for, of groups of which something is known.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn read_rosters(
        &self,
        tx: &mut Tx,
        rows: &[Row],
    ) -> Result<BTreeMap<GroupId, Arc<Roster>>, MachineError> {
        let mut rosters = BTreeMap::new();
        for (group, row) in rows::read_many(rows)? {
            let log = self.log_of(tx.conn(), &group, &row).await?;
            rosters.extend(log.map(|log| (group, Arc::clone(log.head()))));
        }
        Ok(rosters)
    }

    /// Installed ops from epoch `from` on: what a server is given that has lost them.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn ops(
        &self,
        tx: &mut Tx,
        group: GroupId,
        from: Epoch,
    ) -> Result<Vec<OpBytes>, MachineError> {
        Ok(ops::from(tx.conn(), &group, from).await?.into_iter().map(OpBytes).collect())
    }

    /// What a group began with; none of a group that is not known.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn create_of(
        &self,
        tx: &mut Tx,
        group: GroupId,
    ) -> Result<Option<Create>, MachineError> {
        let first = ops::first(tx.conn(), &group).await?;
        Ok(first.and_then(|first| match Op::parse(&first).and_then(|op| op.body()) {
            Ok(Body::Create(create)) => Some(create),
            _ => None,
        }))
    }

    /// Signs the `create` of a group with this account as its admin.
    ///
    /// # Errors
    /// [`OpError::TooLong`], [`OpError::Blank`], [`OpError::Invalid`].
    pub async fn create_group(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        new: NewGroup,
    ) -> Result<(GroupId, OpBytes), OpError> {
        let suite = new.suite.unwrap_or_else(|| schemes::suite_of_new(new.scheme));
        self.begin_group(tx, now, (suite, 2), new).await
    }

    /// As [`Self::create_group`], one that speaks this legacy suite until it is upgraded
    /// (protocol §6). Its scheme is Sender Keys.
    ///
    /// # Errors
    /// As [`Self::create_group`].
    pub async fn create_legacy_group(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        suite: Suite,
        new: NewGroup,
    ) -> Result<(GroupId, OpBytes), OpError> {
        self.begin_group(tx, now, (suite.number(), 1), new).await
    }

    async fn begin_group(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        (suite, min_version): (u8, u8),
        new: NewGroup,
    ) -> Result<(GroupId, OpBytes), OpError> {
        let own = own::load(tx.conn(), self.vault()).await.map_err(MachineError::from)?;
        let list = own.ok_or(MachineError::Own("rows"))?.list;
        let create = Create {
            scheme: new.scheme as u8,
            suite,
            rand: entropy::bytes().map_err(MachineError::from)?,
            account: self.me().account.as_str().to_owned(),
            legacy_id: String::new(),
            devices: Devices { version: list.version, ids: list.devices },
            policy: Policy {
                min_version,
                add_by: new.members_may_add.into(),
                post_by: new.is_channel.into(),
                max_members: new.max_members,
                ttl_s: new.ttl_s,
                name: new.name,
                description: new.description,
            },
        };
        must_show(None, &create.policy)?;
        let core = OpCore::create(&self.me().record, now, create)?;
        let group = core.group;
        let op = self.sealed(core)?;
        Roster::create(&op).map_err(OpError::Invalid)?;
        Ok((group, OpBytes(op.as_bytes().to_vec())))
    }

    /// The identity of an account's newest device list; `None` before [`Machine::learn`].
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn identity(
        &self,
        tx: &mut Tx,
        account: &AccountId,
    ) -> Result<Option<MemberId>, MachineError> {
        let list = accounts::newest_list(tx.conn(), account).await?;
        Ok(list.map(|list| list.member_id))
    }

    /// Signs the `add` of an account, as its newest device list has it.
    ///
    /// # Errors
    /// [`OpError::UnknownAccount`] before [`Machine::learn`]; [`OpError::ChangedIdentity`];
    /// [`OpError::Invalid`].
    pub async fn add(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
        account: &AccountId,
        role: Role,
    ) -> Result<OpBytes, OpError> {
        let list = accounts::newest_list(tx.conn(), account).await.map_err(MachineError::from)?;
        let list = list.ok_or_else(|| OpError::UnknownAccount(account.clone()))?;
        let known = self.known(tx.conn()).await?;
        if known.trust(self.me(), account, &list.member_id).is_wrong() {
            return Err(OpError::ChangedIdentity(account.clone()));
        }
        let entry = Entry {
            member_id: list.member_id,
            role: role as u8,
            account: account.as_str().to_owned(),
            legacy_id: String::new(),
            devices: Devices { version: list.version, ids: list.devices },
        };
        self.sign_op(tx, now, group, &Body::Add(vec![entry])).await
    }

    /// Signs the `remove` of an account.
    ///
    /// # Errors
    /// [`OpError::NotMember`], [`OpError::Invalid`].
    pub async fn remove(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
        account: &AccountId,
    ) -> Result<OpBytes, OpError> {
        let member = self.member(tx, group, account).await?;
        self.sign_op(tx, now, group, &Body::Remove(vec![member])).await
    }

    /// Signs that an account has this role from now on.
    ///
    /// # Errors
    /// [`OpError::NotMember`], [`OpError::Invalid`].
    pub async fn set_role(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
        account: &AccountId,
        role: Role,
    ) -> Result<OpBytes, OpError> {
        let member = self.member(tx, group, account).await?;
        self.sign_op(tx, now, group, &Body::Role(member, role as u8)).await
    }

    /// Signs another policy.
    ///
    /// # Errors
    /// [`OpError::Blank`], [`OpError::Invalid`].
    pub async fn set_policy(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
        policy: Policy,
    ) -> Result<OpBytes, OpError> {
        let head = self.roster(tx, group).await?.ok_or(OpError::UnknownGroup(group))?;
        must_show(Some(head.policy()), &policy)?;
        self.sign_op(tx, now, group, &Body::Policy(policy)).await
    }

    /// Signs that this account goes.
    ///
    /// # Errors
    /// [`OpError::Invalid`]: the last admin closes the group instead.
    pub async fn leave(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
    ) -> Result<OpBytes, OpError> {
        self.sign_op(tx, now, group, &Body::Leave).await
    }

    /// Signs that the group ends.
    ///
    /// # Errors
    /// [`OpError::Invalid`].
    pub async fn close(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
    ) -> Result<OpBytes, OpError> {
        self.sign_op(tx, now, group, &Body::Close).await
    }

    /// Signs an op on the head, which it must be valid on.
    pub(super) async fn sign_op(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
        body: &Body,
    ) -> Result<OpBytes, OpError> {
        let head = self.roster(tx, group).await?.ok_or(OpError::UnknownGroup(group))?;
        let op = self.sealed(OpCore::next(&head, &self.me().record, now, body)?)?;
        head.apply(&op).map_err(OpError::Invalid)?;
        Ok(OpBytes(op.as_bytes().to_vec()))
    }

    fn sealed(&self, core: OpCore) -> Result<causeway_protocol::roster::Op, TooLong> {
        let signature = self.sign(&core.signed_bytes()?);
        core.sealed(self.me().record.certificate, signature)
    }

    async fn member(
        &self,
        tx: &mut Tx,
        group: GroupId,
        account: &AccountId,
    ) -> Result<MemberId, OpError> {
        let head = self.roster(tx, group).await?.ok_or(OpError::UnknownGroup(group))?;
        let found = head.members().iter().find(|(_, member)| member.account == *account);
        found.map(|(id, _)| *id).ok_or_else(|| OpError::NotMember(account.clone()))
    }
}

/// That people see a new name, and a new topic (protocol §3.2).
fn must_show(before: Option<&Policy>, policy: &Policy) -> Result<(), OpError> {
    let is_new = |was: fn(&Policy) -> &str| before.is_none_or(|before| was(before) != was(policy));
    if is_new(|policy| &policy.name) && !shows_something(&policy.name) {
        return Err(OpError::Blank("name"));
    }
    let topic = &policy.description;
    if is_new(|policy| &policy.description) && !topic.is_empty() && !shows_something(topic) {
        return Err(OpError::Blank("topic"));
    }
    Ok(())
}

//! The roster at one epoch: members, policy, and the hash that every message names.
//!
//! Cheap to clone: the members are shared until one of them changes.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    body::{self, Body, Create, Entry, Policy},
    member::{Member, Role, Scheme, members_of},
    op::Op,
};
use crate::{
    device::DeviceOf,
    fields::{Reader, Writer},
    ids::{DeviceId, Epoch, GroupId, MemberId, OpHash, RosterHash},
    keys::hash,
};

/// A group at one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    group: GroupId,
    epoch: Epoch,
    op_hash: OpHash,
    hash: RosterHash,
    creator: MemberId,
    scheme: Scheme,
    suite: u8,
    closed: bool,
    policy: Arc<Policy>,
    members: Arc<BTreeMap<MemberId, Member>>,
}

/// A stored roster that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a stored roster of this version")]
pub struct BadRow;

impl Roster {
    /// Which group.
    pub const fn group(&self) -> GroupId {
        self.group
    }

    /// Which epoch.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The op that made this epoch.
    pub const fn op_hash(&self) -> OpHash {
        self.op_hash
    }

    /// H of [`hash_bytes`].
    pub const fn hash(&self) -> RosterHash {
        self.hash
    }

    /// First four bytes of the hash, as messages carry them.
    pub const fn hint(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = *self.hash.as_bytes();
        [a, b, c, d]
    }

    /// Who began the group.
    pub const fn creator(&self) -> MemberId {
        self.creator
    }

    /// How its messages are sealed.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The suite that `create` named.
    pub const fn suite(&self) -> u8 {
        self.suite
    }

    /// The suite that counts: 1 once a legacy group was upgraded.
    pub fn effective_suite(&self) -> u8 {
        if self.suite >= 0x80 && self.policy.min_version > 1 { 1 } else { self.suite }
    }

    /// Whether `close` ended it.
    pub const fn closed(&self) -> bool {
        self.closed
    }

    /// What it allows.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Everyone, by identity key.
    pub fn members(&self) -> &BTreeMap<MemberId, Member> {
        &self.members
    }

    /// One of them.
    pub fn member(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(id)
    }

    /// The one with role 2, if there is one.
    pub fn bridge(&self) -> Option<(&MemberId, &Member)> {
        self.members.iter().find(|(_, member)| member.role == Role::Bridge)
    }

    /// Every device of every member.
    pub fn devices(&self) -> impl Iterator<Item = DeviceOf> + '_ {
        self.members.iter().flat_map(|(member_id, member)| {
            let of =
                |device_id: &DeviceId| DeviceOf { member_id: *member_id, device_id: *device_id };
            member.devices.iter().map(of)
        })
    }

    /// The member whose device this is, where it counts under this roster: the member is in it and
    /// its newest list up to here names the device. That certificate and record verify, the caller
    /// knows from [`crate::device::DeviceRecord::verify`]; that the envelope's account is
    /// [`Member::account`], he compares.
    pub fn counts(&self, device: &DeviceOf) -> Option<&Member> {
        self.member(&device.member_id).filter(|member| member.has(&device.device_id))
    }

    /// Whether this member may sign an `add` of plain members.
    pub fn may_add(&self, id: &MemberId) -> bool {
        self.member(id).is_some_and(|member| match member.role {
            Role::Admin => true,
            Role::Member => self.policy.members_may_add(),
            Role::Bridge => false,
        })
    }

    /// The devices that were under this roster and are not under `after`, the next one.
    pub fn taken_out(&self, after: &Self) -> Vec<DeviceOf> {
        if Arc::ptr_eq(&self.members, &after.members) {
            return Vec::new();
        }
        self.devices().filter(|device| after.counts(device).is_none()).collect()
    }

    /// Whether `op`, which made `after` of this roster, took a device out.
    pub fn is_cut(&self, after: &Self) -> bool {
        !self.taken_out(after).is_empty()
    }

    /// Its bytes for a row of a database: 120, 41 per member, 32 per device, and the strings.
    pub fn to_row(&self) -> Vec<u8> {
        let to = Writer::with_capacity(256 + 160 * self.members.len())
            .u8(ROW_VERSION)
            .raw(self.group)
            .be32(self.epoch.0)
            .raw(self.op_hash)
            .raw(self.creator)
            .u8(self.scheme as u8)
            .u8(self.suite)
            .u8(self.closed.into());
        let to = body::write_policy(to, &self.policy);
        let write =
            |to, (id, member): (&MemberId, &Member)| body::write_entry(to, &member.to_entry(*id));
        self.members.iter().fold(to.count16(self.members.len()), write).into_bytes()
    }

    /// Reads what [`Roster::to_row`] wrote.
    ///
    /// # Errors
    /// [`BadRow`]: the row is broken, or of another version of the software.
    pub fn from_row(row: &[u8]) -> Result<Self, BadRow> {
        Self::read_row(row).ok_or(BadRow)
    }

    fn read_row(row: &[u8]) -> Option<Self> {
        let mut from = Reader::new(row);
        if from.u8().ok()? != ROW_VERSION {
            return None;
        }
        let group = GroupId::new(from.array().ok()?);
        let epoch = Epoch(from.be32().ok()?);
        let op_hash = OpHash::new(from.array().ok()?);
        let creator = MemberId::new(from.array().ok()?);
        let scheme = Scheme::from_number(from.u8().ok()?)?;
        let (suite, closed) = (from.u8().ok()?, from.u8().ok()? != 0);
        let policy = body::parse_policy(&mut from)?;
        let count = from.be16().ok()?;
        let entries: Option<Vec<Entry>> =
            (0..count).map(|_| body::parse_entry(&mut from)).collect();
        let members = members_of(entries?);
        let whole = from.rest().is_empty() && members.len() == usize::from(count);
        let roster = Self {
            group,
            epoch,
            op_hash,
            hash: RosterHash::new([0; 32]),
            creator,
            scheme,
            suite,
            closed,
            policy: Arc::new(policy),
            members: Arc::new(members),
        };
        whole.then(|| roster.hashed())
    }

    pub(super) fn begin(op: &Op, create: Create, scheme: Scheme) -> Self {
        let creator = op.core().signer_member;
        let entry = Entry {
            member_id: creator,
            role: Role::Admin as u8,
            account: create.account,
            legacy_id: create.legacy_id,
            devices: create.devices,
        };
        let roster = Self {
            group: op.group(),
            epoch: op.epoch(),
            op_hash: op.hash(),
            hash: RosterHash::new([0; 32]),
            creator,
            scheme,
            suite: create.suite,
            closed: false,
            policy: Arc::new(create.policy),
            members: Arc::new(members_of(vec![entry])),
        };
        roster.hashed()
    }

    /// What a valid op makes of this roster.
    pub(super) fn after(&self, op: &Op, body: Body) -> Self {
        let mut next = self.clone();
        next.change(op, body);
        next.hashed()
    }

    /// Makes of it what a valid op does, but for the hash: that is to be made anew.
    pub(super) fn change(&mut self, op: &Op, body: Body) {
        (self.epoch, self.op_hash) = (op.epoch(), op.hash());
        let signer = op.core().signer_member;
        match body {
            Body::Add(entries) => Arc::make_mut(&mut self.members).extend(members_of(entries)),
            Body::Remove(ids) => {
                let members = Arc::make_mut(&mut self.members);
                for id in ids {
                    members.remove(&id);
                }
            }
            Body::Role(id, number) => {
                let target = Arc::make_mut(&mut self.members).get_mut(&id);
                if let (Some(member), Some(role)) = (target, Role::from_number(number)) {
                    member.role = role;
                }
            }
            Body::Policy(policy) => self.policy = Arc::new(policy),
            Body::Leave => drop(Arc::make_mut(&mut self.members).remove(&signer)),
            Body::Devices(devices) => {
                if let Some(member) = Arc::make_mut(&mut self.members).get_mut(&signer) {
                    member.list_version = devices.version;
                    member.devices = devices.ids.into();
                }
            }
            Body::Close => self.closed = true,
            Body::Create(_) => {}
        }
    }

    /// What the hash is over.
    pub fn hash_bytes(&self) -> Vec<u8> {
        let members = self.members.iter().map(|(id, member)| (id, member.role));
        hash_bytes(
            self.group,
            self.epoch,
            self.op_hash,
            self.creator,
            self.policy.min_version,
            members,
        )
    }

    pub(super) fn hashed(mut self) -> Self {
        self.hash = RosterHash::new(hash([self.hash_bytes().as_slice()]));
        self
    }
}

/// What a roster's hash is over, protocol §3.1: `cg/roster/v2\0 ‖ group ‖ be32 epoch ‖ op_hash ‖
/// creator ‖ u8 min_version ‖ be16 n ‖ n sorted (member_id ‖ u8 role)`.
pub fn hash_bytes<'a>(
    group: GroupId,
    epoch: Epoch,
    op_hash: OpHash,
    creator: MemberId,
    min_version: u8,
    members: impl ExactSizeIterator<Item = (&'a MemberId, Role)>,
) -> Vec<u8> {
    let to = Writer::with_capacity(128 + 33 * members.len())
        .raw(b"cg/roster/v2\0")
        .raw(group)
        .be32(epoch.0)
        .raw(op_hash)
        .raw(creator)
        .u8(min_version)
        .count16(members.len());
    members.fold(to, |to, (id, role)| to.raw(id).u8(role as u8)).into_bytes()
}

const ROW_VERSION: u8 = 1;

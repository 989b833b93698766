//! Bodies of the eight ops, as bytes and as fields (protocol §3.2).
//!
//! Fields are as they were written: which values are allowed is asked later, in the steps' order.

use super::{invalid::Invalid, kind::Kind};
use crate::{
    fields::{Reader, Short, TooLong, Writer},
    ids::{DeviceId, MemberId},
};

/// What an op does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Begins the group.
    Create(Create),
    /// Takes members in.
    Add(Vec<Entry>),
    /// Takes members out.
    Remove(Vec<MemberId>),
    /// Whose role becomes what.
    Role(MemberId, u8),
    /// Replaces the policy.
    Policy(Policy),
    /// The signer goes.
    Leave,
    /// The signer's whole device list now.
    Devices(Devices),
    /// Ends the group.
    Close,
}

/// How a group begins; its signer becomes its first admin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// 1 `SenderKeys`, 2 `Pairwise`, 3 `SharedKey`.
    pub scheme: u8,
    /// Cipher suite of the scheme.
    pub suite: u8,
    /// Makes the group's id unique.
    pub rand: [u8; 16],
    /// The signer's account.
    pub account: String,
    /// The seed's id; empty outside legacy groups.
    pub legacy_id: String,
    /// The signer's devices.
    pub devices: Devices,
    /// The first policy.
    pub policy: Policy,
}

/// An account's device list as an op carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Devices {
    /// Version of the list, from 1.
    pub version: u32,
    /// Sorted, without duplicates.
    pub ids: Vec<DeviceId>,
}

/// A member as `add` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The identity key.
    pub member_id: MemberId,
    /// 0 member, 1 admin, 2 bridge.
    pub role: u8,
    /// The account.
    pub account: String,
    /// The seed's id; empty outside legacy groups.
    pub legacy_id: String,
    /// The devices.
    pub devices: Devices,
}

/// What a group allows, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// 2; 1 in a legacy group that was not upgraded.
    pub min_version: u8,
    /// Who may add: 0 admins, 1 members too.
    pub add_by: u8,
    /// Who may post: 0 members, 1 admins only (a channel).
    pub post_by: u8,
    /// Most members, bridge included.
    pub max_members: u32,
    /// How long messages live, in seconds, unless they say less.
    pub ttl_s: u32,
    /// Shown to people.
    pub name: String,
    /// Shown to people.
    pub description: String,
}

impl Policy {
    /// Whether only admins may post.
    pub const fn is_channel(&self) -> bool {
        self.post_by == 1
    }

    /// Whether plain members may add plain members.
    pub const fn members_may_add(&self) -> bool {
        self.add_by == 1
    }
}

impl Body {
    /// Which op has this body.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Create(_) => Kind::Create,
            Self::Add(_) => Kind::Add,
            Self::Remove(_) => Kind::Remove,
            Self::Role(..) => Kind::Role,
            Self::Policy(_) => Kind::Policy,
            Self::Leave => Kind::Leave,
            Self::Devices(_) => Kind::Devices,
            Self::Close => Kind::Close,
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// [`TooLong`]: a string or list does not fit its length field.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TooLong> {
        let to = Writer::new();
        let to = match self {
            Self::Create(create) => {
                let to = to.u8(create.scheme).u8(create.suite).raw(create.rand);
                let to = to.str8(&create.account).str8(&create.legacy_id);
                write_policy(write_devices(to, &create.devices), &create.policy)
            }
            Self::Add(entries) => to.count16(entries.len()).each(entries, write_entry),
            Self::Remove(ids) => to.count16(ids.len()).names(ids),
            Self::Role(member_id, role) => to.raw(member_id).u8(*role),
            Self::Policy(fields) => write_policy(to, fields),
            Self::Devices(list) => write_devices(to, list),
            Self::Leave | Self::Close => to,
        };
        to.finish()
    }

    /// Fields of the body of a `kind` op: its exact length first, then that strings are UTF-8.
    pub(super) fn parse(kind: Kind, bytes: &[u8]) -> Result<Self, Invalid> {
        let mut from = Reader::new(bytes);
        let raw = Raw::read(kind, &mut from).map_err(|Short| Invalid::TruncatedBody)?;
        if !from.rest().is_empty() {
            return Err(Invalid::TrailingBody);
        }
        raw.into_body()
    }
}

fn write_devices(to: Writer, list: &Devices) -> Writer {
    to.be32(list.version).count16(list.ids.len()).names(&list.ids)
}

pub(super) fn write_entry(to: Writer, entry: &Entry) -> Writer {
    let to = to.raw(entry.member_id).u8(entry.role).str8(&entry.account).str8(&entry.legacy_id);
    write_devices(to, &entry.devices)
}

pub(super) fn write_policy(to: Writer, policy: &Policy) -> Writer {
    to.u8(policy.min_version)
        .u8(policy.add_by)
        .u8(policy.post_by)
        .be32(policy.max_members)
        .be32(policy.ttl_s)
        .str8(&policy.name)
        .str16(&policy.description)
}

/// A body whose strings are not known to be UTF-8 yet.
enum Raw<'a> {
    Create(RawCreate<'a>),
    Add(Vec<RawEntry<'a>>),
    Plain(Body),
    Policy(RawPolicy<'a>),
}

struct RawCreate<'a> {
    scheme: u8,
    suite: u8,
    rand: [u8; 16],
    account: &'a [u8],
    legacy_id: &'a [u8],
    devices: Devices,
    policy: RawPolicy<'a>,
}

struct RawEntry<'a> {
    member_id: MemberId,
    role: u8,
    account: &'a [u8],
    legacy_id: &'a [u8],
    devices: Devices,
}

struct RawPolicy<'a> {
    bytes: [u8; 3],
    max_members: u32,
    ttl_s: u32,
    name: &'a [u8],
    description: &'a [u8],
}

impl<'a> Raw<'a> {
    fn read(kind: Kind, from: &mut Reader<'a>) -> Result<Self, Short> {
        Ok(match kind {
            Kind::Create => Self::Create(RawCreate {
                scheme: from.u8()?,
                suite: from.u8()?,
                rand: from.array()?,
                account: from.str8()?,
                legacy_id: from.str8()?,
                devices: read_devices(from)?,
                policy: read_policy(from)?,
            }),
            Kind::Add => {
                Self::Add((0..from.be16()?).map(|_| read_entry(from)).collect::<Result<_, _>>()?)
            }
            Kind::Remove => Self::Plain(Body::Remove(
                (0..from.be16()?)
                    .map(|_| from.array().map(MemberId::new))
                    .collect::<Result<_, _>>()?,
            )),
            Kind::Role => Self::Plain(Body::Role(MemberId::new(from.array()?), from.u8()?)),
            Kind::Policy => Self::Policy(read_policy(from)?),
            Kind::Leave => Self::Plain(Body::Leave),
            Kind::Devices => Self::Plain(Body::Devices(read_devices(from)?)),
            Kind::Close => Self::Plain(Body::Close),
        })
    }

    fn into_body(self) -> Result<Body, Invalid> {
        Ok(match self {
            Self::Create(raw) => Body::Create(Create {
                scheme: raw.scheme,
                suite: raw.suite,
                rand: raw.rand,
                account: utf8(raw.account)?,
                legacy_id: utf8(raw.legacy_id)?,
                devices: raw.devices,
                policy: raw.policy.into_policy()?,
            }),
            Self::Add(raw) => {
                Body::Add(raw.into_iter().map(RawEntry::into_entry).collect::<Result<_, _>>()?)
            }
            Self::Plain(body) => body,
            Self::Policy(raw) => Body::Policy(raw.into_policy()?),
        })
    }
}

impl RawEntry<'_> {
    fn into_entry(self) -> Result<Entry, Invalid> {
        Ok(Entry {
            member_id: self.member_id,
            role: self.role,
            account: utf8(self.account)?,
            legacy_id: utf8(self.legacy_id)?,
            devices: self.devices,
        })
    }
}

impl RawPolicy<'_> {
    fn into_policy(self) -> Result<Policy, Invalid> {
        let [min_version, add_by, post_by] = self.bytes;
        Ok(Policy {
            min_version,
            add_by,
            post_by,
            max_members: self.max_members,
            ttl_s: self.ttl_s,
            name: utf8(self.name)?,
            description: utf8(self.description)?,
        })
    }
}

fn utf8(bytes: &[u8]) -> Result<String, Invalid> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Invalid::BadUtf8)
}

fn read_devices(from: &mut Reader<'_>) -> Result<Devices, Short> {
    let version = from.be32()?;
    let ids =
        (0..from.be16()?).map(|_| from.array().map(DeviceId::new)).collect::<Result<_, _>>()?;
    Ok(Devices { version, ids })
}

fn read_entry<'a>(from: &mut Reader<'a>) -> Result<RawEntry<'a>, Short> {
    Ok(RawEntry {
        member_id: MemberId::new(from.array()?),
        role: from.u8()?,
        account: from.str8()?,
        legacy_id: from.str8()?,
        devices: read_devices(from)?,
    })
}

fn read_policy<'a>(from: &mut Reader<'a>) -> Result<RawPolicy<'a>, Short> {
    Ok(RawPolicy {
        bytes: from.array()?,
        max_members: from.be32()?,
        ttl_s: from.be32()?,
        name: from.str8()?,
        description: from.str16()?,
    })
}

/// Reads what [`write_policy`] wrote.
pub(super) fn parse_policy(from: &mut Reader<'_>) -> Option<Policy> {
    read_policy(from).ok()?.into_policy().ok()
}

/// Reads what [`write_entry`] wrote.
pub(super) fn parse_entry(from: &mut Reader<'_>) -> Option<Entry> {
    read_entry(from).ok()?.into_entry().ok()
}

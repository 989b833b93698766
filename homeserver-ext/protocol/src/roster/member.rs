//! A member of a group and what it may do, and how a group's messages are sealed for its members.

use std::{collections::BTreeMap, sync::Arc};

use super::body::{Devices, Entry};
use crate::ids::{AccountId, DeviceId, MemberId};

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// Reads and writes.
    Member = 0,
    /// Signs for the group.
    Admin = 1,
    /// Speaks for Matrix users; signs nothing but its own `leave`.
    Bridge = 2,
}

impl Role {
    /// The role with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Member,
            1 => Self::Admin,
            2 => Self::Bridge,
            _ => return None,
        })
    }
}

/// How a group's messages are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Scheme {
    /// A chain per sending device, protocol §4.
    SenderKeys = 1,
    /// Every message to every device over Olm, protocol §5.1.
    Pairwise = 2,
    /// One key for all, protocol §5.2.
    SharedKey = 3,
}

impl Scheme {
    /// The scheme with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::SenderKeys,
            2 => Self::Pairwise,
            3 => Self::SharedKey,
            _ => return None,
        })
    }

    /// Highest `max_members` of a policy.
    pub const fn max_members(self) -> u32 {
        match self {
            Self::SenderKeys => 1_000,
            Self::Pairwise => 500,
            Self::SharedKey => 10_000,
        }
    }
}

/// One member at one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it may do.
    pub role: Role,
    /// Its account.
    pub account: AccountId,
    /// The seed's id; empty outside legacy groups.
    pub legacy_id: Arc<str>,
    /// Version of the device list that the group knows.
    pub list_version: u32,
    /// Sorted.
    pub devices: Arc<[DeviceId]>,
}

impl Member {
    /// Whether this is one of its devices.
    pub fn has(&self, device: &DeviceId) -> bool {
        self.devices.binary_search(device).is_ok()
    }

    /// `None` where role or account are none.
    fn from_entry(entry: Entry) -> Option<Self> {
        Some(Self {
            role: Role::from_number(entry.role)?,
            account: entry.account.parse().ok()?,
            legacy_id: entry.legacy_id.into(),
            list_version: entry.devices.version,
            devices: entry.devices.ids.into(),
        })
    }

    pub(super) fn to_entry(&self, member_id: MemberId) -> Entry {
        Entry {
            member_id,
            role: self.role as u8,
            account: self.account.as_str().to_owned(),
            legacy_id: self.legacy_id.as_ref().to_owned(),
            devices: Devices { version: self.list_version, ids: self.devices.to_vec() },
        }
    }
}

/// The members that `entries` name; their values were checked.
pub(super) fn members_of(entries: Vec<Entry>) -> BTreeMap<MemberId, Member> {
    let member = |entry: Entry| Some((entry.member_id, Member::from_entry(entry)?));
    entries.into_iter().filter_map(member).collect()
}

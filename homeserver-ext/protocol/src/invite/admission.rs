//! Whether a device that holds a link signs the `add` of one who used it.
//!
//! It trusts no server: it checks the request again, counts uses and revocation by its own record,
//! and takes account and devices from the newest device list, never from the request.

use super::{
    join::{Join, JoinRefused},
    link::Link,
};
use crate::{
    device::DeviceList,
    ids::{MemberId, Timestamp},
    roster::{Devices, Entry, Log, Role},
};

/// What the holder's own record says of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// How many it has let in, or seen let in.
    pub used: u32,
    /// Whether it was told that the link was taken back.
    pub revoked: bool,
}

/// The asking account's newest device list, whose signature and form the holder checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NowListed<'a> {
    /// As the server gives it now.
    pub list: &'a DeviceList,
    /// Highest version that the holder ever saw of this account; 0 if none.
    pub highest_seen: u32,
}

/// What is to be done with a request that is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Sign an `add` with this entry, role 0.
    Add(Entry),
    /// A `remove` once named this identity or account: sign only if a person says so.
    Ask(Entry),
}

/// Why nobody is let in: the first thing that is wrong, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotAdmitted {
    /// As the server should have found.
    #[error(transparent)]
    Request(JoinRefused),
    /// The account's list is older than one seen before, or of another account or identity.
    #[error("list_differs")]
    ListDiffers,
    /// The one who made the link is not in the group any more.
    #[error("inviter_not_member")]
    InviterNotMember,
    /// The device that signed the link does not count any more.
    #[error("inviter_device_not_counting")]
    InviterDeviceNotCounting,
    /// The one who made the link may not add any more.
    #[error("inviter_may_not_add")]
    InviterMayNotAdd,
    /// The asker is in the group already.
    #[error("already_member")]
    AlreadyMember,
}

impl Join {
    /// Whether the holder of `link`, whose history of the group is `log`, lets the asker in.
    ///
    /// The five minutes of the server's clock do not count here: requests wait for an admin.
    ///
    /// # Errors
    /// [`NotAdmitted`], by what is wrong first.
    pub fn admit(
        &self,
        link: &Link,
        held: Held,
        listed: NowListed<'_>,
        log: &Log,
        now: Timestamp,
    ) -> Result<Admission, NotAdmitted> {
        let (terms, roster) = (&link.terms, log.head());
        let account =
            self.check_signed(terms.group, &terms.secret.key()).map_err(NotAdmitted::Request)?;
        if now > terms.expires {
            return Err(NotAdmitted::Request(JoinRefused::Expired));
        }
        if held.revoked {
            return Err(NotAdmitted::Request(JoinRefused::Revoked));
        }
        if held.used >= terms.uses {
            return Err(NotAdmitted::Request(JoinRefused::Used));
        }
        let NowListed { list, highest_seen } = listed;
        let same = list.account == account
            && list.member_id == self.device.member_id
            && list.version >= highest_seen
            && Devices { version: list.version, ids: list.devices.clone() } == self.devices;
        if !same {
            return Err(NotAdmitted::ListDiffers);
        }
        check_inviter(link, log)?;
        if roster.member(&self.device.member_id).is_some() {
            return Err(NotAdmitted::AlreadyMember);
        }
        let entry = entry_of(list);
        if log.was_removed(&self.device.member_id, &account) {
            Ok(Admission::Ask(entry))
        } else {
            Ok(Admission::Add(entry))
        }
    }
}

fn check_inviter(link: &Link, log: &Log) -> Result<(), NotAdmitted> {
    let (inviter, roster) = (&link.terms.inviter, log.head());
    let is_member = |id: &MemberId| roster.member(id).is_some();
    if !is_member(&inviter.member_id) {
        return Err(NotAdmitted::InviterNotMember);
    }
    if roster.counts(inviter).is_none() {
        return Err(NotAdmitted::InviterDeviceNotCounting);
    }
    if roster.may_add(&inviter.member_id) { Ok(()) } else { Err(NotAdmitted::InviterMayNotAdd) }
}

fn entry_of(list: &DeviceList) -> Entry {
    Entry {
        member_id: list.member_id,
        role: Role::Member as u8,
        account: list.account.as_str().to_owned(),
        legacy_id: String::new(),
        devices: Devices { version: list.version, ids: list.devices.clone() },
    }
}

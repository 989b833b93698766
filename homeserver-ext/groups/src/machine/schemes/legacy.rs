//! Legacy groups with rows (protocol §6): `opus_v1`, in which clients written from seed 001 take part.
//!
//! What the suite does not say stands outside of it: rosters and who counts, Olm sessions, envelopes.
//! A device is called by its key in hex, a group by the beginning of its id as a UUID.

pub(super) mod receive;
pub(super) mod send;

use causeway_protocol::{
    device::DeviceOf,
    ids::{DeviceId, GroupId},
    roster::Log,
};

use crate::{
    machine::{MachineError, work::Work},
    storage::{
        groups as rows,
        legacy::{self, Own},
    },
};

/// After so many messages, or a day, a new chain begins.
const MESSAGES: u64 = 100;
const DAY_MS: u64 = 24 * 3_600_000;

/// With which chain the next messages are sealed.
pub(in crate::machine) struct Plan {
    /// `None`: a new chain begins.
    own: Option<Own>,
    /// Devices that do not have it.
    pub(super) lacking: Vec<DeviceOf>,
}

/// Plans `count` messages, which one chain carries.
pub(super) async fn plan(
    work: &mut Work<'_>,
    group: &rows::Group,
    log: &Log,
    count: usize,
) -> Result<Plan, MachineError> {
    let (vault, now, head) = (work.vault(), work.now, log.head());
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let own = legacy::own(work.conn(), vault, &head.group()).await?.filter(|own| {
        let is_due = log.cut_in(own.epoch, head.epoch())
            || own.epoch > head.epoch()
            || own.key.next_index().saturating_add(count) > MESSAGES.max(count)
            || now > own.created.plus_ms(DAY_MS);
        !group.rotate && !is_due
    });
    let given = own.as_ref().map(|own| own.given.clone()).unwrap_or_default();
    // Who turned out not to be who he is called has the chain from before.
    let leaked = work.any_untrusted(log, |device| given.contains(&device.device_id)).await?;
    let own = own.filter(|_| !leaked);
    let me = work.machine.me().record.device_id;
    let has = |id: &DeviceId| *id == me || own.as_ref().is_some_and(|own| own.given.contains(id));
    let lacking = head.devices().filter(|device| !has(&device.device_id)).collect();
    Ok(Plan { own, lacking })
}

/// What the seed calls a group: the beginning of its id, as a UUID is written.
fn group_id(group: &GroupId) -> String {
    let hex = hex::encode(group.as_bytes());
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    parts.map(|(from, to)| hex.get(from..to).unwrap_or_default()).join("-")
}

/// What the seed calls who speaks: a device's key.
fn sender_public_key(device: &DeviceId) -> String {
    hex::encode(device.as_bytes())
}

//! Legacy groups with rows (protocol §6): `opus_v1` and `ren_a`, in which clients written from seeds 001
//! and 004 take part.
//!
//! What the suite does not say stands outside of it: rosters and who counts, Olm sessions, envelopes.

pub(super) mod receive;
pub(super) mod send;
mod spoken;

use causeway_protocol::{device::DeviceOf, ids::DeviceId, roster::Log};

pub(super) use spoken::Spoken;

use crate::{
    machine::{MachineError, work::Work},
    schemes::legacy::Suite,
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
    suite: Suite,
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
    suite: Suite,
    count: usize,
) -> Result<Plan, MachineError> {
    let (vault, now, head) = (work.vault(), work.now, log.head());
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    let own = legacy::own(work.conn(), vault, suite, &head.group()).await?.filter(|own| {
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
    Ok(Plan { suite, own, lacking })
}

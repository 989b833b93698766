//! Sender Keys with rows (protocol §4): when a chain is replaced, and who lacks it.

pub(super) mod inventory;
pub(super) mod receive;
pub(super) mod send;

use std::collections::HashSet;

use causeway_protocol::{
    device::DeviceOf,
    ids::{DeviceId, Timestamp},
    roster::Log,
};

use crate::{
    machine::{MachineError, batch::MAX_AT_ONCE, work::Work},
    schemes::sender_keys::{OwnChain, Suite},
    storage::{chains, groups as rows},
};

const DAY_MS: u64 = 24 * 3_600_000;
/// Messages after which a chain is replaced, in small groups (protocol §4.3).
const SOFT_LIMIT: u32 = 100;
/// Messages that a chain carries at most; the tree would have room for a few more.
const HARD_LIMIT: u32 = 1_000;

/// With which chain the next messages are sealed.
pub(in crate::machine) struct Plan {
    suite: Suite,
    /// `None`: a new chain begins.
    chain: Option<OwnChain>,
    /// Devices that do not have the chain.
    pub(super) lacking: Vec<DeviceOf>,
}

impl Plan {
    pub(super) const fn begins(&self) -> bool {
        self.chain.is_none()
    }
}

/// Plans `count` messages, which one chain carries.
pub(super) async fn plan(
    work: &mut Work<'_>,
    group: &rows::Group,
    log: &Log,
    suite: Suite,
    count: usize,
) -> Result<Plan, MachineError> {
    const { assert!(MAX_AT_ONCE <= HARD_LIMIT as usize, "one chain carries all of a batch") }
    let (vault, now) = (work.vault(), work.now);
    let head = log.head();
    let chain = match work.own.take() {
        Some(own) => own,
        None => chains::own_and_given(work.conn(), vault, &head.group()).await?,
    };
    let chain = chain.filter(|(chain, _)| !group.rotate && !is_due(chain, log, now, count));
    let (chain, given) = chain.unzip();
    let given: HashSet<DeviceId> = given.unwrap_or_default();
    // Who turned out not to be who he is called has the chain from before.
    let leaked = work.any_untrusted(log, |device| given.contains(&device.device_id)).await?;
    let (chain, given) = if leaked { (None, HashSet::new()) } else { (chain, given) };
    let me = work.machine.me().record.device_id;
    let lacks = |device: &DeviceOf| device.device_id != me && !given.contains(&device.device_id);
    let lacking = head.devices().filter(lacks).collect();
    Ok(Plan { suite, chain, lacking })
}

/// Whether the chain may not carry `count` more messages (protocol §4.3, rotation).
fn is_due(chain: &OwnChain, log: &Log, now: Timestamp, count: usize) -> bool {
    let head = log.head();
    let members = u32::try_from(head.members().len()).unwrap_or(u32::MAX);
    let sent = chain.next_index();
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    log.cut_in(chain.epoch(), head.epoch())
        || sent >= SOFT_LIMIT.max(members.saturating_mul(2))
        || sent.saturating_add(count) > HARD_LIMIT
        || now > chain.created().plus_ms(DAY_MS)
        || chain.epoch() > head.epoch()
}

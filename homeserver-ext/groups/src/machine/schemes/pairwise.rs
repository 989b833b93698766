//! Pairwise fan-out with rows (protocol §5.1): nothing is shared but the sessions that there are.

pub(super) mod again;
pub(super) mod receive;
pub(super) mod send;

use causeway_protocol::{device::DeviceOf, roster::Log};

use crate::machine::work::Work;

/// How long the key of a message is kept, to be given again (protocol §5.1).
pub(super) const DAY_MS: u64 = 24 * 3_600_000;

/// For whom the next messages are sealed.
pub(in crate::machine) struct Plan {
    /// All devices that count but this one: each gets a piece.
    pub(super) lacking: Vec<DeviceOf>,
}

/// Whoever counts under the newest roster reads what comes next: so one who was added is given something,
/// and one who was taken out nothing more, without any key being changed.
pub(super) fn plan(work: &Work<'_>, log: &Log) -> Plan {
    let me = work.machine.me().record.device_id;
    Plan { lacking: log.head().devices().filter(|device| device.device_id != me).collect() }
}

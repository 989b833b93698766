//! What the suites call a group and who speaks.
//!
//! A group and a device have no name of the seeds: theirs are made from the ids that the roster and the
//! Olm session prove.

use causeway_protocol::ids::{DeviceId, GroupId};

use super::Suite;

impl Suite {
    /// What the suite's clients call a group.
    pub fn group_name(self, group: &GroupId) -> String {
        match self {
            Self::OpusV1 => group_uuid(group),
            Self::RenA => number(group.as_bytes()).to_string(),
        }
    }
}

/// What `opus_v1` calls a group: the beginning of its id, as a UUID is written.
pub fn group_uuid(group: &GroupId) -> String {
    let hex = hex::encode(group.as_bytes());
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    parts.map(|(from, to)| hex.get(from..to).unwrap_or_default()).join("-")
}

/// What `opus_v1` calls who speaks: a device's key.
pub fn sender_public_key(device: &DeviceId) -> String {
    hex::encode(device.as_bytes())
}

/// What `ren_a` calls a group and who speaks: the first four bytes of their ids, little-endian.
pub fn numbers(group: &GroupId, device: &DeviceId) -> (i32, i32) {
    (number(group.as_bytes()), number(device.as_bytes()))
}

fn number(id: &[u8; 32]) -> i32 {
    let [a, b, c, d, ..] = *id;
    i32::from_le_bytes([a, b, c, d])
}

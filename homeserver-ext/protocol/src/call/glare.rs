//! Who goes first where two would, and what the SFU calls a device.

use crate::{
    ids::{CallId, DeviceId, GroupId},
    keys::hash,
};

/// Whether `me` makes the offer (and restarts ICE) to `peer`: the higher public key does, so that
/// two never offer to each other.
pub fn offers(me: &DeviceId, peer: &DeviceId) -> bool {
    me > peer
}

/// Whether the call that `starter` began stands where two that could not know of each other meet.
pub fn prevails(starter: &DeviceId, other: &DeviceId) -> bool {
    starter > other
}

/// What a device is called in the SFU's room, in hex: `H("cg/call/who\0" ‖ call ‖ device)[..16]`.
/// The SFU learns no account from it, and does not recognise a device in its next call.
pub fn sfu_identity(call: &CallId, device: &DeviceId) -> String {
    hex(hash([b"cg/call/who\0".as_slice(), call.as_bytes(), device.as_bytes()]))
}

/// What the SFU's room of a call is called, in hex: `H("cg/call/room\0" ‖ group ‖ call)[..16]`. Two
/// groups may have drawn the same call id. Where a bridge is in the group the home draws a name.
pub fn sfu_room(group: &GroupId, call: &CallId) -> String {
    hex(hash([b"cg/call/room\0".as_slice(), group.as_bytes(), call.as_bytes()]))
}

fn hex(hash: [u8; 32]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    hash.iter().take(16).flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

//! Those of Matrix in a call: what they are called where everybody is known by a device.

use causeway_protocol::{
    api::{CallGuest, CallState},
    ids::DeviceId,
};
use sha2::{Digest as _, Sha256};

/// By what one of Matrix is known where sound is told apart: a hash of both names, on this device alone.
/// No device has that for its key, so nothing is said to it and nothing comes from it but sound.
pub fn stand_in(guest: &CallGuest) -> DeviceId {
    let hash = Sha256::new().chain_update(b"guest\0");
    let hash = hash.chain_update(&guest.mirror).chain_update([0]).chain_update(&guest.device);
    DeviceId::new(hash.finalize().into())
}

/// Who of Matrix is known so in this call.
pub fn guest_of(state: &CallState, device: DeviceId) -> Option<&CallGuest> {
    state.guests().find(|guest| stand_in(guest) == device)
}

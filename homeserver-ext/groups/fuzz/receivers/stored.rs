//! What is read back from storage: the same bytes are written again, or it is refused.

use causeway_groups::schemes::{
    pairwise::FanOut,
    sender_keys::{HeldChain, OwnChain},
    shared_key::Window,
};
use causeway_protocol::{
    fanout::Context,
    ids::{ClientId, DeviceId, Epoch, GroupId, RosterHash},
};

/// Reads `bytes` as each of what is stored.
pub(crate) fn stored(bytes: &[u8]) {
    if let Some(chain) = OwnChain::decode(bytes) {
        assert_eq!(*chain.encode(), *bytes);
    }
    if let Some(chain) = HeldChain::decode(bytes) {
        assert_eq!(*chain.encode(), *bytes);
    }
    if let Some(window) = Window::decode(bytes) {
        assert_eq!(window.encode(), bytes);
    }
    let context = Context {
        group: GroupId::new([1; 32]),
        sender: DeviceId::new([2; 32]),
        epoch: Epoch(3),
        roster: RosterHash::new([4; 32]),
        msg_id: ClientId::new([0; 16]),
    };
    if let Some(fan_out) = FanOut::decode(context, bytes) {
        assert_eq!(*fan_out.encode(), *bytes);
    }
}

//! Whether and how a device can be given something.

use causeway_protocol::ids::{AccountId, DeviceId};

use crate::storage::accounts::KnownDevice;

/// How a device can be given something.
pub(super) enum Reach {
    Session(Box<KnownDevice>),
    Unknown(AccountId),
    NoSession(DeviceId),
    /// Asked for a short while ago, in vain.
    Never,
}

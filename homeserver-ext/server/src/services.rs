//! What can be asked of the server: functions, one transaction each, none calling another.

pub(crate) mod accounts;
pub(crate) mod calls;
pub(crate) mod delivery;
pub(crate) mod device_lists;
pub(crate) mod events;
pub(crate) mod groups;
pub(crate) mod invites;
pub(crate) mod kept;
pub(crate) mod keys;
pub(crate) mod links;
pub(crate) mod operator;
pub(crate) mod relay;
pub(crate) mod remote_accounts;
pub(crate) mod sender_keys;
pub(crate) mod servers;
pub(crate) mod upkeep;

use causeway_protocol::{api::OpBytes, ids::Epoch};

/// The caller's view of a group is not the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Behind {
    /// Where the group stands here.
    pub(crate) epoch: Epoch,
    /// What the caller lacks; none where it is the server that is behind.
    pub(crate) ops: Vec<OpBytes>,
}

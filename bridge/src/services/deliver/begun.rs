//! What is sealed and kept, and waits for being posted.

use causeway_groups::sdk::Sending;
use causeway_protocol::ids::GroupId;

use crate::{domain::effect::InGroup, storage::outbox::Stored};

/// Rows of a lane that are sealed.
pub(super) struct Begun {
    /// The group that the lane leads into.
    pub(super) group: GroupId,
    pub(super) rows: Vec<Stored<InGroup>>,
    /// Nothing else was seen in the lane.
    pub(super) is_all: bool,
    /// The batch that carries them.
    pub(super) sending: Sending,
}

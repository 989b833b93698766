//! A line of another program's, in one line.

use causeway_protocol::ids::{ClientId, DeviceId, Timestamp};
use serde::{Deserialize, Serialize};

/// What another program has kept. Nobody has verified who wrote it: whoever had its key could have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Imported {
    /// Which program: `secirc`.
    pub(crate) source: String,
    /// What that program calls who is said to have written it, hex.
    pub(crate) sender: String,
    /// The same in the place of a device.
    pub(crate) device: DeviceId,
    /// What that program calls it.
    pub(crate) client_id: ClientId,
    /// What it says.
    pub(crate) body: String,
    /// When it is said to have been written.
    pub(crate) sent_at_ms: Timestamp,
}

impl Imported {
    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let sender = self.sender.get(..8).unwrap_or(&self.sender);
        format!("{sender} ({}, imported, not verified): {}", self.source, self.body)
    }
}

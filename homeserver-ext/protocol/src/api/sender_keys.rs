//! The sender-key inventory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{DeviceId, Epoch, Timestamp, base64url};

/// What a client reports of a sender-key chain (`PUT groups/{id}/sender-keys`); no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SenderKeyReport {
    /// First four bytes of the chain id.
    #[serde(with = "base64url")]
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{5}[AQgw]$")]
    pub tag: Vec<u8>,
    /// Whose chain.
    pub sender: DeviceId,
    /// Epoch of its creation.
    pub epoch: Epoch,
    /// Next index, where it is the reporter's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_index: Option<u32>,
    /// Devices that have not acknowledged it, where it is the reporter's own.
    #[serde(default, deserialize_with = "crate::json::or_default")]
    #[schema(nullable)]
    pub unacknowledged: u32,
}

/// Body of `PUT groups/{id}/sender-keys`: the caller's device holds these, and no others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PutSenderKeys {
    /// At most 1,000.
    #[schema(max_items = 1_000)]
    pub keys: Vec<SenderKeyReport>,
    /// Messages that could not be opened, by reason, since the last report: at most 64 reasons of at
    /// most 64 bytes.
    #[serde(default, deserialize_with = "crate::json::or_default")]
    #[schema(nullable)]
    pub failures: BTreeMap<String, u32>,
}

/// Answer to `GET groups/{id}/sender-keys?from=<device>&limit=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SenderKeyInventory {
    /// One for each device that reported, by device, at most `limit` (default 100, at most 1,000; at
    /// most 4 MiB).
    pub reports: Vec<SenderKeyInventoryEntry>,
    /// `from` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<DeviceId>,
    /// The group's scheme, by its number in `create`: of 1 the keys are chains, of 3 they are shared
    /// keys, and of 2 there are none, since each message has its own; a server of before does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<u8>,
}

/// What one device reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SenderKeyInventoryEntry {
    /// Who says so.
    pub reported_by: DeviceId,
    /// When.
    pub at_ms: Timestamp,
    /// What.
    #[serde(flatten)]
    pub report: PutSenderKeys,
}

/// Answer to `PUT groups/{id}/sender-keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SenderKeysNoted {
    /// When everybody was last asked to rotate; a device whose chain is older makes a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_asked_ms: Option<Timestamp>,
}

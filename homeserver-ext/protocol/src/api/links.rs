//! Linking a device: what the new one and the first leave for each other.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::device::DeviceRecord;

/// A sealed answer: nonce 12 ‖ AES-256-GCM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedAnswer(#[serde(with = "crate::ids::base64url")] pub Vec<u8>);

/// Body of `PUT links/{id}/answer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PutAnswer {
    /// What the new device can open, and the server cannot; at most 4,096 bytes.
    #[schema(value_type = crate::ids::Bytes)]
    pub answer: SealedAnswer,
}

/// Answer to `GET links/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkState {
    /// The first device's, once it has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::ids::Bytes>)]
    pub answer: Option<SealedAnswer>,
    /// The new device's record, once it has signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<DeviceRecord>,
}

//! What a server says of itself, and every refusal.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{AccountId, DeviceId, Epoch, MemberId, Timestamp};

use super::{AcceptedEnvelope, CallState, OpBytes};

/// Answer to `GET server`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerInfo {
    /// Its name, the part of its accounts after the colon.
    pub server: String,
    /// The account that bridges groups into Matrix rooms, if there is one.
    pub bridge: Option<BridgeInfo>,
    /// Who may register.
    pub registration: Registration,
    /// What it takes.
    pub limits: Limits,
}

/// The server's bridge, to be shown before it is let into a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BridgeInfo {
    /// Its account.
    pub account: AccountId,
    /// Its identity key.
    pub member_id: MemberId,
    /// Fingerprint of that key, six groups of four digits: for people to compare.
    pub fingerprint: String,
}

/// Who may register an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Nobody.
    Closed,
    /// Whoever has a registration token.
    Token,
    /// Everybody.
    Open,
}

/// What the server takes; more is refused with 413 or 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// Bytes of one payload.
    pub max_payload_bytes: u32,
    /// Envelopes of one POST.
    pub max_envelopes: u32,
    /// Bytes of one POST.
    pub max_body_bytes: u32,
    /// Longest a message is kept, and the default.
    pub max_ttl_ms: u64,
    /// One-time keys kept for one device.
    pub max_one_time_keys: u32,
}

/// Every refusal of this API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Matrix code where one fits, else `DEV_CAUSEWAY_…`.
    pub errcode: String,
    /// What happened, why, and what to do.
    pub error: String,
    /// With `M_LIMIT_EXCEEDED`: when to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// With `M_STALE_EPOCH`: where the group stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// With `M_STALE_EPOCH`: what the caller lacks, from the epoch after the one it stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<crate::ids::Bytes>>)]
    pub ops: Option<Vec<OpBytes>>,
    /// Another server whom it is about: with `DEV_CAUSEWAY_UNREACHABLE` who does not answer, else who
    /// refuses, or answered so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// With `DEV_CAUSEWAY_UNREACHABLE`: since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<Timestamp>,
    /// With `DEV_CAUSEWAY_CALL_EXISTS`, `DEV_CAUSEWAY_STALE_EPOCH` and `DEV_CAUSEWAY_CALL_ENDED`: where the call
    /// stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Box<CallState>>,
    /// With `DEV_CAUSEWAY_SFU_UNAVAILABLE`: how many the call has room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// With `DEV_CAUSEWAY_CANNOT_USE_SFU`: whose devices cannot.
    #[serde(
        default,
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schema(nullable)]
    pub who: Vec<DeviceId>,
    /// Of many envelopes, of which a later part is refused: those that are taken.
    #[serde(
        default,
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schema(nullable)]
    pub accepted: Vec<AcceptedEnvelope>,
}

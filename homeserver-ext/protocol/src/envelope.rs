//! What travels, and what waits: envelopes and mailbox rows (protocol §2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{AccountId, DeviceId, EnvelopeId, Epoch, GroupId, base64url};

/// What an envelope is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Broadcast ciphertext of a group scheme.
    Message,
    /// Key material over Olm, types D and K.
    KeyDistribution,
    /// Type R.
    KeyRequest,
    /// Type A.
    KeyAck,
    /// Any other Olm plaintext.
    Direct,
    /// One message, a piece for each recipient device.
    Fanout,
    /// Call signalling.
    Call,
    /// An op, by the server.
    Roster,
    /// A join request, by the server.
    Join,
    /// State of a call, by the server.
    CallChanged,
    /// Sixteen bytes: the id of what expired, by the server.
    Expired,
}

/// Who sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sender {
    /// The account.
    pub account: AccountId,
    /// Its device.
    pub device: DeviceId,
}

/// For whom it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Recipient {
    /// Every other device of the group.
    Broadcast,
    /// One.
    Device(DeviceId),
}

/// A row as it reaches a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Envelope {
    /// See [`Envelope::compute_id`].
    pub id: EnvelopeId,
    /// What for.
    pub kind: Kind,
    /// In which group.
    pub group: GroupId,
    /// Roster epoch that its sender stated; of a roster row, its op's.
    pub epoch: Epoch,
    /// Absent where the server made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
    /// For whom.
    pub to: Recipient,
    /// How long it is kept.
    pub ttl_ms: u64,
    /// What the kind says.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub payload: Vec<u8>,
    /// The recipient's own part of a `fanout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub piece: Option<Piece>,
}

/// The part of a fan-out message that one device gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Piece(#[serde(with = "base64url")] pub Vec<u8>);

/// For whom a submitted envelope is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubmittedTo {
    /// Every other device of the group.
    Broadcast,
    /// One.
    Device(DeviceId),
    /// A piece for each, `fanout` only.
    #[schema(value_type = BTreeMap<String, String>)]
    Devices(BTreeMap<DeviceId, Piece>),
}

/// An envelope as a device posts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Submission {
    /// The server recomputes it; absent for `fanout`, which stands for several rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EnvelopeId>,
    /// What for; the server's own kinds are refused.
    pub kind: Kind,
    /// In which group; as in the path.
    pub group: GroupId,
    /// Roster epoch under which it was made.
    pub epoch: Epoch,
    /// The caller.
    pub sender: Sender,
    /// For whom.
    pub to: SubmittedTo,
    /// How long it is to be kept.
    pub ttl_ms: u64,
    /// What the kind says.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub payload: Vec<u8>,
}

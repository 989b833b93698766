//! Invites, and those who use them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{AccountId, InviteKey, RequestId, Timestamp, base64url};

/// Body of `POST groups/{id}/invites`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewInvite {
    /// Public half of the invite's key; the server never sees the other.
    pub ik_pub: InviteKey,
    /// Until when it is good.
    pub expires_ms: Timestamp,
    /// How often, at least once.
    #[schema(minimum = 1)]
    pub uses: u32,
}

/// An invite as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InviteState {
    /// Public half of its key.
    pub ik_pub: InviteKey,
    /// Who made it.
    pub by: AccountId,
    /// Until when it is good.
    pub expires_ms: Timestamp,
    /// How often it may be used.
    pub uses: u32,
    /// How often it was.
    pub used: u32,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// Answer to `GET groups/{id}/invites?from=<ik_pub>&limit=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitePage {
    /// By `ik_pub`.
    pub invites: Vec<InviteState>,
    /// `from` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<InviteKey>,
}

/// Body of `POST groups/{id}/join`; the only call on a group by one who is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinRequest {
    /// Request and two signatures, protocol §3.4.
    #[serde(with = "base64url")]
    #[schema(value_type = crate::ids::Bytes)]
    pub request: Vec<u8>,
    /// The link's `h`, the server that keeps the group: who asks there, where one's own does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// Answer to `POST groups/{id}/join`: the request waits for a member who may admit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinPending {
    /// Names the request.
    pub id: RequestId,
}

/// A join request that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingRequest {
    /// Names it.
    pub id: RequestId,
    /// Request and two signatures, protocol §3.4.
    #[serde(with = "base64url")]
    #[schema(value_type = crate::ids::Bytes)]
    pub request: Vec<u8>,
    /// When it came.
    pub at_ms: Timestamp,
}

/// Answer to `GET groups/{id}/requests?from=<id>&limit=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestPage {
    /// By id.
    pub requests: Vec<PendingRequest>,
    /// `from` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<RequestId>,
}

//! Groups and their op logs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{Epoch, GroupId, RosterHash, Timestamp, base64url};

/// Body of `POST groups` and `POST groups/{id}/roster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PostOp {
    /// `core ‖ certificate ‖ signature`, protocol §3.2.
    #[serde(with = "base64url")]
    #[schema(value_type = crate::ids::Bytes)]
    pub op: Vec<u8>,
}

/// Where a group stands; answer to `POST groups`, `POST groups/{id}/roster` and `GET groups/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupHead {
    /// Which group.
    pub group: GroupId,
    /// Epoch of its last op.
    pub epoch: Epoch,
    /// The roster there.
    pub roster_hash: RosterHash,
    /// Name in its policy.
    pub name: String,
    /// Members, bridge included.
    pub members: u32,
    /// Whether `close` ended it.
    pub closed: bool,
}

/// Answer to `GET groups/{id}/servers`, protocol §7.3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupServers {
    /// The server that orders the group's ops.
    pub home: String,
    /// The other servers with members of it, by name.
    pub servers: Vec<GroupServer>,
}

/// What the answering server knows of another one with members of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupServer {
    /// Its name.
    pub server: String,
    /// Messages for the whole group that it has not taken; 1,000 at most are counted.
    pub waiting: u64,
    /// Whether something has waited for it for so long that it cannot be reached.
    #[serde(default)]
    pub silent: bool,
    /// Since when something waits that it does not take; absent where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_since_ms: Option<Timestamp>,
    /// When something came of it last; absent where nothing has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<Timestamp>,
}

/// Answer to `GET groups`: the caller's groups by id; `?from=<group>&limit=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupPage {
    /// At most `limit` (default 100, at most 1,000).
    pub groups: Vec<GroupHead>,
    /// `from` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<GroupId>,
}

/// One op in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpBytes(
    /// `core ‖ certificate ‖ signature`.
    #[serde(with = "base64url")]
    pub Vec<u8>,
);

/// Answer to `GET groups/{id}/roster?from=<epoch>&limit=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpPage {
    /// From `from` on, in order, at most `limit` (default 100, at most 1,000; at most 4 MiB).
    #[schema(value_type = Vec<crate::ids::Bytes>)]
    pub ops: Vec<OpBytes>,
    /// Epoch of the group's last op.
    pub epoch: Epoch,
    /// `from` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Epoch>,
}

//! What happened in groups, for those who watch; never what was said.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{AccountId, EnvelopeId, Epoch, GroupId, Seq, Timestamp};

/// Answer to `GET events?from=<id>&limit=&group=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// In the order in which they happened.
    pub events: Vec<GroupEvent>,
    /// `from` of the next page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Seq>,
    /// From `from` on some of those up to this one are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Seq>,
    /// No event that happened so far has a number above this. One that has is of a database that was
    /// put back since.
    pub last: Seq,
}

/// One thing that happened in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupEvent {
    /// Rises from event to event, with gaps.
    pub id: Seq,
    /// When.
    pub at_ms: Timestamp,
    /// Where.
    pub group: GroupId,
    /// What.
    pub kind: EventKind,
    /// Whom it is about.
    pub account: AccountId,
    /// The rest.
    #[serde(flatten)]
    pub about: EventAbout,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum EventKind {
    /// The account began the group.
    #[serde(rename = "group.created")]
    GroupCreated,
    /// The account came in.
    #[serde(rename = "group.joined")]
    GroupJoined,
    /// The account went, or was taken out.
    #[serde(rename = "group.left")]
    GroupLeft,
    /// The account closed the group.
    #[serde(rename = "group.closed")]
    GroupClosed,
    /// Another op of the account, which `op` names; of `role` the account whose role it is.
    #[serde(rename = "roster.changed")]
    RosterChanged,
    /// A device of the account said that it has begun a new chain, or key.
    #[serde(rename = "key.rotated")]
    KeyRotated,
    /// A device of the account said that it could not open messages.
    #[serde(rename = "key.failed")]
    KeyFailed,
    /// The account asked all others for new chains.
    #[serde(rename = "key.asked")]
    KeyAsked,
    /// What the account posted ended before all had it.
    #[serde(rename = "message.expired")]
    MessageExpired,
    /// What the account posted cannot arrive at somebody, who could not hold it.
    #[serde(rename = "message.failed")]
    MessageFailed,
    /// What a newer server says.
    #[serde(other, rename = "unknown")]
    Unknown,
}

/// What else is known of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventAbout {
    /// The epoch that an op made; of a message its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// Which op.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// Who signed it, where that is another account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<AccountId>,
    /// How often, since `since_ms`: what goes on takes the place of what was said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// When it began to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<Timestamp>,
    /// The last envelope of which it is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<EnvelopeId>,
}

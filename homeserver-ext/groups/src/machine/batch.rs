//! What leaves the machine: messages, chores, and what it needs before.

use std::fmt;

use causeway_protocol::{
    api::UploadKeys,
    content::Content,
    envelope::Submission,
    ids::{AccountId, ClientId, DeviceId, EnvelopeId, Epoch, GroupId},
};
use serde::{Deserialize, Serialize};

use super::MachineError;

/// A message to be sealed. What it says is no part of its `Debug` form.
#[derive(Clone)]
pub struct Outgoing {
    /// Its name; the same when it is sealed again after a refusal.
    pub client_id: ClientId,
    /// How long it is to live, in seconds; 0 as long as the group says.
    pub ttl_s: u32,
    /// What it says.
    pub content: Content,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("client_id", &self.client_id)
            .field("type", &self.content.number())
            .finish_non_exhaustive()
    }
}

/// One POST to a group: finished bytes, to be stored in the transaction that made them.
///
/// After an unknown outcome the same bytes are sent again; after an answered refusal it is dropped
/// and its messages are sealed anew, with the same client ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The group.
    pub group: GroupId,
    /// The epoch that every envelope of it states.
    pub epoch: Epoch,
    /// What to post, in this order: keys first.
    pub submissions: Vec<Submission>,
    /// Ids of the messages, one for each [`Outgoing`].
    pub messages: Vec<EnvelopeId>,
}

impl Batch {
    /// Whether envelopes to single devices are in it: then [`super::Machine::accepted`] is to be
    /// told when the server has it. Without them there is nothing to tell.
    pub const fn has_keys(&self) -> bool {
        self.submissions.len() > self.messages.len()
    }
}

/// What is to be asked of the server before a group's next message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Accounts whose list and records are not known: `GET accounts/{account}`, then
    /// [`super::Machine::learn`].
    pub accounts: Vec<AccountId>,
    /// Devices to claim a one-time key of: `POST keys/claim`, then [`super::Machine::claimed`].
    pub claims: Vec<DeviceId>,
}

impl Needs {
    /// Whether nothing is needed.
    pub const fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.claims.is_empty()
    }
}

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Not in this group, or never heard of it.
    #[error("this device is not in group {0}")]
    NotMember(GroupId),
    /// `close` ended it.
    #[error("the group is closed")]
    Closed,
    /// The server showed two histories: a person decides first.
    #[error("the group has two histories; decide with `group fork show`, `keep` or `adopt`")]
    Forked,
    /// Only admins may post here.
    #[error("only admins post in this group")]
    Channel,
    /// Ask what [`super::Machine::needs`] says, then seal again.
    #[error("keys of some devices are to be fetched first")]
    Unprepared(Needs),
    /// The message at this position is larger than an envelope takes: bytes, most.
    #[error("message {0} is {1} bytes sealed, at most {2} fit")]
    TooLarge(usize, usize, usize),
    /// How many were to be sealed at once, and the most.
    #[error("{0} messages at once, at most {1}")]
    TooMany(usize, usize),
    /// A scheme or suite that is not built.
    #[error("the group's scheme is not built yet")]
    Scheme,
    /// Ours to log.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// What is to be done for others, now. Every part can be done again without harm.
#[derive(Debug, Default)]
pub struct Chores {
    /// To be posted, then [`super::Machine::accepted`]. A batch without messages needs no row of
    /// the caller's: what is not accepted comes again.
    pub batches: Vec<Batch>,
    /// Signed ops to be posted to their groups; the answer (or the ops of a 409) to
    /// [`super::Machine::install_ops`].
    pub ops: Vec<(GroupId, Vec<u8>)>,
    /// `GET groups/{id}/roster?from=`, then [`super::Machine::install_ops`].
    pub fetch_ops: Vec<(GroupId, Epoch)>,
    /// All pages of `GET groups/{id}/requests`, then [`super::Machine::take_requests`].
    pub fetch_requests: Vec<GroupId>,
    /// What is needed of the server.
    pub needs: Needs,
    /// `POST keys`, then [`super::Machine::uploaded`].
    pub keys: Option<UploadKeys>,
}

impl Chores {
    /// Whether there is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.batches.is_empty()
            && self.ops.is_empty()
            && self.fetch_ops.is_empty()
            && self.fetch_requests.is_empty()
            && self.needs.is_empty()
            && self.keys.is_none()
    }
}

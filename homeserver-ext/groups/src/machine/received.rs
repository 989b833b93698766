//! What came of mailbox rows.

use std::fmt;

use causeway_protocol::{
    api::CallState,
    content::Content,
    envelope::Sender,
    ids::{
        AccountId, ClientId, DeviceId, EnvelopeId, Epoch, GroupId, MemberId, OpHash, RequestId,
        Seq, ShareId, Timestamp,
    },
    olm_plaintext::{CallSignal, PastText},
    roster::{Kind, Role},
};

use super::Trust;
use crate::storage::holds::WaitsFor;

/// What came of a slice of rows.
#[derive(Debug)]
pub struct Receipts {
    /// In the order of the rows; a row that opens others that waited for it has theirs after its
    /// own.
    pub received: Vec<Received>,
    /// Rows up to and with this one may be acknowledged, once the transaction is committed, but for
    /// those that are to be parked.
    pub through: Option<Seq>,
    /// There is no room to hold these, or they go behind others of their sender that are parked.
    pub parked: Vec<Seq>,
    /// Whose row is the first of his in its group that is parked, where there is such a row.
    pub no_room: Option<Sender>,
    /// Calls that are other than they were, in the order of the rows; an old state may be among them.
    pub calls: Vec<CallState>,
}

/// What a device told this one about a call that both are to be in. That it counts in the group and is
/// who it is called was looked at; that it takes part in the call is for its reader to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signalled {
    /// The group whose call it is.
    pub group: GroupId,
    /// Who has proven to have said it.
    pub from: DeviceId,
    /// What.
    pub signal: CallSignal,
}

/// What came of one row.
#[derive(Debug)]
pub struct Received {
    /// Its own place in the mailbox, also where it was held meanwhile; 0 for an op that did not
    /// come by the mailbox.
    pub seq: Seq,
    /// The group.
    pub group: GroupId,
    /// What.
    pub what: What,
}

/// What a row was.
#[derive(Debug)]
pub enum What {
    /// A message, shown once.
    Message(Incoming),
    /// Texts of before that a member has shared, in his words: no messages.
    Past(Past),
    /// An op was installed.
    Roster(RosterChange),
    /// Somebody wants in; [`crate::machine::Chores`] answers, unless a person must.
    JoinAsked {
        /// Names the request.
        id: RequestId,
        /// Who says he asks; nothing of it is checked yet.
        account: AccountId,
        /// Whether a `remove` once named him: then a person must let him in, by an `add`.
        was_removed: bool,
    },
    /// An envelope of this device's that a recipient did not take in time.
    Expired {
        /// Which.
        id: EnvelopeId,
    },
    /// Kept until it can be judged.
    Held {
        /// Which envelope.
        id: EnvelopeId,
        /// From which device.
        sender: DeviceId,
        /// What is missing.
        waits_for: WaitsFor,
    },
    /// Had before.
    Duplicate,
    /// Cannot be shown, ever; it changed nothing.
    Failed {
        /// Which envelope.
        id: EnvelopeId,
        /// From which device; `None` where the server made it.
        sender: Option<DeviceId>,
        /// Why, in one word for logs and people: `failed_removed`, `signature`, ….
        reason: &'static str,
    },
    /// Keys, acknowledgements and the like: nothing to show.
    Keys,
    /// A device of a call told this one how to connect; for whoever takes part.
    Signal(Signalled),
    /// The server shows a second history: nothing is sent in this group until a person decides. Or
    /// a member says that there is one ([`Fork::other`] is `None`), and it is asked for.
    Fork(Fork),
    /// A member of the group is not who it is called, or is no longer. It is given nothing.
    Identity(IdentityShown),
    /// Somebody has added this account to a group. Nothing goes there, and nothing that comes is
    /// opened, before [`super::Machine::take_offer`].
    Offered(OfferShown),
}

/// A message that opened. What it says is no part of its `Debug` form.
#[derive(Clone)]
pub struct Incoming {
    /// The envelope's id.
    pub id: EnvelopeId,
    /// Who.
    pub sender: AccountId,
    /// With which device.
    pub device: DeviceId,
    /// Under which identity.
    pub member: MemberId,
    /// In which role, under the roster that the message names.
    pub role: Role,
    /// Whether that identity is the account's, as far as is known here.
    pub trust: Trust,
    /// The role that I have myself under that roster.
    pub my_role: Role,
    /// What the sender calls it.
    pub client_id: ClientId,
    /// When, by the sender's clock.
    pub sent_at: Timestamp,
    /// What.
    pub content: Content,
    /// Sent before a removal was seen: to be shown as such.
    pub late: bool,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("id", &self.id)
            .field("sender", &self.sender)
            .field("device", &self.device)
            .field("client_id", &self.client_id)
            .field("type", &self.content.number())
            .field("late", &self.late)
            .finish_non_exhaustive()
    }
}

/// Texts of before, as a member gave them. What they say is no part of the `Debug` form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Who gave them.
    pub by: AccountId,
    /// Under which identity.
    pub by_member: MemberId,
    /// With which share.
    pub share: ShareId,
    /// What was said, and the account of whose device it is said to be.
    pub texts: Vec<(AccountId, PastText)>,
}

/// Who offers a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferShown {
    /// Who has added this account.
    pub by: Option<AccountId>,
    /// Whether that is who the account is known to be.
    pub trust: Trust,
    /// How many are in it.
    pub members: usize,
}

/// An account, and an identity that is not the one that it is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityShown {
    /// How it is called.
    pub account: AccountId,
    /// The identity under that name.
    pub member_id: MemberId,
    /// The identity that the account was known by until now.
    pub known: Option<MemberId>,
    /// Whether a person had compared safety numbers with that one.
    pub was_verified: bool,
    /// Whose the identity is known to be, where that is another account.
    pub owner: Option<AccountId>,
    /// Whether the account's own list says so, and not the group's roster.
    pub by_list: bool,
}

/// What an op changed.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "four facts that callers ask for one by one")]
pub struct RosterChange {
    /// The epoch that it made.
    pub epoch: Epoch,
    /// Which op.
    pub kind: Kind,
    /// Whose device signed it, if he is still known.
    pub by: Option<AccountId>,
    /// Who came, or has another role now, and which.
    pub joined: Vec<(AccountId, Role)>,
    /// Who went.
    pub left: Vec<AccountId>,
    /// The role that I had before, if I was in.
    pub my_role_before: Option<Role>,
    /// The role that I have now, if I am in.
    pub my_role: Option<Role>,
    /// Whether I came.
    pub me_joined: bool,
    /// Whether I went.
    pub me_left: bool,
    /// Whether a device was taken out: everyone begins a new chain.
    pub cut: bool,
    /// Whether this ended the group.
    pub closed: bool,
    /// What of the group's policy is new, where that was replaced.
    pub policy: Option<PolicyChange>,
}

/// What of a group's policy is new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyChange {
    /// How the group is called from now on, if that is new.
    pub name: Option<String>,
    /// What it is about from now on, if that is new; empty where nothing is said of it any more.
    pub topic: Option<String>,
    /// Whether anything else is.
    pub settings: bool,
}

/// Two valid ops on one roster: the server lied, or lost data.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fork {
    /// The epoch that both make.
    pub epoch: Epoch,
    /// The one that was installed first, and stays.
    pub mine: ForkedOp,
    /// The other; `None` where only a member's word says that there is one.
    pub other: Option<ForkedOp>,
}

/// One of two ops.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ForkedOp {
    /// Its hash.
    pub op_hash: OpHash,
    /// Its name: `add`, `remove`, ….
    pub kind: String,
    /// Identity of who signed it.
    pub by: MemberId,
    /// His account, if the roster before knows him.
    pub account: Option<AccountId>,
    /// Whether that is the group's creator: advice to people, not a rule.
    pub by_creator: bool,
}

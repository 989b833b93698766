//! Everything that the bridge does, by where it does it.

use causeway_protocol::ids::AccountId;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::{
    command::Asked,
    mirror::Mirror,
    said::{Relayed, Spoken},
    share::Given,
};

/// Whose the bot's own words are: the name of nobody's account.
const BOT: &str = "bot";

/// What follows from an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Something is done in the room; stored before it is tried.
    InRoom(InRoom),
    /// Something is said in the group; stored before it is tried.
    InGroup(InGroup),
    /// Something is so from now on; written down at once.
    Here(Here),
}

/// What the bot or a ghost does in the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InRoom {
    /// The account's ghost says it.
    Say(Spoken),
    /// The bot says it.
    Notice(String),
    /// The bot says it in answer to that event.
    Answer(String, OwnedEventId),
    /// The bot answers an event that is encrypted, and looks whether the room is.
    Unread(OwnedEventId),
    /// The bot makes the group's room, finds the one that it made, or comes back to the one it had;
    /// what is so there is read before anything is said.
    Make,
    /// The bot invites somebody.
    Invite(OwnedUserId),
    /// The same, as this account has asked.
    InviteFor(OwnedUserId, AccountId),
    /// The account's ghost leaves.
    Leave(AccountId),
    /// The bot puts the account's ghost out, and says why.
    PutOut(AccountId, String),
    /// The bot says in the topic who reads in the group, as it is then.
    Topic,
    /// The bot says so in the topic and in words: the room is bridged from now on.
    Introduce,
    /// The bot names those who read in the group, a page of them, in answer to that event.
    Members(OwnedEventId, usize),
    /// The bot looks something up or does it for whoever said so by that event.
    Asked(OwnedEventId, OwnedUserId, Asked),
    /// The room bears the group's name.
    Rename,
    /// The bot says, in the state, that nothing more goes into the room.
    Pause,
    /// The bot goes back into the group's room, and makes none where it does not get in.
    Return,
    /// The bot says that the bridge is gone, and all ghosts leave.
    Close,
    /// The bot makes another room, even where an older one has the alias.
    MakeAnew,
    /// The same in place of this room, whatever it is like; none of ours stays there.
    MakeInstead(OwnedRoomId),
    /// The bot goes into the room that has replaced the group's.
    Follow(OwnedRoomId),
}

impl InRoom {
    /// Whose it is, where others need not wait for it: the rows of each keep their order. `None`
    /// where it concerns the whole room.
    pub fn who(&self) -> Option<&str> {
        match self {
            Self::Say(spoken) => Some(spoken.account.as_str()),
            Self::Leave(account) | Self::PutOut(account, _) => Some(account.as_str()),
            Self::Invite(user) | Self::InviteFor(user, _) | Self::Asked(_, user, _) => {
                Some(user.as_str())
            }
            Self::Notice(_)
            | Self::Answer(..)
            | Self::Topic
            | Self::Rename
            | Self::Introduce
            | Self::Members(..)
            | Self::Unread(_) => Some(BOT),
            Self::Make
            | Self::Return
            | Self::MakeAnew
            | Self::MakeInstead(_)
            | Self::Pause
            | Self::Close
            | Self::Follow(_) => None,
        }
    }

    /// Whether somebody is invited by it.
    pub fn is_invitation(&self) -> bool {
        matches!(self, Self::Invite(_) | Self::InviteFor(..))
    }
}

impl Deed {
    /// As of what is done in a room.
    pub fn who(&self) -> Option<&str> {
        match self {
            Self::InRoom(deed) => deed.who(),
            Self::InGroup(_) => None,
        }
    }
}

/// What the bridge's device says in the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InGroup {
    /// For a mirror.
    Say(Relayed),
    /// Who stands behind the bridge now, and who does not any more (protocol §2.1, type 16).
    Announce(Vec<Mirror>, Vec<OwnedUserId>),
    /// For itself.
    Notice(String),
}

/// A fact about a portal. [`Portal::apply`](super::portal::Portal::apply) is what it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "few are held at once")]
pub enum Here {
    /// The bridge was let into the group, which has this name.
    Opened(String),
    /// The bridge was let into the group of this name by one who may not ask that, or not now: the
    /// portal stays closed, and why.
    Refused(String, String),
    /// The group has this name.
    Named(String),
    /// What somebody who asked for something was given.
    Given(Given),
    /// The bot made the room, or found it.
    Made(OwnedRoomId),
    /// The room is this one from now on: it has replaced the one before.
    Moved(OwnedRoomId),
    /// The room is of no use any more, and why.
    Lost(String),
    /// The room was replaced by this one, and the bridge is not in it yet.
    Replaced(OwnedRoomId),
    /// The bot is out of the room: what is said there goes nowhere until it is back.
    Out,
    /// The bot may be in the room again, or can be.
    Back,
    /// The room was told by this event that it is bridged again: what was said before is its own.
    Told(OwnedEventId),
    /// That event came by.
    Heard,
    /// The room is given up, with everybody in it: another is made.
    GivenUp,
    /// The bridge is out of the group, or the group is over.
    Closed,
    /// The room is encrypted.
    Encrypted,
    /// The group knows these people, or by these names.
    Met(Vec<Mirror>),
    /// The group no longer has to do with somebody.
    Parted(OwnedUserId),
    /// Somebody is invited into the room, or is to be.
    Invited(OwnedUserId),
    /// Somebody is invited no more, and has not come.
    Uninvited(OwnedUserId),
    /// A ghost was put out of the room (by whom), or is welcome again.
    Standing(AccountId, Option<OwnedUserId>),
    /// It will never be said in the room, for this reason: a dead letter at once.
    Unsaid(Spoken, String),
}

/// What is carried out: an effect that touches a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deed {
    /// In the room.
    InRoom(InRoom),
    /// In the group.
    InGroup(InGroup),
}

impl Deed {
    /// What an admin reads of it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InRoom(InRoom::Say(_)) | Self::InGroup(InGroup::Say(_)) => "say",
            Self::InRoom(
                InRoom::Notice(_)
                | InRoom::Answer(..)
                | InRoom::Introduce
                | InRoom::Members(..)
                | InRoom::Asked(..)
                | InRoom::Unread(_),
            )
            | Self::InGroup(InGroup::Notice(_)) => "notice",
            Self::InGroup(InGroup::Announce(..)) => "announce",
            Self::InRoom(InRoom::Make) => "make",
            Self::InRoom(InRoom::Return) => "return",
            Self::InRoom(InRoom::Invite(_) | InRoom::InviteFor(..)) => "invite",
            Self::InRoom(InRoom::Leave(_) | InRoom::PutOut(..)) => "leave",
            Self::InRoom(InRoom::Topic) => "topic",
            Self::InRoom(InRoom::Rename) => "rename",
            Self::InRoom(InRoom::Pause) => "pause",
            Self::InRoom(InRoom::Close) => "close",
            Self::InRoom(InRoom::MakeAnew | InRoom::MakeInstead(_)) => "make_anew",
            Self::InRoom(InRoom::Follow(_)) => "follow",
        }
    }
}

/// The deed is one of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherSide;

impl TryFrom<Deed> for InRoom {
    type Error = OtherSide;

    fn try_from(deed: Deed) -> Result<Self, OtherSide> {
        match deed {
            Deed::InRoom(deed) => Ok(deed),
            Deed::InGroup(_) => Err(OtherSide),
        }
    }
}

impl TryFrom<Deed> for InGroup {
    type Error = OtherSide;

    fn try_from(deed: Deed) -> Result<Self, OtherSide> {
        match deed {
            Deed::InGroup(deed) => Ok(deed),
            Deed::InRoom(_) => Err(OtherSide),
        }
    }
}

impl From<InRoom> for Deed {
    fn from(deed: InRoom) -> Self {
        Self::InRoom(deed)
    }
}

impl From<InGroup> for Deed {
    fn from(deed: InGroup) -> Self {
        Self::InGroup(deed)
    }
}

impl From<Deed> for Effect {
    fn from(deed: Deed) -> Self {
        match deed {
            Deed::InRoom(deed) => Self::InRoom(deed),
            Deed::InGroup(deed) => Self::InGroup(deed),
        }
    }
}

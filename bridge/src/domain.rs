//! What comes in, what is done about it, and how a try ends: the vocabulary of the spine.
//!
//! Pure: no clock, no network, no database, no randomness. What is done about an input is
//! [`route::route`]'s to say; which lane does it and how it ends, the files beside it.

pub mod asks;
pub mod attending;
pub mod caller;
pub mod command;
pub mod delegated;
pub mod effect;
pub mod ending;
pub mod expired;
pub mod ghost;
pub mod html;
pub mod in_call;
pub mod lane;
pub mod late;
pub mod looks;
pub mod media_keys;
pub mod mentions;
pub mod mirror;
pub mod portal;
pub mod readers;
pub mod relay_room;
pub mod retry;
pub mod room;
pub mod route;
pub mod rtc;
pub mod said;
pub mod share;
pub mod stored;
pub mod suspicion;
pub mod to_matrix;
pub mod to_native;
pub mod unbridged;
pub mod unread;

pub use causeway_protocol::content::{MessageRef, TextKind};
use causeway_protocol::ids::{AccountId, EnvelopeId, Epoch, MemberId, Timestamp};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::{expired::Expired, room::Found, said::Spoken, share::Share};

/// Type of the events that say words (client-server API v1.16, "m.room.message").
const MESSAGE: &str = "m.room.message";

/// Type of the state that makes a room encrypted, for good, whoever sets it and whatever it says
/// (client-server API v1.16, "m.room.encryption").
pub const ENCRYPTION: &str = "m.room.encryption";
/// Type of the events that nobody can read without keys ("m.room.encrypted").
pub const UNREAD: &str = "m.room.encrypted";

/// One event of a room, as much of it as the bridge looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomEvent {
    /// Its id, unique over all homeservers.
    pub event_id: OwnedEventId,
    /// Where it happened.
    pub room_id: OwnedRoomId,
    /// Who did it.
    pub sender: OwnedUserId,
    /// `m.room.message` and the like.
    #[serde(rename = "type")]
    pub kind: String,
    /// Present on state events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_key: Option<String>,
    /// The sender's homeserver's clock; for show only.
    #[serde(rename = "origin_server_ts", default)]
    pub at: Timestamp,
    /// What the type says.
    #[serde(default)]
    pub content: Map<String, Value>,
}

/// A change of the group's roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterChange {
    /// The epoch that it made.
    pub epoch: Epoch,
    /// Whose device signed it.
    pub by: Option<AccountId>,
    /// Its policy is another, and its name by it this one.
    pub policy: Option<String>,
    /// Who is in since.
    pub joined: Vec<AccountId>,
    /// Who is out since.
    pub left: Vec<AccountId>,
    /// The bridge was let in, as such, into the group of this name. In any other role it is a
    /// member that bridges nothing: the group does not say that a bridge reads it.
    pub let_in: Option<String>,
    /// What whoever signed it may still have of the bridge.
    pub share: Share,
    /// The bridge is out since, or no longer there as such.
    pub put_out: bool,
    /// The group is over.
    pub closed: bool,
}

/// Everything that makes the bridge do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The homeserver says that this happened. `true`: a link shows that it is our own doing.
    Event(RoomEvent, bool),
    /// Somebody native said this.
    Spoken(Spoken),
    /// Somebody native said something of this type, which is not carried, and of which this is a
    /// line.
    Unbridged(Spoken, u8),
    /// Somebody native said something while the bridge was no bridge of the group.
    Overheard,
    /// This account is not who it was: another identity stands for it.
    Changed(AccountId, MemberId),
    /// An admin's device asks for these people to be invited.
    Request(BridgeRequest),
    /// The group's roster changed.
    Roster(RosterChange),
    /// Something is so of the room that no event of it says.
    Room(News),
    /// What was said in the room was not read in time in the group.
    Expired(Expired),
}

/// What a room has of its group, and goes on without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ornament {
    /// `m.room.name`.
    Name,
    /// `m.room.topic`.
    Topic,
}

/// What becomes known of a portal's room by looking, and by what was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The bot made it, found it or came back, and it is so; by which event it was told so.
    Entered(Found, Option<OwnedEventId>),
    /// The bot followed into it, and it is so.
    Followed(Found),
    /// The bot could not follow into it, and why.
    NotFollowed(OwnedRoomId, String),
    /// The bot is not in the room, if there is one.
    Out,
    /// The bot is in the room.
    In,
    /// The bot is not in the room, and in another that it made for the group.
    Elsewhere,
    /// It is encrypted, though no event of that came.
    Encrypted(OwnedRoomId),
    /// It was replaced by this room, though no event of that came.
    Replaced(OwnedRoomId),
    /// There is no room, or the bridge is not in it yet, and nothing makes or enters it any more.
    Unmade,
    /// An account's ghost was put out of it, and by whom, though no event of that came.
    PutOut(AccountId, OwnedUserId),
    /// The operator wants a new one.
    Recreate,
    /// It has another name or topic than the group, since the bot may not set that there.
    NotSet(Ornament),
    /// The bot has left it, as this user wanted.
    Unbridged(OwnedUserId),
}

/// Plaintext of type 18 (protocol §2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeRequest {
    /// Names the request: the envelope it came in.
    pub id: EnvelopeId,
    /// Who asks.
    pub by: AccountId,
    /// What he may still have of the bridge.
    pub share: Share,
    /// Whether an admin's device sent it; others are not heard.
    pub from_admin: bool,
    /// A room that exists and should be used; the bridge makes its own.
    pub room: Option<String>,
    /// Who is to be invited.
    pub invite: Vec<OwnedUserId>,
}

/// How a try to carry out an effect ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// Not yet: try again after so many milliseconds. `true`: it was answered and counts.
    Again(u64, bool),
    /// Never: a dead letter with this reason.
    Dead(String),
    /// Nobody may go on until the homeserver takes our token again.
    Halt,
}

/// Why nothing is done about an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// Our own ghost, bot or marker: answering it would be a loop.
    #[error("our own doing")]
    Own,
    /// Neither message nor membership nor encryption.
    #[error("not a type that is bridged")]
    Type,
    /// The bridge was taken out of the group.
    #[error("portal is closed")]
    Closed,
    /// It was said to a group that did not say that a bridge reads it.
    #[error("said while the bridge was not one")]
    Overheard,
    /// It happened in a room that has replaced the portal's, and where the bridge is not.
    #[error("in a room where the bridge is not")]
    Elsewhere,
    /// Nothing changed by it.
    #[error("nothing new")]
    Nothing,
    /// Only an admin may ask that.
    #[error("not from an admin")]
    NotAdmin,
    /// It cannot be read without keys, and is put aside.
    #[error("encrypted")]
    Encrypted,
    /// Its content is not what its type says, and is put aside.
    #[error("malformed content")]
    Malformed,
}

/// Bytes of `text` in a JSON string, at most, without its quotes.
fn json_bytes(text: &str) -> usize {
    text.chars().map(json_bytes_of).sum()
}

/// The same of one character.
fn json_bytes_of(c: char) -> usize {
    match c {
        '"' | '\\' => 2,
        c if c.is_ascii_control() => 6,
        c => c.len_utf8(),
    }
}

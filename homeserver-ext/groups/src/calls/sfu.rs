//! A call that a server carries, a LiveKit: what is said here goes there once, and comes to all.
//!
//! What goes there is sealed for those in the call (`frame`), under keys that they give each other
//! (`keys`); so the server sees who is in the call and when somebody speaks, not what is said.
//! Everything that comes from it is a stranger's.

mod address;
mod floor;
mod frame;
mod keys;
mod leg;
mod probe;
mod roster;
mod served;
mod session;
mod side;
mod spoken;
mod tells;
mod wire;

use std::fmt;

use causeway_protocol::ids::DeviceId;
use livekit_protocol::DisconnectReason;
use zeroize::Zeroizing;

pub use address::Whose;
pub use floor::Brought;
pub use keys::Giving;
pub(super) use probe::probe;
pub(super) use served::Carried;
pub(super) use tells::{Of, Tells};

/// Where a server that carries a call is, and what lets this device in.
#[derive(Clone)]
pub struct Access {
    /// `wss://host[:port][/path]`; of this device's home also `ws:`.
    pub url: String,
    /// The token, for some minutes.
    pub token: Zeroizing<String>,
    /// Whose it is.
    pub whose: Whose,
    /// Whether what is said is sealed, and only what is sealed is heard.
    pub is_sealed: bool,
    /// Whether this device speaks there, or only listens.
    pub speaks: bool,
}

// The token lets in.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, token: _, whose, is_sealed, speaks } = self;
        f.debug_struct("Access")
            .field("url", url)
            .field("whose", whose)
            .field("is_sealed", is_sealed)
            .field("speaks", speaks)
            .finish_non_exhaustive()
    }
}

/// A participant of a call, as a server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Who it is.
    pub device: DeviceId,
    /// What the server that brings it calls it.
    pub identity: String,
    /// The focus of that server, where it is another homeserver's: nobody else brings it.
    pub focus: Option<String>,
    /// Since when it takes part, in ms: one that was away and is back has lost all keys.
    pub since: u64,
    /// Whether it has keys, and is given those of others: one of Matrix has none.
    pub has_keys: bool,
}

/// What happens with a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Served {
    /// It let this device in.
    Joined,
    /// What is said here arrives there.
    Published,
    /// It does not let this device speak.
    NotLetSpeak,
    /// The line to it is cut, and made anew; sound may go on.
    Cut,
    /// There is a line again.
    Resumed,
    /// Whom it brings has changed.
    Brings(Brought),
    /// It carries nothing any more.
    Over(Over),
}

/// Why a server carries nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    /// This device left.
    #[error("this device left")]
    Left,
    /// Its address is not one that may be connected to.
    #[error("the server for calls is not at an address that may be connected to")]
    Address,
    /// It was not there, or its line did not hold. Ask the home for another access.
    #[error("the server for calls cannot be reached")]
    Unreachable,
    /// By this HTTP status: 401 for a token that is no good, 500 where a room is full.
    #[error("the server for calls refuses this device with status {0}")]
    Refused(u16),
    /// It has no such room, as after a new start of it. Ask the home for another access.
    #[error("the server for calls does not know the call any more")]
    RoomGone,
    /// Somebody put this device out.
    #[error("this device was put out of the call on the server")]
    Removed,
    /// The same device is there from elsewhere.
    #[error("this device is in the call on the server from elsewhere")]
    Duplicate,
    /// What it says is nothing that a LiveKit says.
    #[error("the server for calls says what this version does not understand")]
    NotUnderstood,
    /// For another reason.
    #[error("the server for calls ended it")]
    Ended,
    /// On this machine.
    #[error("no socket could be opened for the server for calls")]
    NoSocket,
}

impl Over {
    /// Whether another access, which the home gives, may help.
    pub fn may_come_back(self) -> bool {
        match self {
            Self::Unreachable | Self::Refused(_) | Self::RoomGone | Self::Ended => true,
            Self::Left
            | Self::Address
            | Self::Removed
            | Self::Duplicate
            | Self::NotUnderstood
            | Self::NoSocket => false,
        }
    }

    fn of(reason: DisconnectReason) -> Self {
        match reason {
            DisconnectReason::DuplicateIdentity => Self::Duplicate,
            DisconnectReason::ParticipantRemoved => Self::Removed,
            DisconnectReason::RoomDeleted | DisconnectReason::RoomClosed => Self::RoomGone,
            // Others are reasons of the server's own.
            _ => Self::Ended,
        }
    }
}

//! What happens to a call, what then is to be done, and why something was refused.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::DeviceId;

/// Who takes part: a device, since two devices of an account are two.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Who {
    /// A native device.
    Native(DeviceId),
    /// A Matrix user's device: user id, device id. Never part of a mesh.
    Matrix(String, String),
}

impl Who {
    pub(super) fn is_native(&self) -> bool {
        matches!(self, Self::Native(_))
    }

    /// Whether both are devices of one Matrix user.
    pub(super) fn is_device_of(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Matrix(one, _), Self::Matrix(other, _)) if one == other)
    }
}

/// What a device can do in calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// Talk to the others directly.
    pub mesh: bool,
    /// Talk through the SFU.
    pub sfu: bool,
    /// It accepts to be put out (`moved_to_sfu`) where it cannot follow the others.
    pub may_degrade: bool,
}

/// What a participant says about itself, for one epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// From whom it has live media in the mesh.
    pub connected: BTreeSet<Who>,
    /// Whether it publishes on the SFU and is subscribed there.
    pub ready: bool,
    /// It will not go to the SFU.
    pub declined: bool,
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody comes in, or comes back within the grace.
    Join(Who, Caps),
    /// Goes, or was taken out of the group.
    Leave(Who),
    /// The stream of a native was lost.
    Lost(Who),
    /// It is back.
    Back(Who),
    /// Who says it, in which epoch.
    Report(Who, u32, Said),
    /// The first cannot reach the second in the mesh, and asks for the SFU.
    Upgrade(Who, Who),
    /// A Matrix user asked for a token.
    Expect(Who),
    /// What the SFU's own list shows: natives that publish, Matrix devices that are there.
    Shown(BTreeSet<Who>),
    /// The SFU does not answer, or failed to make the room.
    SfuDown,
    /// It answers again.
    SfuUp,
    /// The SFU has another room for it: all have to go there anew, and nobody for that is out.
    NewRoom,
    /// Somebody who may ended the call.
    End,
    /// The operator has the SFU carry it, until he says otherwise.
    ToSfu,
    /// The operator has the mesh carry it, if it can.
    ToMesh,
    /// The operator takes somebody out, who may come back.
    Kick(Who),
    /// A deadline may have come.
    Tick,
}

/// Why a participant was put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Out {
    /// It was away for longer than the grace.
    Lost,
    /// It did not connect to the SFU in time.
    CouldNotConnect,
    /// It had agreed to be left where it cannot follow.
    MovedToSfu,
    /// Somebody in the call, or itself, cannot use the SFU, and it came last.
    CannotUseSfu,
    /// The SFU failed before the call had moved to it, and it came last.
    SfuUnavailable,
    /// The operator took it out.
    Kicked,
}

/// Why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// Somebody ended it.
    ByHand,
    /// Nobody was left.
    Empty,
    /// The SFU did not come back, and no mesh carries so many.
    MediaServerLost,
    /// The home's database was put back from a copy: who came and went since is not known.
    PutBack,
}

impl Out {
    /// Its name in a call's state.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::CouldNotConnect => "could_not_connect",
            Self::MovedToSfu => "moved_to_sfu",
            Self::CannotUseSfu => "cannot_use_sfu",
            Self::SfuUnavailable => "sfu_unavailable",
            Self::Kicked => "kicked",
        }
    }
}

impl Ended {
    /// Its name in a call's state.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ByHand => "by_hand",
            Self::Empty => "empty",
            Self::MediaServerLost => "media_server_lost",
            Self::PutBack => "put_back",
        }
    }
}

/// What is to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make the SFU's room; there may be one already.
    OpenRoom,
    /// Close it.
    CloseRoom,
    /// Take somebody off the SFU who is no longer in the call.
    Remove(Who),
    /// Tell somebody why he is no longer in the call.
    PutOut(Who, Out),
}

/// What an event changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// In this order.
    pub effects: Vec<Effect>,
    /// Whether there is a new version to be told.
    pub changed: bool,
}

/// Why an event was refused; the call is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Join first.
    #[error("this device is not in the call: join it first")]
    NotInCall,
    /// Look at the state and say it again.
    #[error("said in epoch {0} of the call, which is in {1}: look at its state and say it again")]
    StaleEpoch(u32, u32),
    /// Start another.
    #[error("this call has ended: start another")]
    Ended,
    /// How many a mesh carries, and in how many ms to ask again.
    #[error("This call has {}. The server that carries bigger calls is not reachable.", people(*.0))]
    SfuUnavailable(usize, u64),
    /// Who cannot; the one who asked may be among them.
    #[error("the call would have to move to the server, and not everybody in it can follow")]
    CannotUseSfu(Vec<Who>),
    /// Wait until somebody leaves.
    #[error("this call is full: {0} take part, wait until one leaves")]
    Full(usize),
    /// Again in half a minute.
    #[error("{} about to come into this call: try again in half a minute", more(*.0))]
    TooManyExpected(usize),
    /// The two are connected, or have not tried for long enough, or the call switched too often.
    #[error("there is no reason yet to move this call to the server")]
    NoNeed,
    /// Wait until it has moved, or some have left.
    #[error("no mesh can carry this call now: {0} take part, and it may be on its way")]
    NoMesh(usize),
}

fn more(count: usize) -> String {
    if count == 1 { "one more is".to_owned() } else { format!("{count} more are") }
}

fn people(count: usize) -> String {
    if count == 1 { "1 person".to_owned() } else { format!("{count} people") }
}

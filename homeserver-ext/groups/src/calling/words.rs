//! What one who takes part in a call brings, wants and is told.

use causeway_protocol::{api::CallState, ids::DeviceId};

use crate::{
    calls::{Happened, Settings, Signal, Sink, Source, StartError},
    entropy::NoEntropy,
    sdk::CallError,
};

/// What a device brings into a call.
pub struct Wish {
    /// How it connects and sounds.
    pub settings: Settings,
    /// What it says.
    pub source: Source,
    /// Where goes what it hears.
    pub sink: Sink,
    /// Whether it says nothing at first.
    pub muted: bool,
    /// Whether it accepts that the server for calls hears what is said, and to be put out where it
    /// cannot follow the others.
    pub may_degrade: bool,
}

/// What a person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// To say nothing, or to be heard again.
    Mute(bool),
    /// The hand raised, or down again.
    Hand(bool),
    /// To go.
    Leave,
}

/// What happens.
#[derive(Debug)]
pub enum Told {
    /// The call is other than it was.
    State(Box<CallState>),
    /// An offer or an answer went from one to another.
    Signalled(DeviceId, DeviceId, u32, Signal),
    /// What the mesh tells but for what it has to say to others.
    Sound(Happened),
    /// Someone could not be told how to connect, and why.
    Untold(DeviceId, String),
    /// There is no way to somebody, and the home was asked that the server for bigger calls carries the
    /// call; not each time that it refuses.
    Moves {
        /// To whom there is none.
        with: DeviceId,
        /// Why it does not, where it does not.
        refused: Option<String>,
    },
    /// The server for calls can hear what is said, since it is not sealed for those in the call; or could,
    /// and this device does not go there.
    Clear {
        /// Whether this device takes that.
        taken: bool,
    },
    /// The server does not answer; said once, until it does again.
    Away(CallError),
    /// It does again.
    Back,
}

/// How it ended.
#[derive(Debug)]
pub enum Ending {
    /// This device went.
    Left,
    /// The call is over for everybody; its last state says how.
    Over,
    /// This device was put out: `could_not_connect`, `moved_to_sfu`, ….
    Out(String),
    /// The server does not have it in the group or the call any more.
    Refused(CallError),
    /// What carries sound has stopped: what was heard could not be written to its end, or worse.
    Sound(String),
}

/// Why a device is not in the call.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No call runs in the group.
    #[error("no call is running in this group")]
    None,
    /// The server, or the way to it.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Its sound.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
}

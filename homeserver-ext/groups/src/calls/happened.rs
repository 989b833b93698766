//! What a mesh is told, what it tells, and why there is none.

use std::{collections::BTreeMap, io};

use causeway_protocol::ids::DeviceId;

use super::{
    quality::Quality,
    sfu::{Access, Giving, Named, Served},
    signal::{Refused, Signal},
};

/// What a mesh is told.
#[derive(Debug)]
pub enum Input {
    /// Who takes part in the mesh, and since which epoch of the call.
    Participants {
        /// The call's.
        epoch: u32,
        /// All of them; this one may be among them.
        devices: Vec<DeviceId>,
    },
    /// What a device signalled, and in which epoch it did.
    Signal {
        /// Who has proven to have said it.
        from: DeviceId,
        /// What it said that the epoch is.
        epoch: u32,
        /// What it said.
        signal: Signal,
    },
    /// Who takes part by a server, or is about to.
    Named {
        /// The call's epoch.
        epoch: u32,
        /// All of them; this one may be among them.
        who: Vec<Named>,
    },
    /// Have a server carry the call as well, or that one no longer.
    Server(Option<Box<Access>>),
    /// Hear those who speak on the server for calls of this focus, another homeserver's, or no longer.
    Abroad(String, Option<Box<Access>>),
    /// What became of a [`Signal::Key`] that was to be signalled. Until all have it the key before is used.
    Given {
        /// To whom it was to be signalled.
        to: DeviceId,
        /// Which.
        index: u8,
        /// What became of it.
        giving: Giving,
    },
    /// Whether what is said by the server is sealed from now on: what it carries goes on meanwhile.
    Seal(bool),
    /// Whether nothing is to be sent.
    Mute(bool),
    /// Say goodbye to all, and end.
    Leave,
}

/// What a mesh tells.
#[derive(Debug, PartialEq)]
pub enum Happened {
    /// To be signalled.
    Say {
        /// To whom, and to nobody else.
        to: DeviceId,
        /// The epoch that the call is in.
        epoch: u32,
        /// What.
        signal: Signal,
    },
    /// Sound can go to and fro.
    Connected(DeviceId),
    /// The path is gone; another is looked for.
    Broken(DeviceId),
    /// There was no path for 30 seconds; none is looked for any more.
    Failed(DeviceId),
    /// With how many there is a connection, of how many.
    Progress(usize, usize),
    /// With the server that carries the call.
    Served(Served),
    /// With the server for calls of this focus, another homeserver's.
    Abroad(String, Served),
    /// The loudest of the last half second, 0 to 1; `None` is this device.
    Levels(BTreeMap<Option<DeviceId>, f32>),
    /// How what the others say comes, where anything did in the last half second.
    Quality(BTreeMap<DeviceId, Quality>),
    /// What a device signalled was of no use, and has changed nothing.
    Refused(DeviceId, Refused),
    /// What is heard can no longer be written; the call goes on.
    SinkFailed(io::ErrorKind),
}

/// Why there is no mesh.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The codec.
    #[error("Opus cannot be used on this machine: {0}")]
    Opus(String),
    /// Sound is to go by TURN alone, and there is no TURN server.
    #[error(
        "no address is to be told, and there is no TURN server to be reached by: name one, or tell them"
    )]
    NoRelay,
}

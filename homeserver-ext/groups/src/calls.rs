//! Sound between the devices of a call: each talks to each, by WebRTC.
//!
//! A [`Mesh`] is told who takes part and what their devices signal, and says what is to be
//! signalled to whom and who is heard. It is one future, which its caller runs; it knows no
//! request and no group, and keeps nothing. That what is signalled comes from the device it is said
//! to come from, and reaches no other, is its caller's part: the fingerprints travel in there.
//!
//! What the libraries below log names addresses and descriptions. [`may_be_logged`] is what a
//! program that has a log must ask first.

mod description;
#[cfg(feature = "audio")]
mod device;
mod early;
mod frame_key;
mod happened;
mod jitter;
mod link;
mod mesh;
mod opus;
mod pair;
mod quality;
mod sfu;
mod signal;
mod sound;
mod studio;
mod trial;
mod voice;
mod wav;

use std::net::SocketAddr;

#[cfg(feature = "audio")]
pub use device::{DeviceError, Microphone, Speaker};
pub use frame_key::FrameKey;
pub use happened::{Happened, Input, StartError};
pub use mesh::Mesh;
pub use quality::Quality;
pub use sfu::{Access, Brought, Giving, Named, Over, Served, Whose};
pub use signal::{Reason, Refused, Signal};
pub use sound::{Heard, Sink, Source, SourceError};
pub(crate) use trial::trial;
pub use wav::WavError;

/// Samples a second, everywhere in here; one channel.
pub const RATE: usize = 48_000;
/// Samples in 20 ms: what is recorded, sent, mixed and played at a time.
pub const FRAME: usize = 960;

/// How a [`Mesh`] connects and sounds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bits a second of Opus; 6,000 to 128,000, others are taken to the next of these.
    pub bitrate: u32,
    /// Whether nothing is sent while nothing is said.
    pub dtx: bool,
    /// STUN and TURN servers.
    pub servers: Vec<IceServer>,
    /// Whether no address of this device is told to anybody, so that sound goes by TURN alone; where that
    /// is not said it is for the home to say, and else they are told.
    pub relay_only: Option<bool>,
    /// Whether a server for calls that another homeserver names may be at an address of this network:
    /// otherwise TLS and addresses that are everybody's are required of it.
    pub private_servers: bool,
    /// By what sound goes to a server for calls.
    pub transport: Transport,
    /// Where sockets are bound; `0.0.0.0:0` is each address of this machine but loopback.
    pub bind: SocketAddr,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bitrate: 24_000,
            dtx: true,
            servers: Vec::new(),
            relay_only: None,
            private_servers: false,
            transport: Transport::Usual,
            bind: SocketAddr::from(([0, 0, 0, 0], 0)),
        }
    }
}

impl Settings {
    fn is_relayed(&self) -> bool {
        self.relay_only == Some(true)
    }

    fn has_relay(&self) -> bool {
        let mut urls = self.servers.iter().flat_map(|server| &server.urls);
        urls.any(|url| url.starts_with("turn:") || url.starts_with("turns:"))
    }
}

/// By what sound goes to a server for calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// UDP, at whatever addresses are found.
    Usual,
    /// UDP alone, and only where the server says that it listens: it is told no address of this device's.
    Udp,
    /// Likewise by TCP, as where UDP is closed.
    Tcp,
}

/// A STUN or TURN server.
#[derive(Clone)]
pub struct IceServer {
    /// `stun:host:port`, `turn:host:port?transport=udp`.
    pub urls: Vec<String>,
    /// Empty for STUN.
    pub username: String,
    /// Empty for STUN.
    pub credential: String,
}

impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServer").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// Whether a line of this target may be written to a log.
///
/// The WebRTC libraries write descriptions, addresses and ICE passwords into theirs, and that of web
/// sockets whole frames, in which a server for calls has the same, and tokens.
pub fn may_be_logged(target: &str) -> bool {
    let library = target.split("::").next().unwrap_or(target);
    let is_webrtc = library == "webrtc" || library == "rtc" || library.starts_with("rtc_");
    !(is_webrtc || matches!(library, "tungstenite" | "tokio_tungstenite"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_own_lines_are_not_logged() {
        for target in ["webrtc", "webrtc::peer_connection::driver", "rtc", "rtc_ice::agent"] {
            assert!(!may_be_logged(target), "{target}");
        }
        for target in ["tungstenite::protocol", "tokio_tungstenite"] {
            assert!(!may_be_logged(target), "{target}");
        }
        for target in ["causeway_groups::calls", "reqwest", "rtcp", "sqlx::query"] {
            assert!(may_be_logged(target), "{target}");
        }
    }
}

//! What comes of it where two devices of nobody try whether a server for calls, a LiveKit, carries sound.

use std::{net::SocketAddr, time::Duration};

use zeroize::Zeroizing;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// What the server says that its version is; empty where nobody came in.
    pub version: String,
    /// Where it says that it listens for sound by UDP.
    pub udp: Vec<SocketAddr>,
    /// Where it says that it does by TCP, and whether a connection there came about.
    pub tcp: Vec<(SocketAddr, bool)>,
    /// What they heard by UDP.
    pub by_udp: Sound,
    /// What they heard by TCP; nothing where no connection by it came about.
    pub by_tcp: Option<Sound>,
}

/// How far it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sound {
    /// Each heard the other, sealed, after so long.
    Heard(Duration),
    /// Both came in, and both sent; nothing came.
    NotHeard,
    /// Both came in, and found no way for sound.
    NotConnected,
    /// They did not come in, or not both, or were put out: why.
    NotIn(String),
    /// This machine could not try it: why.
    NotTried(String),
}

/// One who tries it: the token that lets it in, and what the server calls it.
#[derive(Debug, Clone)]
pub struct One {
    /// For the room of both.
    pub token: Zeroizing<String>,
    /// As the token has it.
    pub identity: String,
}

impl Trial {
    #[cfg(feature = "calls")]
    pub(crate) fn without(by_udp: Sound) -> Self {
        let (version, udp, tcp) = (String::new(), Vec::new(), Vec::new());
        Self { version, udp, tcp, by_udp, by_tcp: None }
    }
}

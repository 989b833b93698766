//! What calls have beside the native server: LiveKit, STUN and TURN.

use std::fmt;

use zeroize::Zeroizing;

/// The server that carries bigger calls.
#[derive(Debug, Clone)]
pub struct LiveKit {
    /// Where its API is for us: `http` or `https`, without a path, which LiveKit's library drops.
    pub api_url: String,
    /// Where clients reach it: `ws` or `wss`.
    pub public_url: String,
    /// Which of its keys is ours.
    pub api_key: String,
    /// What belongs to that.
    pub api_secret: ApiSecret,
}

/// What helps devices to reach each other directly.
#[derive(Debug, Clone, Default)]
pub struct Mesh {
    /// `stun:` addresses.
    pub stun: Vec<String>,
    /// TURN, if there is any.
    pub turn: Option<Turn>,
    /// Devices tell each other no address, and go through TURN alone.
    pub relay_only: bool,
}

/// Servers that relay what devices cannot send to each other.
#[derive(Debug, Clone)]
pub struct Turn {
    /// `turn:` or `turns:` addresses, all with the same credentials.
    pub urls: Vec<String>,
    /// Who gets in.
    pub credentials: TurnCredentials,
}

/// How devices get into TURN.
#[derive(Debug, Clone)]
pub enum TurnCredentials {
    /// By names that last a day, made from a secret that TURN knows as well (coturn's
    /// `use-auth-secret`).
    Shared(ApiSecret),
    /// All by the same name and password.
    Static(String, ApiSecret),
}

/// A secret: wiped when it is dropped, and shown nowhere.
#[derive(Clone)]
pub struct ApiSecret(Zeroizing<String>);

impl ApiSecret {
    /// Takes `text` in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiSecret(…)")
    }
}

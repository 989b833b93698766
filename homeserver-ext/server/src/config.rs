//! What the server is told when it is opened; the binary reads it from wherever it keeps it.

use std::path::PathBuf;

use causeway_protocol::api::Registration;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::quota::Quotas;

/// How a server is to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name: what stands after the colon in its accounts.
    pub server_name: String,
    /// `server.db`, where everything is kept.
    pub database: PathBuf,
    /// Who may register.
    pub registration: Registration,
    /// What opens registration under [`Registration::Token`].
    pub registration_token: Option<TokenHash>,
    /// What registers the account `bridge`, under every policy, and no other.
    pub bridge_registration_token: Option<TokenHash>,
    /// How much a device may post.
    pub quotas: Quotas,
    /// One-time keys of one device that another may claim in an hour; then it gets the fallback key.
    pub claims_per_hour: u32,
}

impl Config {
    /// A server of this name that keeps its rows in `database`, takes registrations by token and
    /// has no token yet.
    pub fn new(server_name: impl Into<String>, database: impl Into<PathBuf>) -> Self {
        Self {
            server_name: server_name.into(),
            database: database.into(),
            registration: Registration::Token,
            registration_token: None,
            bridge_registration_token: None,
            quotas: Quotas::default(),
            claims_per_hour: 20,
        }
    }
}

/// SHA-256 of a token: enough to know it again, not enough to use it.
#[derive(Debug, Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token's text.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether `token` is the one; takes as long whatever it is.
    pub fn is(&self, token: &str) -> bool {
        self.0.ct_eq(&Self::of(token).0).into()
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

//! How the messages of a group are sealed, in the words of a command line.

use causeway_protocol::{roster, shared_key::Alg};
use clap::ValueEnum;

/// How the messages of a group are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scheme {
    /// Once for all: up to 1,000 members
    SenderKeys,
    /// For each device by itself, with no secret that the group shares: up to 500 members
    Pairwise,
    /// Once for all, under one key that all have for a day: readable for as long as that
    SharedKey,
}

impl From<Scheme> for roster::Scheme {
    fn from(scheme: Scheme) -> Self {
        match scheme {
            Scheme::SenderKeys => Self::SenderKeys,
            Scheme::Pairwise => Self::Pairwise,
            Scheme::SharedKey => Self::SharedKey,
        }
    }
}

/// The AEAD of a group that shares a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Algorithm {
    /// AES-256-GCM
    #[value(name = "aes_256_gcm")]
    Aes256Gcm,
    /// ChaCha20-Poly1305: faster where the processor knows no AES
    #[value(name = "chacha20_poly1305")]
    ChaCha20Poly1305,
    /// XSalsa20-Poly1305: 52 bytes longer
    #[value(name = "xsalsa20_poly1305")]
    XSalsa20Poly1305,
}

impl Algorithm {
    /// As a group's suite.
    pub(super) const fn suite(self) -> u8 {
        match self {
            Self::Aes256Gcm => Alg::Aes256Gcm.number(),
            Self::ChaCha20Poly1305 => Alg::ChaCha20Poly1305.number(),
            Self::XSalsa20Poly1305 => Alg::XSalsa20Poly1305.number(),
        }
    }
}

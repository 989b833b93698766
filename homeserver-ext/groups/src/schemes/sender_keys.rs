//! Sender Keys, suites 1 and 2 (protocol §4): one chain per sending device, known to all members.
//!
//! ```text
//!            root                 child_b = HMAC(node, b)
//!           /    \                leaf i  = message key i
//!         n0      n1              using leaf i replaces its ancestor by the co-path siblings,
//!        /  \    /  \             so what was used is gone and what is ahead costs ≤ 20 HMACs,
//!       m0  m1  m2  m3            however far ahead it is
//! ```
//! Nothing here knows a roster, a database or a network: which chain may speak is judged by
//! `causeway_protocol`, and where chains are kept is the machine's affair.

mod held;
mod message;
mod own;
mod tree;

pub use held::{BadDistribution, HeldChain};
pub use message::{OpenError, Opened, SealError, Verified, Wire};
pub use own::{ChainSecrets, OwnChain};
pub use tree::Seed;

/// How messages of a chain are encrypted; all suites have the tree of depth 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// Suite 1, AES-256-GCM.
    Aes256Gcm,
    /// Suite 2, ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl Suite {
    /// The suite of this number; `None` for one that is not built.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// Its number in ops, distributions and messages.
    pub const fn number(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }
}

/// Encoding of stored chains; another one is refused.
const STORED_VERSION: u8 = 1;

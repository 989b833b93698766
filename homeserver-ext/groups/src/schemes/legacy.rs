//! The suites that Causeway descends from, to the byte, behind a receiver that is careful (protocol
//! §6).
//!
//! `opus_v1` and `ren_a` are linear chains that sign a ciphertext and nothing about it: who said it,
//! where and when is the envelope's word and that of the Olm session. `secirc` is one key for all, and
//! only read. What their sources got wrong stands in the flaw tables of the security chapter.
//!
//! Nothing here knows a roster or a database, as in the other schemes.

mod chain;
mod held;
pub mod names;
pub mod opus_v1;
mod own;
pub mod ren_a;
pub mod secirc;

use hmac::{
    Hmac,
    digest::{KeyInit as _, generic_array::GenericArray},
};
use sha2::Sha256;
use zeroize::Zeroizing;

pub use chain::Unreachable;
pub use held::{Given, HeldKeys, NotTaken, OpenError, Taken};
pub use own::{OwnKey, SealError};

use chain::{Ratchet, Secret};

/// A suite that groups speak. What tells one from the other is how a chain moves on and what a message
/// is sealed with; all else is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// That of seed 001.
    OpusV1,
    /// That of seed 004, in reading A.
    RenA,
}

impl Suite {
    /// Its number in a `create` op.
    pub const fn number(self) -> u8 {
        match self {
            Self::OpusV1 => opus_v1::SUITE,
            Self::RenA => ren_a::SUITE,
        }
    }

    /// The suite that has this number, if one of these has.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            opus_v1::SUITE => Some(Self::OpusV1),
            ren_a::SUITE => Some(Self::RenA),
            _ => None,
        }
    }

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpusV1 => "opus_v1",
            Self::RenA => "ren_a",
        }
    }

    const fn ratchet(self) -> Ratchet {
        match self {
            Self::OpusV1 => opus_v1::ratchet,
            Self::RenA => ren_a::ratchet,
        }
    }

    /// How much longer a ciphertext is than its plaintext.
    const fn overhead(self) -> usize {
        match self {
            Self::OpusV1 => opus_v1::OVERHEAD,
            Self::RenA => ren_a::OVERHEAD,
        }
    }

    /// The ciphertext, as it is signed; the nonce is random, and only `opus_v1` takes one.
    fn seal(self, key: &Secret, nonce: [u8; 12], plaintext: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::OpusV1 => opus_v1::seal(key, nonce, plaintext),
            Self::RenA => ren_a::seal(key, plaintext),
        }
    }

    fn open(self, key: &Secret, ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::OpusV1 => opus_v1::open(key, ciphertext),
            Self::RenA => ren_a::open(key, ciphertext),
        }
    }
}

/// Longest plaintext, bytes: in hex it is a payload that fits (protocol §0).
pub const MAX_PLAINTEXT: usize = 20_000;

/// HMAC-SHA256 under a 32-byte key: zero-padded to the block, as HMAC itself does.
fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    Hmac::<Sha256>::new(GenericArray::from_slice(block.as_slice()))
}

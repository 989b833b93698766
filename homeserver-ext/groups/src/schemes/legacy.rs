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
pub use held::{NotTaken, OpenError, Taken};

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

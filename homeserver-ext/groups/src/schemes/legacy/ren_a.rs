//! `ren_a`, suite 0x82: HMAC chain, ChaCha20-Poly1305, Ed25519 over the ciphertext, JSON with base64.
//!
//! The seed as it is written cannot run: it takes 64 bytes from a hash of 32. This is the reading that
//! keeps its HMAC over the iteration and adds a label, so that the two outputs are independent.

mod distribution;
mod message;
mod wrap;

use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, aead::Aead as _};
use hkdf::Hkdf;
use hmac::Mac as _;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    Given, SealError, Suite,
    chain::{Secret, Step},
    keyed,
};

pub use distribution::{BadDistribution, Distribution};
pub use message::{Envelope, MAX_ENVELOPE};
pub use wrap::{BLOB, Chain, NotWrapped, unwrap, wrap};

/// A tag.
pub(super) const OVERHEAD: usize = 16;

/// The suite's number in a `create` op.
pub const SUITE: u8 = 0x82;

pub(super) fn ratchet(key: &Secret, index: u64) -> Step {
    // Iterations are 32 bits wide: what a chain is asked for was read as such.
    let iteration = u32::try_from(index).unwrap_or(u32::MAX).to_le_bytes();
    Step { message: labelled(key, 1, iteration), next: labelled(key, 2, iteration) }
}

/// `HMAC-SHA256(key, label ‖ le32 iteration)`.
fn labelled(key: &Secret, label: u8, iteration: [u8; 4]) -> Secret {
    let mac = keyed(key.expose()).chain_update([label]).chain_update(iteration);
    Secret::new(mac.finalize().into_bytes().into())
}

/// Key ‖ iv of a message.
fn message_keys(secret: &Secret) -> Zeroizing<[u8; 44]> {
    let mut okm = Zeroizing::new([0; 44]);
    // 44 bytes, of the 8,160 that there are.
    _ = Hkdf::<Sha256>::new(None, secret.expose()).expand(b"RenSenderKey_v1", okm.as_mut_slice());
    okm
}

/// A cipher and its nonce, from 44 bytes of a KDF.
fn cipher(okm: &[u8; 44]) -> (ChaCha20Poly1305, [u8; 12]) {
    let (mut key, mut nonce) = (Zeroizing::new([0; 32]), [0; 12]);
    let (first, second) = okm.split_at(32);
    key.copy_from_slice(first);
    nonce.copy_from_slice(second);
    (ChaCha20Poly1305::new((&*key).into()), nonce)
}

pub(super) fn seal(secret: &Secret, plaintext: &[u8]) -> Option<Vec<u8>> {
    let (cipher, nonce) = cipher(&message_keys(secret));
    cipher.encrypt(&nonce.into(), plaintext).ok()
}

pub(super) fn open(secret: &Secret, ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (cipher, nonce) = cipher(&message_keys(secret));
    cipher.decrypt(&nonce.into(), ciphertext).ok().map(Zeroizing::new)
}

impl TryFrom<Given> for Chain {
    type Error = SealError;

    /// A chain at its end is given to nobody.
    fn try_from(given: Given) -> Result<Self, SealError> {
        Ok(Self {
            chain_id: given.id,
            iteration: u32::try_from(given.start).map_err(|_| SealError::Ended)?,
            chain_key: Zeroizing::new(*given.key.expose()),
            signing: given.signing,
        })
    }
}

impl From<&Chain> for Given {
    fn from(chain: &Chain) -> Self {
        Self {
            suite: Suite::RenA,
            id: chain.chain_id,
            signing: chain.signing,
            start: u64::from(chain.iteration),
            key: Secret::new(*chain.chain_key),
        }
    }
}

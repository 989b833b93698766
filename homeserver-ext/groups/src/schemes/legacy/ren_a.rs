//! `ren_a`, suite 0x82: HMAC chain, ChaCha20-Poly1305, Ed25519 over the ciphertext, JSON with base64.
//!
//! The seed as it is written cannot run: it takes 64 bytes from a hash of 32. This is the reading that
//! keeps its HMAC over the iteration and adds a label, so that the two outputs are independent.

mod message;
mod wrap;

use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, aead::Aead as _};
use ed25519_dalek::{Signer as _, SigningKey};
use hkdf::Hkdf;
use hmac::Mac as _;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    MAX_PLAINTEXT,
    chain::{Secret, Step},
    held::{Given, Held, Message, NotTaken, OpenError, Taken},
    keyed,
    own::Own,
};

pub use message::{Envelope, MAX_ENVELOPE};
pub use wrap::{BLOB, Chain, NotWrapped, unwrap, wrap};

const TAG: usize = 16;

/// The suite's number in a `create` op.
pub const SUITE: u8 = 0x82;

/// Why nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// At most 20,000 bytes fit.
    #[error("plaintext of {0} bytes, at most 20,000 fit")]
    TooLong(usize),
    /// Make a new chain: iterations are 32 bits wide.
    #[error("the chain has come to its end")]
    Ended,
}

fn ratchet(key: &Secret, index: u64) -> Step {
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

/// A chain of this device's own.
pub struct OwnKey(Own);

impl OwnKey {
    /// Begins one at iteration 0, of secrets that nobody else knows.
    pub fn new(
        chain_id: u32,
        chain_key: &Zeroizing<[u8; 32]>,
        signing: &Zeroizing<[u8; 32]>,
    ) -> Self {
        let signing = SigningKey::from_bytes(signing);
        Self(Own { id: chain_id, signing, next: 0, key: Secret::new(**chain_key) })
    }

    /// What a member's device is given to read on from here.
    pub fn chain(&self) -> Chain {
        Chain {
            chain_id: self.0.id,
            // The next is checked when it is sealed.
            iteration: u32::try_from(self.0.next).unwrap_or(u32::MAX),
            chain_key: Zeroizing::new(*self.0.key.expose()),
            signing: self.0.signing.verifying_key().to_bytes(),
        }
    }

    /// Seals `plaintext` and moves on: iteration, ciphertext ‖ tag, signature. The chain must be stored
    /// before they leave.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<(u32, Vec<u8>, [u8; 64]), SealError> {
        let too_long = SealError::TooLong(plaintext.len());
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(too_long);
        }
        let iteration = u32::try_from(self.0.next).map_err(|_| SealError::Ended)?;
        let (_, secret) = self.0.advance(ratchet);
        let (cipher, nonce) = cipher(&message_keys(&secret));
        let ciphertext = cipher.encrypt(&nonce.into(), plaintext).map_err(|_| too_long)?;
        let signature = self.0.signing.sign(&ciphertext).to_bytes();
        Ok((iteration, ciphertext, signature))
    }

    /// Passes over the next `count` messages, which may have been sealed before a database was put back.
    pub fn skip(&mut self, count: u64) {
        self.0.skip(count, ratchet);
    }

    /// The chain as bytes, to be sealed at rest.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        self.0.encode()
    }

    /// The chain that [`Self::encode`] wrote; `None` for any other bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Own::decode(bytes).map(Self)
    }
}

/// What is held of one sender in one group: the chain it speaks with, and the one before.
pub struct HeldKeys(Held);

impl HeldKeys {
    /// What the first chain of a sender gives.
    ///
    /// # Errors
    /// [`NotTaken::Key`].
    pub fn new(chain: &Chain) -> Result<Self, NotTaken> {
        Held::new(given(chain)).map(Self)
    }

    /// Takes another chain of the same sender; one that is held never goes back.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn take(&mut self, chain: &Chain) -> Result<Taken, NotTaken> {
        self.0.take(given(chain), ratchet)
    }

    /// Opens the message of this chain and iteration, once.
    ///
    /// # Errors
    /// [`OpenError`], and nothing has changed.
    pub fn open(
        &mut self,
        (chain_id, iteration): (u32, u32),
        ciphertext: &[u8],
        signature: [u8; 64],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if !(TAG..=MAX_PLAINTEXT + TAG).contains(&ciphertext.len()) {
            return Err(OpenError::Malformed);
        }
        let index = u64::from(iteration);
        let message = Message { id: chain_id, index, signed: ciphertext, signature };
        self.0.open(&message, ratchet, |secret| {
            let (cipher, nonce) = cipher(&message_keys(secret));
            cipher.decrypt(&nonce.into(), ciphertext).ok().map(Zeroizing::new)
        })
    }

    /// What is held as bytes, to be sealed at rest.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        self.0.encode()
    }

    /// What [`Self::encode`] wrote; `None` for any other bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Held::decode(bytes).map(Self)
    }
}

fn given(chain: &Chain) -> Given {
    Given {
        id: chain.chain_id,
        signing: chain.signing,
        start: u64::from(chain.iteration),
        key: Secret::new(*chain.chain_key),
    }
}

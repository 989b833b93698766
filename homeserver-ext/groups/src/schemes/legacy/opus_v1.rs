//! `opus_v1`, suite 0x81: HKDF and SHA-256 chain, AES-256-GCM, Ed25519 over nonce and ciphertext, JSON
//! with hex.

mod distribution;
mod envelope;
mod invite;
mod python;

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, KeyInit},
};
use ed25519_dalek::{Signer as _, SigningKey};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    MAX_PLAINTEXT,
    chain::{Secret, Step},
    held::{Given, Held, Message, NotTaken, OpenError, Taken},
    own::Own,
};

pub use distribution::{BadDistribution, Distribution};
pub use envelope::{Envelope, MAX_ENVELOPE};
pub use invite::{BadInvite, Invite, hash_token};

const NONCE: usize = 12;
const TAG: usize = 16;

/// The suite's number in a `create` op.
pub const SUITE: u8 = 0x81;

/// The plaintext is longer than fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("plaintext of {0} bytes, at most 20,000 fit")]
pub struct TooLong(pub usize);

fn ratchet(key: &Secret, _: u64) -> Step {
    let next = Sha256::new().chain_update(key.expose()).chain_update(b"SenderKey_ChainAdvance");
    Step {
        message: Secret::new(expand(key.expose(), b"SenderKey_MessageKey")),
        next: Secret::new(next.finalize().into()),
    }
}

/// `HKDF-SHA256(ikm, salt absent, info, 32)`.
fn expand(ikm: &[u8], info: &[u8]) -> [u8; 32] {
    let mut okm = [0; 32];
    // 32 bytes, of the 8,160 that there are.
    _ = Hkdf::<Sha256>::new(None, ikm).expand(info, &mut okm);
    okm
}

/// A chain of this device's own.
pub struct OwnKey(Own);

impl OwnKey {
    /// Begins one at index 0, of secrets that nobody else knows.
    pub fn new(chain_key: &Zeroizing<[u8; 32]>, signing: &Zeroizing<[u8; 32]>) -> Self {
        let signing = SigningKey::from_bytes(signing);
        Self(Own { id: 0, signing, next: 0, key: Secret::new(**chain_key) })
    }

    /// Begins one as the seed derives it. Whoever keeps the master secret has all of the chain, so
    /// nothing here keeps one.
    pub fn from_master_secret(secret: &[u8]) -> Self {
        let chain_key = Zeroizing::new(expand(secret, b"DiscordOpus_SenderKey_ChainKey_v1"));
        let signing = Zeroizing::new(expand(secret, b"DiscordOpus_SenderKey_SigningKey_v1"));
        Self::new(&chain_key, &signing)
    }

    /// Index of the next message.
    pub const fn next_index(&self) -> u64 {
        self.0.next
    }

    /// What a member's device is given over Olm to read on from here.
    pub fn distribution(&self) -> Distribution {
        Distribution {
            chain_key: Zeroizing::new(*self.0.key.expose()),
            signature_public: self.0.signing.verifying_key().to_bytes(),
            message_index: self.0.next,
        }
    }

    /// Seals `plaintext` and moves on: index, nonce ‖ ciphertext ‖ tag, signature. The chain must be
    /// stored before they leave.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn seal(
        &mut self,
        nonce: [u8; 12],
        plaintext: &[u8],
    ) -> Result<(u64, Vec<u8>, [u8; 64]), TooLong> {
        let too_long = TooLong(plaintext.len());
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(too_long);
        }
        let (index, key) = self.0.advance(ratchet);
        let sealed = Aes256Gcm::new(key.expose().into())
            .encrypt(&nonce.into(), plaintext)
            .map_err(|_| too_long)?;
        let ciphertext = [nonce.as_slice(), &sealed].concat();
        let signature = self.0.signing.sign(&ciphertext).to_bytes();
        Ok((index, ciphertext, signature))
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
    /// What the first distribution of a sender gives.
    ///
    /// # Errors
    /// [`NotTaken::Key`].
    pub fn new(distribution: &Distribution) -> Result<Self, NotTaken> {
        Held::new(given(distribution)).map(Self)
    }

    /// Takes another distribution of the same sender; a chain that is held never goes back.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn take(&mut self, distribution: &Distribution) -> Result<Taken, NotTaken> {
        self.0.take(given(distribution), ratchet)
    }

    /// Opens the message of this index, once.
    ///
    /// # Errors
    /// [`OpenError`], and nothing has changed.
    pub fn open(
        &mut self,
        index: u64,
        ciphertext: &[u8],
        signature: [u8; 64],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let fits = NONCE + TAG..=NONCE + MAX_PLAINTEXT + TAG;
        let (nonce, sealed) = ciphertext
            .split_first_chunk::<NONCE>()
            .filter(|_| fits.contains(&ciphertext.len()))
            .ok_or(OpenError::Malformed)?;
        let message = Message { id: 0, index, signed: ciphertext, signature };
        self.0.open(&message, ratchet, |key| {
            let opened = Aes256Gcm::new(key.expose().into()).decrypt(nonce.into(), sealed);
            opened.ok().map(Zeroizing::new)
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

fn given(distribution: &Distribution) -> Given {
    Given {
        id: 0,
        signing: distribution.signature_public,
        start: distribution.message_index,
        key: Secret::new(*distribution.chain_key),
    }
}

//! The sender's side of a linear chain: it only moves on.

use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use super::{Given, MAX_PLAINTEXT, Suite, chain::Secret};

const STORED_VERSION: u8 = 1;

/// Why nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// At most 20,000 bytes fit.
    #[error("plaintext of {0} bytes, at most 20,000 fit")]
    TooLong(usize),
    /// Make a new chain: indices are 32 bits wide where the suite says so.
    #[error("the chain has come to its end")]
    Ended,
}

/// A chain of this device's own.
pub struct OwnKey {
    suite: Suite,
    id: u32,
    signing: SigningKey,
    next: u64,
    key: Secret,
}

impl OwnKey {
    /// Begins one at index 0, of secrets that nobody else knows; `id` is 0 where the suite has no names.
    pub fn new(
        suite: Suite,
        id: u32,
        chain_key: &Zeroizing<[u8; 32]>,
        signing: &Zeroizing<[u8; 32]>,
    ) -> Self {
        let signing = SigningKey::from_bytes(signing);
        Self { suite, id, signing, next: 0, key: Secret::new(**chain_key) }
    }

    /// What the chain is called.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Index of the next message.
    pub const fn next_index(&self) -> u64 {
        self.next
    }

    /// What a member's device is given to read on from here.
    pub fn given(&self) -> Given {
        Given {
            suite: self.suite,
            id: self.id,
            signing: self.signing.verifying_key().to_bytes(),
            start: self.next,
            key: Secret::new(*self.key.expose()),
        }
    }

    /// Seals `plaintext` and moves on: index, ciphertext, signature. The chain must be stored before they
    /// leave. `nonce` is random; `ren_a` makes its own.
    ///
    /// # Errors
    /// [`SealError`], and nothing was used up.
    pub fn seal(
        &mut self,
        nonce: [u8; 12],
        plaintext: &[u8],
    ) -> Result<(u64, Vec<u8>, [u8; 64]), SealError> {
        let too_long = SealError::TooLong(plaintext.len());
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(too_long);
        }
        if self.suite == Suite::RenA && u32::try_from(self.next).is_err() {
            return Err(SealError::Ended);
        }
        let (index, key) = self.advance();
        let ciphertext = self.suite.seal(&key, nonce, plaintext).ok_or(too_long)?;
        let signature = self.signing.sign(&ciphertext).to_bytes();
        Ok((index, ciphertext, signature))
    }

    /// Passes over the next `count` messages, which may have been sealed before a database was put back.
    pub fn skip(&mut self, count: u64) {
        for _ in 0..count {
            self.advance();
        }
    }

    fn advance(&mut self) -> (u64, Secret) {
        let index = self.next;
        let step = self.suite.ratchet()(&self.key, index);
        self.next = index.saturating_add(1);
        self.key = step.next;
        (index, step.message)
    }

    /// The chain as bytes, to be sealed at rest; its suite is that of the group.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(77));
        bytes.push(STORED_VERSION);
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&*Zeroizing::new(self.signing.to_bytes()));
        bytes.extend_from_slice(&self.next.to_be_bytes());
        bytes.extend_from_slice(self.key.expose());
        bytes
    }

    /// The chain that [`Self::encode`] wrote; `None` for any other bytes.
    pub fn decode(suite: Suite, bytes: &[u8]) -> Option<Self> {
        let (&[STORED_VERSION], bytes) = bytes.split_first_chunk()? else { return None };
        let (id, bytes) = bytes.split_first_chunk()?;
        let (signing, bytes) = bytes.split_first_chunk()?;
        let (next, key) = bytes.split_first_chunk()?;
        Some(Self {
            suite,
            id: u32::from_be_bytes(*id),
            signing: SigningKey::from_bytes(signing),
            next: u64::from_be_bytes(*next),
            key: Secret::new(key.try_into().ok()?),
        })
    }
}

//! The sender's side of a linear chain: it only moves on.

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::chain::{Ratchet, Secret};

const STORED_VERSION: u8 = 1;

/// A chain of this device's own.
pub(super) struct Own {
    pub(super) id: u32,
    pub(super) signing: SigningKey,
    pub(super) next: u64,
    pub(super) key: Secret,
}

impl Own {
    /// The next index and what its message is sealed with; the chain must be stored before the message
    /// leaves.
    pub(super) fn advance(&mut self, ratchet: Ratchet) -> (u64, Secret) {
        let index = self.next;
        let step = ratchet(&self.key, index);
        self.next = index.saturating_add(1);
        self.key = step.next;
        (index, step.message)
    }

    /// Passes over so many indices.
    pub(super) fn skip(&mut self, count: u64, ratchet: Ratchet) {
        for _ in 0..count {
            self.advance(ratchet);
        }
    }

    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(77));
        bytes.push(STORED_VERSION);
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&*Zeroizing::new(self.signing.to_bytes()));
        bytes.extend_from_slice(&self.next.to_be_bytes());
        bytes.extend_from_slice(self.key.expose());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[STORED_VERSION], bytes) = bytes.split_first_chunk()? else { return None };
        let (id, bytes) = bytes.split_first_chunk()?;
        let (signing, bytes) = bytes.split_first_chunk()?;
        let (next, key) = bytes.split_first_chunk()?;
        Some(Self {
            id: u32::from_be_bytes(*id),
            signing: SigningKey::from_bytes(signing),
            next: u64::from_be_bytes(*next),
            key: Secret::new(key.try_into().ok()?),
        })
    }
}

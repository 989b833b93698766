//! Another device's chains: the one it speaks with, and the one before.

use ed25519_dalek::{Signature, VerifyingKey};
use zeroize::Zeroizing;

use super::chain::{Chain, Ratchet, Secret, Unreachable};

const STORED_VERSION: u8 = 1;

/// What a device was given of a chain.
pub(super) struct Given {
    /// What the chain is called; 0 where the suite has no names.
    pub(super) id: u32,
    /// Signs its messages.
    pub(super) signing: [u8; 32],
    /// Where `key` stands.
    pub(super) start: u64,
    /// The chain key there.
    pub(super) key: Secret,
}

/// What became of a chain that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is new; what was spoken with before is the previous one, and the one before that is gone.
    New,
    /// It was here, from an index as low or lower, or later: nothing has changed.
    Known,
}

/// Why a chain that was given is not taken; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Not a canonical Ed25519 key, or one of small order.
    #[error("the signing key is none")]
    Key,
    /// Its signing key or its name is that of a chain that is held, and the rest is not.
    #[error("this is another chain under the name of one that is held")]
    Conflict,
}

/// Why a message does not open; whatever the reason, nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not the seed's JSON, or beyond the limits.
    #[error("not a message of this suite")]
    Malformed,
    /// Its sender or group is another than that of the envelope.
    #[error("the message names another sender or group than its envelope")]
    Context,
    /// No chain of that sender is held under that name.
    #[error("no key of its sender is held")]
    NoKey,
    /// Not signed by the sender's chain.
    #[error("the signature is not the sender's")]
    Signature,
    /// There is no key for its index.
    #[error(transparent)]
    Index(#[from] Unreachable),
    /// Signed, yet not sealed with the key of its index.
    #[error("the ciphertext is not authentic")]
    Ciphertext,
}

struct Key {
    id: u32,
    signing: VerifyingKey,
    chain: Chain,
}

impl Key {
    fn new(given: Given) -> Result<Self, NotTaken> {
        causeway_protocol::keys::check_ed25519(given.signing).map_err(|_| NotTaken::Key)?;
        let signing = VerifyingKey::from_bytes(&given.signing).map_err(|_| NotTaken::Key)?;
        Ok(Self { id: given.id, signing, chain: Chain::new(given.start, given.key) })
    }
}

/// A message, split into what the receiver judges.
pub(super) struct Message<'a> {
    pub(super) id: u32,
    pub(super) index: u64,
    pub(super) signed: &'a [u8],
    pub(super) signature: [u8; 64],
}

/// What is held of one sending device in one group.
pub(super) struct Held {
    now: Key,
    before: Option<Key>,
}

impl Held {
    pub(super) fn new(given: Given) -> Result<Self, NotTaken> {
        Ok(Self { now: Key::new(given)?, before: None })
    }

    /// Takes a chain that its sender gave over Olm. A chain that is held never goes back.
    pub(super) fn take(&mut self, given: Given, ratchet: Ratchet) -> Result<Taken, NotTaken> {
        for held in [Some(&mut self.now), self.before.as_mut()].into_iter().flatten() {
            let is_signer = held.signing.as_bytes() == &given.signing;
            if !is_signer && (held.id != given.id || given.id == 0) {
                continue;
            }
            if !is_signer || held.id != given.id {
                return Err(NotTaken::Conflict);
            }
            if held.chain.is_beyond(given.start) {
                // So much was missed that the chain cannot be moved there.
                held.chain = Chain::new(given.start, given.key);
                return Ok(Taken::New);
            }
            // A lower index would open again what was opened.
            return match held.chain.key_at(given.start, ratchet) {
                Some(key) if key.expose() != given.key.expose() => Err(NotTaken::Conflict),
                Some(_) | None => Ok(Taken::Known),
            };
        }
        let before = std::mem::replace(&mut self.now, Key::new(given)?);
        self.before = Some(before);
        Ok(Taken::New)
    }

    /// Finds the chain by `is_named` and by its signature, then looks at the index, and only then
    /// derives; the chain moves once `open` has opened it. Text and state are to be stored in one
    /// transaction.
    pub(super) fn open(
        &mut self,
        message: &Message<'_>,
        ratchet: Ratchet,
        open: impl FnOnce(&Secret) -> Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let Message { id, index, signed, signature } = message;
        let signature = Signature::from_bytes(signature);
        let mut named = [Some(&mut self.now), self.before.as_mut()]
            .into_iter()
            .flatten()
            .filter(|held| held.id == *id)
            .peekable();
        if named.peek().is_none() {
            return Err(OpenError::NoKey);
        }
        let held = named
            .find(|held| held.signing.verify_strict(signed, &signature).is_ok())
            .ok_or(OpenError::Signature)?;
        let (secret, advance) = held.chain.derive(*index, ratchet)?;
        let text = open(&secret).ok_or(OpenError::Ciphertext)?;
        held.chain.spend(advance);
        Ok(text)
    }

    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(vec![STORED_VERSION]);
        for held in [Some(&self.now), self.before.as_ref()].into_iter().flatten() {
            bytes.extend_from_slice(&held.id.to_be_bytes());
            bytes.extend_from_slice(held.signing.as_bytes());
            held.chain.encode(&mut bytes);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[STORED_VERSION], bytes) = bytes.split_first_chunk()? else { return None };
        let (now, bytes) = decode_key(bytes)?;
        if bytes.is_empty() {
            return Some(Self { now, before: None });
        }
        let (before, rest) = decode_key(bytes)?;
        rest.is_empty().then_some(Self { now, before: Some(before) })
    }
}

fn decode_key(bytes: &[u8]) -> Option<(Key, &[u8])> {
    let (id, bytes) = bytes.split_first_chunk()?;
    let (signing, bytes) = bytes.split_first_chunk()?;
    let (chain, bytes) = Chain::decode(bytes)?;
    let signing = VerifyingKey::from_bytes(signing).ok()?;
    Some((Key { id: u32::from_be_bytes(*id), signing, chain }, bytes))
}

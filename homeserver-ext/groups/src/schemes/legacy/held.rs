//! Another device's chains: the one it speaks with, and the one before.

use ed25519_dalek::{Signature, VerifyingKey};
use zeroize::Zeroizing;

use super::{
    MAX_PLAINTEXT, Suite,
    chain::{Chain, Secret, Unreachable},
};

const STORED_VERSION: u8 = 1;

/// What a device was given of a chain.
pub struct Given {
    /// Of which suite it is.
    pub(super) suite: Suite,
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
    /// Its signing key or its name is that of a chain that is held, and the rest is not; or its suite is
    /// another.
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

/// What is held of one sender in one group: the chain it speaks with, and the one before.
pub struct HeldKeys {
    suite: Suite,
    now: Key,
    before: Option<Key>,
}

impl HeldKeys {
    /// What the first chain of a sender gives.
    ///
    /// # Errors
    /// [`NotTaken::Key`].
    pub fn new(given: impl Into<Given>) -> Result<Self, NotTaken> {
        let given = given.into();
        Ok(Self { suite: given.suite, now: Key::new(given)?, before: None })
    }

    /// Takes a chain that its sender gave over Olm. A chain that is held never goes back.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub fn take(&mut self, given: impl Into<Given>) -> Result<Taken, NotTaken> {
        let given = given.into();
        if given.suite != self.suite {
            return Err(NotTaken::Conflict);
        }
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
            return match held.chain.key_at(given.start, self.suite.ratchet()) {
                Some(key) if key.expose() != given.key.expose() => Err(NotTaken::Conflict),
                Some(_) | None => Ok(Taken::Known),
            };
        }
        let before = std::mem::replace(&mut self.now, Key::new(given)?);
        self.before = Some(before);
        Ok(Taken::New)
    }

    /// Opens the message of this chain (0 where the suite has no names) and index, once: the chain is
    /// found by its name and by its signature, then the index is looked at, and only then is anything
    /// derived; the chain moves once the message has opened. Text and state are to be stored in one
    /// transaction.
    ///
    /// # Errors
    /// [`OpenError`], and nothing has changed.
    pub fn open(
        &mut self,
        (id, index): (u32, u64),
        ciphertext: &[u8],
        signature: [u8; 64],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (suite, overhead) = (self.suite, self.suite.overhead());
        if !(overhead..=MAX_PLAINTEXT + overhead).contains(&ciphertext.len()) {
            return Err(OpenError::Malformed);
        }
        let signature = Signature::from_bytes(&signature);
        let mut named = [Some(&mut self.now), self.before.as_mut()]
            .into_iter()
            .flatten()
            .filter(|held| held.id == id)
            .peekable();
        if named.peek().is_none() {
            return Err(OpenError::NoKey);
        }
        let held = named
            .find(|held| held.signing.verify_strict(ciphertext, &signature).is_ok())
            .ok_or(OpenError::Signature)?;
        let (secret, advance) = held.chain.derive(index, suite.ratchet())?;
        let text = suite.open(&secret, ciphertext).ok_or(OpenError::Ciphertext)?;
        held.chain.spend(advance);
        Ok(text)
    }

    /// What is held as bytes, to be sealed at rest; its suite is that of the group.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(vec![STORED_VERSION]);
        for held in [Some(&self.now), self.before.as_ref()].into_iter().flatten() {
            bytes.extend_from_slice(&held.id.to_be_bytes());
            bytes.extend_from_slice(held.signing.as_bytes());
            held.chain.encode(&mut bytes);
        }
        bytes
    }

    /// What [`Self::encode`] wrote; `None` for any other bytes.
    pub fn decode(suite: Suite, bytes: &[u8]) -> Option<Self> {
        let (&[STORED_VERSION], bytes) = bytes.split_first_chunk()? else { return None };
        let (now, bytes) = decode_key(bytes)?;
        if bytes.is_empty() {
            return Some(Self { suite, now, before: None });
        }
        let (before, rest) = decode_key(bytes)?;
        rest.is_empty().then_some(Self { suite, now, before: Some(before) })
    }
}

fn decode_key(bytes: &[u8]) -> Option<(Key, &[u8])> {
    let (id, bytes) = bytes.split_first_chunk()?;
    let (signing, bytes) = bytes.split_first_chunk()?;
    let (chain, bytes) = Chain::decode(bytes)?;
    let signing = VerifyingKey::from_bytes(signing).ok()?;
    Some((Key { id: u32::from_be_bytes(*id), signing, chain }, bytes))
}

//! Pairwise fan-out (protocol §5.1): one ciphertext under a key of its own, and for each recipient that
//! key in a piece, which travels in their Olm session.
//!
//! ```text
//! key ──▶ kc = H(key) ─────────────┐
//!  │                               ▼
//!  └─▶ ciphertext ──▶ binding = H(ciphertext, kc, group, sender, recipient, message, roster)
//! piece = Olm(key ‖ binding), one for each recipient
//! ```
//! `kc` stands in the clear, so whoever opens an event has the key that all others have, and reads what
//! they read. The binding says in whose conversation the key was given: Olm itself does not.

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInPlace, KeyInit},
};
use causeway_protocol::{
    fanout::{self, Context, Header, Message},
    ids::DeviceId,
    olm_plaintext::Piece,
};
use zeroize::Zeroizing;

/// Where the `client_id` stands in a plaintext (protocol §2.1), which every message must name.
const CLIENT_ID: std::ops::Range<usize> = 13..29;

/// The key seals one plaintext only, so that its nonce is always the same.
const NONCE: [u8; 12] = [0; 12];

/// Encoding of what is kept; another one is refused.
const STORED_VERSION: u8 = 1;

/// Nothing was sealed: AES-GCM takes no plaintext of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("plaintext of {0} bytes is too long")]
pub struct TooLong(pub usize);

/// Why a message does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another version, a shard that cannot be, or too short.
    #[error("not a fan-out message of protocol §5.1")]
    Malformed,
    /// The piece has another key than the one that all others were given.
    #[error("the key is not the one that the message is committed to")]
    Commitment,
    /// The key was given for another message, group, sender, recipient or roster.
    #[error("the key is not bound to this message")]
    Binding,
    /// Not sealed with this key in this context.
    #[error("the ciphertext is not authentic")]
    Ciphertext,
    /// It calls itself otherwise than the envelope does.
    #[error("the message has another name inside than outside")]
    Name,
}

impl OpenError {
    /// In one word, for logs and test vectors.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Commitment => "kc",
            Self::Binding => "binding",
            Self::Ciphertext => "aead",
            Self::Name => "client_id",
        }
    }
}

/// A message that this device has sealed, and its key: pieces can be made of it.
pub struct FanOut {
    context: Context,
    key: Zeroizing<[u8; 32]>,
    kc: [u8; 32],
    sealed: Vec<u8>,
    bindings: fanout::Bindings,
}

impl FanOut {
    /// Seals `plaintext`, whose `client_id` is the context's, under a key that is used for nothing else.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn seal(
        context: Context,
        key: Zeroizing<[u8; 32]>,
        plaintext: &[u8],
    ) -> Result<Self, TooLong> {
        let mut sealed = Vec::with_capacity(plaintext.len() + fanout::TAG);
        sealed.extend_from_slice(plaintext);
        let tag = Aes256Gcm::new((&*key).into())
            .encrypt_in_place_detached(&NONCE.into(), &context.aad(), &mut sealed)
            .map_err(|_| TooLong(plaintext.len()))?;
        sealed.extend_from_slice(&tag);
        Ok(Self::of(context, key, sealed))
    }

    /// What it is bound to.
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The piece of one recipient, to be sealed in the session with it.
    pub fn piece(&self, recipient: &DeviceId) -> Piece {
        Piece { key: Zeroizing::new(*self.key), binding: self.bindings.of(recipient) }
    }

    /// How long its payload is.
    pub const fn payload_len(&self) -> usize {
        fanout::HEADER + self.sealed.len()
    }

    /// What all recipients get: the same but for the number of the shard.
    pub fn payload(&self, shard: u16, shards: u16) -> Vec<u8> {
        let Context { roster, msg_id, .. } = self.context;
        let header = Header { shard, shards, msg_id, roster, kc: self.kc };
        [header.to_bytes().as_slice(), &self.sealed].concat()
    }

    /// What was sealed.
    ///
    /// # Errors
    /// [`OpenError::Ciphertext`].
    pub fn open(&self) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        decrypt(&self.key, &self.context, &self.sealed)
    }

    /// Key and ciphertext as bytes, to be sealed at rest; the context stands beside them.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(33 + self.sealed.len()));
        bytes.push(STORED_VERSION);
        bytes.extend_from_slice(&*self.key);
        bytes.extend_from_slice(&self.sealed);
        bytes
    }

    /// What [`Self::encode`] wrote, in the same context; `None` for any other bytes.
    pub fn decode(context: Context, bytes: &[u8]) -> Option<Self> {
        let (&[STORED_VERSION], rest) = bytes.split_first_chunk()? else { return None };
        let (key, sealed) = rest.split_first_chunk::<32>()?;
        let (key, sealed) = (Zeroizing::new(*key), sealed.to_vec());
        decrypt(&key, &context, &sealed).ok()?;
        Some(Self::of(context, key, sealed))
    }

    fn of(context: Context, key: Zeroizing<[u8; 32]>, sealed: Vec<u8>) -> Self {
        let kc = fanout::commitment(&key);
        let bindings = context.bindings(&sealed, &kc);
        Self { context, key, kc, sealed, bindings }
    }
}

/// Opens what another device sealed, with the key of the reader's own piece.
///
/// # Errors
/// [`OpenError`], by what is wrong first: the key, what it is bound to, the ciphertext, the name.
pub fn open(
    message: &Message<'_>,
    context: &Context,
    recipient: &DeviceId,
    piece: &Piece,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let Message { header, sealed } = message;
    if fanout::commitment(&piece.key) != header.kc {
        return Err(OpenError::Commitment);
    }
    if context.binding(sealed, &header.kc, recipient) != piece.binding {
        return Err(OpenError::Binding);
    }
    let plaintext = decrypt(&piece.key, context, sealed)?;
    // Too short for a name is no plaintext at all, which its reader says.
    match plaintext.get(CLIENT_ID) {
        Some(name) if name != header.msg_id.as_bytes() => Err(OpenError::Name),
        Some(_) | None => Ok(plaintext),
    }
}

fn decrypt(
    key: &[u8; 32],
    context: &Context,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (text, tag) = sealed.split_last_chunk::<{ fanout::TAG }>().ok_or(OpenError::Malformed)?;
    let mut plaintext = Zeroizing::new(text.to_vec());
    Aes256Gcm::new(key.into())
        .decrypt_in_place_detached(&NONCE.into(), &context.aad(), &mut plaintext, tag.into())
        .map_err(|_| OpenError::Ciphertext)?;
    Ok(plaintext)
}

//! One message: its wire form, and the road from bytes to plaintext (protocol §4.1, §4.2).
//!
//! Layout, associated data and what is signed are in [`causeway_protocol::sender_key`].
//! [`Wire`] → [`Verified`] → [`Opened`]: each step is only reachable from the one before, and only
//! [`Opened::spend`] changes a chain.

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInPlace, KeyInit},
};
use causeway_protocol::sender_key::{Context, Header, MAX_PLAINTEXT, Message, signed_bytes};
use chacha20poly1305::ChaCha20Poly1305;
use ed25519_dalek::{Signature, Signer, SigningKey};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{
    Suite,
    held::HeldChain,
    tree::{Puncture, Seed},
};

const TAG_BYTES: usize = 16;

/// Which message of a chain, and its salt.
pub(super) struct Place {
    pub(super) suite: Suite,
    pub(super) index: u32,
    pub(super) salt: [u8; 4],
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct MessageKeys {
    key: [u8; 32],
    nonce: [u8; 12],
    commit: [u8; 32],
}

impl MessageKeys {
    /// `HKDF-Expand(mk, "cg/sk/v2/msg" ‖ S ‖ salt ‖ chain_id, 76)`, RFC 5869 §2.3; `None` never,
    /// for 32 bytes of secret and 76 of output.
    fn derive(mk: &Seed, header: &Header, context: &Context) -> Option<Self> {
        let info: [&[u8]; 4] =
            [b"cg/sk/v2/msg", &[header.suite], &header.salt, context.chain.as_bytes()];
        let mut okm = Zeroizing::new([0; 76]);
        let prk = Hkdf::<Sha256>::from_prk(mk.expose()).ok()?;
        prk.expand_multi_info(&info, okm.as_mut_slice()).ok()?;
        let (key, rest) = okm.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        Some(Self { key: *key, nonce: *nonce, commit: *rest.first_chunk()? })
    }
}

/// Why nothing was sealed; the chain did not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Split it, or send it as media.
    #[error("plaintext of {0} bytes, at most {1} fit")]
    TooLong(usize, usize),
    /// Make a new chain.
    #[error("the chain has carried its 1,024 messages")]
    Ended,
    /// HKDF gave nothing.
    #[error("no key could be derived for the message")]
    Derivation,
}

pub(super) fn seal(
    place: &Place,
    context: &Context,
    mk: &Seed,
    signing: &SigningKey,
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    let too_long = || SealError::TooLong(plaintext.len(), MAX_PLAINTEXT);
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(too_long());
    }
    let [t0, t1, t2, t3, ..] = *context.chain.as_bytes();
    let [h0, h1, h2, h3, ..] = *context.roster.as_bytes();
    let &Place { suite, index, salt } = place;
    let header = Header {
        suite: suite.number(),
        tag: [t0, t1, t2, t3],
        index,
        hint: [h0, h1, h2, h3],
        salt,
    };
    let aad = context.aad(&header);
    let keys = MessageKeys::derive(mk, &header, context).ok_or(SealError::Derivation)?;
    let header = header.to_bytes();
    let mut wire = Vec::with_capacity(header.len() + plaintext.len() + 80);
    wire.extend_from_slice(&header);
    wire.extend_from_slice(plaintext);
    let (_, text) = wire.split_at_mut(header.len());
    let nonce = (&keys.nonce).into();
    let tag = match suite {
        Suite::Aes256Gcm => {
            Aes256Gcm::new((&keys.key).into()).encrypt_in_place_detached(nonce, &aad, text)
        }
        Suite::ChaCha20Poly1305 => {
            ChaCha20Poly1305::new((&keys.key).into()).encrypt_in_place_detached(nonce, &aad, text)
        }
    }
    .map_err(|_| too_long())?;
    wire.extend_from_slice(&tag);
    let (_, sealed) = wire.split_at(header.len());
    let signature = signing.sign(&signed_bytes(&aad, &keys.commit, sealed));
    wire.extend_from_slice(&signature.to_bytes());
    Ok(wire)
}

/// Why a message does not open; whatever the reason, its chain did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short, too long, another version or suite, or an index not written minimally.
    #[error("not a sender-key message of protocol §4.1")]
    Malformed,
    /// Seen before, or from before this device was given the chain.
    #[error("the key of this index is spent")]
    Spent,
    /// Not signed by the chain's key in this context.
    #[error("the signature is not the chain's")]
    Signature,
    /// Signed, yet not sealed with the key of its index.
    #[error("the ciphertext is not authentic")]
    Ciphertext,
}

/// A message of the right shape; nothing in it is to be believed yet.
#[derive(Debug, Clone, Copy)]
pub struct Wire<'a> {
    suite: Suite,
    message: Message<'a>,
}

impl<'a> Wire<'a> {
    /// Reads the fields (protocol §4.2 step 1).
    ///
    /// # Errors
    /// [`OpenError::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, OpenError> {
        let message = Message::parse(bytes).map_err(|_| OpenError::Malformed)?;
        let suite = Suite::from_number(message.header.suite).ok_or(OpenError::Malformed)?;
        Ok(Self { suite, message })
    }

    /// Which chain, index and roster it names.
    pub const fn header(&self) -> &Header {
        &self.message.header
    }

    /// Derives on scratch, then verifies strictly (protocol §4.2 steps 6 and 7). `context` is of
    /// the envelope, and names the chain that is tried.
    ///
    /// # Errors
    /// [`OpenError::Spent`]; [`OpenError::Signature`], also where chain and context do not fit.
    pub fn verify<'c>(
        &self,
        chain: &'c mut HeldChain,
        context: &Context,
    ) -> Result<Verified<'a, 'c>, OpenError> {
        let fits = chain.suite() == self.suite
            && chain.id() == context.chain
            && chain.group() == context.group
            && chain.sender() == context.sender;
        if !fits {
            return Err(OpenError::Signature);
        }
        let Message { header, sealed, signature } = &self.message;
        let (key, puncture) = chain.derive(header.index).ok_or(OpenError::Spent)?;
        let aad = context.aad(header);
        let keys = MessageKeys::derive(&key, header, context).ok_or(OpenError::Ciphertext)?;
        let signed = signed_bytes(&aad, &keys.commit, sealed);
        chain
            .sign_pk()
            .verify_strict(&signed, &Signature::from_bytes(signature))
            .map_err(|_| OpenError::Signature)?;
        Ok(Verified { suite: self.suite, aad, keys, sealed, chain, puncture })
    }
}

/// A message that its chain's key signed in this context.
pub struct Verified<'a, 'c> {
    suite: Suite,
    aad: Vec<u8>,
    keys: MessageKeys,
    sealed: &'a [u8],
    chain: &'c mut HeldChain,
    puncture: Puncture,
}

impl<'c> Verified<'_, 'c> {
    /// Decrypts (protocol §4.2 step 8).
    ///
    /// # Errors
    /// [`OpenError::Ciphertext`].
    pub fn open(self) -> Result<Opened<'c>, OpenError> {
        let (text, tag) =
            self.sealed.split_last_chunk::<TAG_BYTES>().ok_or(OpenError::Malformed)?;
        let mut plaintext = Zeroizing::new(text.to_vec());
        let (nonce, tag) = ((&self.keys.nonce).into(), tag.into());
        match self.suite {
            Suite::Aes256Gcm => Aes256Gcm::new((&self.keys.key).into()).decrypt_in_place_detached(
                nonce,
                &self.aad,
                &mut plaintext,
                tag,
            ),
            Suite::ChaCha20Poly1305 => ChaCha20Poly1305::new((&self.keys.key).into())
                .decrypt_in_place_detached(nonce, &self.aad, &mut plaintext, tag),
        }
        .map_err(|_| OpenError::Ciphertext)?;
        Ok(Opened { plaintext, chain: self.chain, puncture: self.puncture })
    }
}

/// A message that opened; until it is spent, the chain can open it again.
pub struct Opened<'c> {
    plaintext: Zeroizing<Vec<u8>>,
    chain: &'c mut HeldChain,
    puncture: Puncture,
}

impl Opened<'_> {
    /// What it says.
    pub fn plaintext(&self) -> &[u8] {
        &self.plaintext
    }

    /// Takes the text and makes the chain forget its key; both are to be stored in one
    /// transaction (protocol §4.2 step 9).
    pub fn spend(self) -> Zeroizing<Vec<u8>> {
        self.chain.spend(self.puncture);
        self.plaintext
    }
}

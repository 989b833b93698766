//! One message: its wire form, and the road from bytes to plaintext (protocol §4.1, §4.2).
//!
//! ```text
//! 0x2S │ chain tag 4 │ index LEB128 │ roster hint 4 │ salt 4 │ ciphertext │ tag 16 │ signature 64
//! ```
//! [`Wire`] → [`Verified`] → [`Opened`]: each step is only reachable from the one before, and only
//! [`Opened::spend`] changes a chain.

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInPlace, KeyInit},
};
use causeway_protocol::ids::{ChainId, DeviceId, GroupId, RosterHash};
use chacha20poly1305::ChaCha20Poly1305;
use ed25519_dalek::{Signature, Signer, SigningKey};
use hmac::Mac;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{
    HeldChain, MAX_PLAINTEXT, SealError, Suite,
    tree::{Puncture, Seed, keyed},
};

const VERSION: u8 = 0x20;
const TAG_BYTES: usize = 16;
const SIGNATURE_BYTES: usize = 64;

/// Everything around a ciphertext that it is bound to.
pub(super) struct Bound<'a> {
    pub(super) suite: Suite,
    pub(super) index: u32,
    pub(super) salt: [u8; 4],
    pub(super) group: &'a GroupId,
    pub(super) sender: &'a DeviceId,
    pub(super) chain: &'a ChainId,
    pub(super) roster_hash: &'a RosterHash,
}

impl Bound<'_> {
    /// 153 bytes, not sent.
    fn aad(&self) -> [u8; 153] {
        let mut aad = [0; 153];
        let index = self.index.to_be_bytes();
        let fields: [&[u8]; 8] = [
            b"cg/senderkey/v2\0",
            &[self.suite.number()],
            &index,
            &self.salt,
            self.group.as_bytes(),
            self.sender.as_bytes(),
            self.chain.as_bytes(),
            self.roster_hash.as_bytes(),
        ];
        for (to, from) in aad.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        aad
    }

    /// `HKDF-Expand(mk, "cg/sk/v2/msg" ‖ S ‖ salt ‖ chain_id, 76)`.
    fn keys(&self, mk: &Seed) -> MessageKeys {
        let mac = keyed(mk.expose());
        let mut okm = Zeroizing::new([0; 96]);
        let mut block = Zeroizing::new([0; 32]);
        for (count, to) in (1_u8..).zip(okm.as_chunks_mut::<32>().0) {
            let mut mac = mac.clone();
            if count > 1 {
                mac.update(block.as_slice());
            }
            mac.update(b"cg/sk/v2/msg");
            mac.update(&[self.suite.number()]);
            mac.update(&self.salt);
            mac.update(self.chain.as_bytes());
            mac.update(&[count]);
            *block = mac.finalize().into_bytes().into();
            *to = *block;
        }
        let mut keys = MessageKeys { key: [0; 32], nonce: [0; 12], commit: [0; 32] };
        let MessageKeys { key, nonce, commit } = &mut keys;
        for (to, from) in key.iter_mut().chain(nonce).chain(commit).zip(okm.iter()) {
            *to = *from;
        }
        keys
    }
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct MessageKeys {
    key: [u8; 32],
    nonce: [u8; 12],
    commit: [u8; 32],
}

/// What the chain's key signs: the context, the commitment to the key, and the box.
fn signed(aad: &[u8], keys: &MessageKeys, sealed: &[u8]) -> [u8; 48] {
    let hash =
        Sha256::new().chain_update(aad).chain_update(keys.commit).chain_update(sealed).finalize();
    let mut bytes = *b"cg/sk/v2/sign\0\0\0................................";
    for (to, from) in bytes.iter_mut().skip(16).zip(hash) {
        *to = from;
    }
    bytes
}

pub(super) fn seal(
    bound: &Bound<'_>,
    mk: &Seed,
    signing: &SigningKey,
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    let too_long = || SealError::TooLong(plaintext.len(), MAX_PLAINTEXT);
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(too_long());
    }
    let (aad, keys) = (bound.aad(), bound.keys(mk));
    let mut wire = Vec::with_capacity(95 + plaintext.len());
    wire.push(VERSION | bound.suite.number());
    wire.extend(bound.chain.as_bytes().iter().take(4));
    put_leb128(&mut wire, bound.index);
    wire.extend(bound.roster_hash.as_bytes().iter().take(4));
    wire.extend(bound.salt);
    let header = wire.len();
    wire.extend_from_slice(plaintext);
    let (_, text) = wire.split_at_mut(header);
    let nonce = (&keys.nonce).into();
    let tag = match bound.suite {
        Suite::Aes256Gcm => {
            Aes256Gcm::new((&keys.key).into()).encrypt_in_place_detached(nonce, &aad, text)
        }
        Suite::ChaCha20Poly1305 => {
            ChaCha20Poly1305::new((&keys.key).into()).encrypt_in_place_detached(nonce, &aad, text)
        }
    }
    .map_err(|_| too_long())?;
    wire.extend_from_slice(&tag);
    let (_, sealed) = wire.split_at(header);
    let signature = signing.sign(&signed(&aad, &keys, sealed));
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

/// The group, sender and roster of an envelope, to which a message is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The envelope's group.
    pub group: GroupId,
    /// The envelope's sender.
    pub sender: DeviceId,
    /// The known roster that matches the hint and the envelope's epoch.
    pub roster_hash: RosterHash,
}

/// A message of the right shape; nothing in it is to be believed yet.
#[derive(Debug, Clone, Copy)]
pub struct Wire<'a> {
    suite: Suite,
    chain_tag: [u8; 4],
    index: u32,
    roster_hint: [u8; 4],
    salt: [u8; 4],
    /// `ciphertext ‖ tag`.
    sealed: &'a [u8],
    signature: &'a [u8; SIGNATURE_BYTES],
}

impl<'a> Wire<'a> {
    /// Reads the fields (protocol §4.2 step 1).
    ///
    /// # Errors
    /// [`OpenError::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, OpenError> {
        Self::fields(bytes).ok_or(OpenError::Malformed)
    }

    fn fields(bytes: &'a [u8]) -> Option<Self> {
        let (&[version], rest) = bytes.split_first_chunk()?;
        let suite = Suite::from_number(version.checked_sub(VERSION)?)?;
        let (&chain_tag, rest) = rest.split_first_chunk()?;
        let (index, rest) = take_leb128(rest)?;
        let (&roster_hint, rest) = rest.split_first_chunk()?;
        let (&salt, rest) = rest.split_first_chunk()?;
        let (sealed, signature) = rest.split_last_chunk()?;
        (TAG_BYTES..=TAG_BYTES + MAX_PLAINTEXT).contains(&sealed.len()).then_some(Self {
            suite,
            chain_tag,
            index,
            roster_hint,
            salt,
            sealed,
            signature,
        })
    }

    /// First four bytes of the chain's id.
    pub const fn chain_tag(&self) -> [u8; 4] {
        self.chain_tag
    }

    /// First four bytes of the roster's hash.
    pub const fn roster_hint(&self) -> [u8; 4] {
        self.roster_hint
    }

    /// Which message key it names.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Derives on scratch, then verifies strictly (protocol §4.2 steps 6 and 7).
    ///
    /// # Errors
    /// [`OpenError::Spent`]; [`OpenError::Signature`], also where chain and context do not fit.
    pub fn verify<'c>(
        &self,
        chain: &'c mut HeldChain,
        context: &Context,
    ) -> Result<Verified<'a, 'c>, OpenError> {
        let fits = chain.suite() == self.suite
            && chain.group() == context.group
            && chain.sender() == context.sender;
        if !fits {
            return Err(OpenError::Signature);
        }
        let (key, puncture) = chain.derive(self.index).ok_or(OpenError::Spent)?;
        let bound = chain.bound(self.index, self.salt, &context.roster_hash);
        let (aad, keys) = (bound.aad(), bound.keys(&key));
        let signature = Signature::from_bytes(self.signature);
        chain
            .sign_pk()
            .verify_strict(&signed(&aad, &keys, self.sealed), &signature)
            .map_err(|_| OpenError::Signature)?;
        Ok(Verified { suite: self.suite, aad, keys, sealed: self.sealed, chain, puncture })
    }
}

/// A message that its chain's key signed in this context.
pub struct Verified<'a, 'c> {
    suite: Suite,
    aad: [u8; 153],
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

fn put_leb128(to: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push((number & 0x7f) as u8);
}

/// A minimal LEB128 number below 2^32, and what follows.
fn take_leb128(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut number = 0_u64;
    for (at, &byte) in bytes.iter().enumerate().take(5) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let minimal = byte != 0 || at == 0;
            let number = u32::try_from(number).ok().filter(|_| minimal)?;
            return bytes.get(at + 1..).map(|rest| (number, rest));
        }
    }
    None
}

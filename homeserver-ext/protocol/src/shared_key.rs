//! The public half of shared keys: wire form, associated data and key ids (protocol §5.2).
//!
//! ```text
//! 0x3A ‖ key_id[..4] ‖ counter LEB128 ‖ roster_hash[..4] ‖ salt 4 or nonce 24 ‖ box ‖ Ed25519 64
//! ```
//! `A` is the AEAD. 94 to 96 bytes and the plaintext, 146 to 148 where a nonce is carried. The
//! signature is the sending **device's**. No secret is touched here.

use crate::{
    fields::{Reader, Short, Writer},
    ids::{DeviceId, Epoch, GroupId, RosterHash, SharedKeyId},
    keys::hash,
};

/// Messages of one sender under one key.
pub const MAX_MESSAGES: u64 = 1 << 20;

/// Longest plaintext that is sealed, in bytes. An envelope takes less.
pub const MAX_PLAINTEXT: usize = 64 * 1024;

const TAG: usize = 16;
const SIGNATURE: usize = 64;
/// What an AEAD without associated data boxes before the plaintext.
const BOUND: usize = 32;

/// Not a shared-key message: version, AEAD, lengths or the spelling of the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a shared-key message")]
pub struct Malformed;

/// How messages under a key are boxed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Alg {
    /// AES-256-GCM (NIST SP 800-38D).
    Aes256Gcm = 1,
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305 = 2,
    /// XSalsa20-Poly1305, `NaCl`'s `secretbox`; it has no associated data, so their hash is boxed
    /// before the plaintext.
    XSalsa20Poly1305 = 3,
}

impl Alg {
    /// The AEAD of this number, which is the group's suite.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Aes256Gcm,
            2 => Self::ChaCha20Poly1305,
            3 => Self::XSalsa20Poly1305,
            _ => return None,
        })
    }

    /// Its number in ops, keys and messages.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Fewest bytes of a box.
    const fn least(self) -> usize {
        match self {
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => TAG,
            Self::XSalsa20Poly1305 => TAG + BOUND,
        }
    }
}

/// What a message carries of its nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nonce {
    /// Four random bytes; the counter stands before them.
    Salt([u8; 4]),
    /// All of it, random.
    Whole([u8; 24]),
}

impl Nonce {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Salt(salt) => salt,
            Self::Whole(nonce) => nonce,
        }
    }
}

/// What stands before the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which AEAD; its nonce below is of the kind that it takes.
    pub alg: Alg,
    /// First four bytes of the key's id.
    pub tag: [u8; 4],
    /// Which message of this sender under the key.
    pub counter: u64,
    /// First four bytes of the roster's hash.
    pub hint: [u8; 4],
    /// What is not repeated.
    pub nonce: Nonce,
}

impl Header {
    /// Its 14 to 16 bytes, with a whole nonce 34 to 36.
    pub fn to_bytes(&self) -> Vec<u8> {
        Writer::with_capacity(36)
            .u8(0x30 | self.alg.number())
            .raw(self.tag)
            .leb128(self.counter)
            .raw(self.hint)
            .raw(self.nonce.as_bytes())
            .into_bytes()
    }
}

/// A message that was split into its parts; nothing of it is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What stands before the box.
    pub header: Header,
    /// The box: ciphertext and tag, in the order of its AEAD.
    pub boxed: &'a [u8],
    /// By the sending device's key.
    pub signature: [u8; SIGNATURE],
}

impl<'a> Message<'a> {
    /// Splits a wire message. A counter beyond [`MAX_MESSAGES`] has a shape, and is refused by
    /// whoever has the key.
    ///
    /// # Errors
    /// [`Malformed`]: another version, an AEAD that is none, a counter that is not minimal LEB128,
    /// or fewer bytes than box and signature take.
    pub fn parse(wire: &'a [u8]) -> Result<Self, Malformed> {
        Self::read(wire).map_err(|Short| Malformed)
    }

    fn read(wire: &'a [u8]) -> Result<Self, Short> {
        let mut from = Reader::new(wire);
        let first = from.u8()?;
        let alg = Alg::from_number(first & 0x0f).filter(|_| first >> 4 == 3).ok_or(Short)?;
        let (tag, counter, hint) = (from.array()?, from.leb128()?, from.array()?);
        let nonce = match alg {
            Alg::Aes256Gcm | Alg::ChaCha20Poly1305 => Nonce::Salt(from.array()?),
            Alg::XSalsa20Poly1305 => Nonce::Whole(from.array()?),
        };
        let (boxed, signature) = from.rest().split_last_chunk::<SIGNATURE>().ok_or(Short)?;
        if !(alg.least()..=MAX_PLAINTEXT + alg.least()).contains(&boxed.len()) {
            return Err(Short);
        }
        let header = Header { alg, tag, counter, hint, nonce };
        Ok(Self { header, boxed, signature: *signature })
    }
}

/// What a message is bound to, and does not carry whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The group of the envelope.
    pub group: GroupId,
    /// The sending device.
    pub sender: DeviceId,
    /// The key.
    pub key: SharedKeyId,
    /// The roster that the header's hint means.
    pub roster: RosterHash,
}

impl Context {
    /// The associated data: `cg/shared/aad\0 ‖ u8 alg ‖ be64 counter ‖ salt or nonce ‖ group_id ‖
    /// sender_id ‖ key_id ‖ roster_hash`.
    pub fn aad(&self, header: &Header) -> Vec<u8> {
        Writer::with_capacity(175)
            .raw(b"cg/shared/aad\0")
            .u8(header.alg.number())
            .be64(header.counter)
            .raw(header.nonce.as_bytes())
            .raw(self.group)
            .raw(self.sender)
            .raw(self.key)
            .raw(self.roster)
            .into_bytes()
    }
}

/// From what a sender's own keys under a key are derived: `cg/shared/v2 ‖ u8 alg ‖ group_id ‖ key_id ‖
/// sender_id`.
pub fn sender_info(alg: Alg, group: GroupId, key: SharedKeyId, sender: DeviceId) -> Vec<u8> {
    Writer::with_capacity(109)
        .raw(b"cg/shared/v2")
        .u8(alg.number())
        .raw(group)
        .raw(key)
        .raw(sender)
        .into_bytes()
}

/// `H(AAD)`: what is boxed before the plaintext where the AEAD has no associated data.
pub fn bound(aad: &[u8]) -> [u8; BOUND] {
    hash([aad])
}

/// What the sending device signs: `cg/shared/sign\0 ‖ H(AAD ‖ commit ‖ box)`.
pub fn signed_bytes(aad: &[u8], commit: &[u8; 32], boxed: &[u8]) -> Vec<u8> {
    [b"cg/shared/sign\0".as_slice(), &hash([aad, commit, boxed])].concat()
}

/// A key's id: `H(cg/shared/kid\0 ‖ group_id ‖ be32 epoch ‖ commit_key)`; whoever has the key can
/// say which one it is, and whoever has the id learns nothing of it.
pub fn key_id(group: GroupId, epoch: Epoch, commit_key: &[u8; 32]) -> SharedKeyId {
    let preimage = Writer::with_capacity(83)
        .raw(b"cg/shared/kid\0")
        .raw(group)
        .be32(epoch.0)
        .raw(*commit_key)
        .into_bytes();
    SharedKeyId::new(hash([preimage.as_slice()]))
}

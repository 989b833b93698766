//! The public half of Sender Keys: wire form, associated data, chain ids, covers (protocol §4.1).
//!
//! ```text
//! 0x2S ‖ chain_id[..4] ‖ index LEB128 ‖ roster_hash[..4] ‖ salt 4 ‖ ciphertext ‖ tag 16 ‖ Ed25519 64
//! ```
//! 94 bytes and the plaintext below index 128, else 95. No secret is touched here.

use crate::{
    fields::{Reader, Short, Writer},
    ids::{ChainId, DeviceId, Epoch, GroupId, RosterHash},
    keys::hash,
};

/// Messages of one chain; the leaves of a tree of [`DEPTH`].
pub const LEAVES: u32 = 1 << DEPTH;

/// From the root to a message key.
pub const DEPTH: u8 = 10;

/// Longest plaintext that is sealed, in bytes. An envelope takes less.
pub const MAX_PLAINTEXT: usize = 64 * 1024;

const TAG: usize = 16;
const SIGNATURE: usize = 64;

/// Not a sender-key message: version, suite, lengths or the spelling of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sender-key message")]
pub struct Malformed;

/// What stands before the ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// 1 AES-256-GCM, 2 ChaCha20-Poly1305; 3 and 4, the linear chains, are not built.
    pub suite: u8,
    /// First four bytes of the chain's id.
    pub tag: [u8; 4],
    /// Which message of the chain.
    pub index: u32,
    /// First four bytes of the roster's hash.
    pub hint: [u8; 4],
    /// Random.
    pub salt: [u8; 4],
}

impl Header {
    /// Its 14 bytes, 15 from index 128 on.
    pub fn to_bytes(&self) -> Vec<u8> {
        Writer::with_capacity(17)
            .u8(0x20 | (self.suite & 0x0f))
            .raw(self.tag)
            .leb128(self.index.into())
            .raw(self.hint)
            .raw(self.salt)
            .into_bytes()
    }
}

/// A message that was split into its parts; nothing of it is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What stands before the ciphertext.
    pub header: Header,
    /// Ciphertext and 16 bytes of tag.
    pub sealed: &'a [u8],
    /// By the chain's signing key.
    pub signature: [u8; 64],
}

impl<'a> Message<'a> {
    /// Splits a wire message.
    ///
    /// # Errors
    /// [`Malformed`]: another version, a suite that is none, an index that is not minimal LEB128 or
    /// stands after the end of a chain, or fewer bytes than tag and signature take.
    pub fn parse(wire: &'a [u8]) -> Result<Self, Malformed> {
        Self::read(wire).map_err(|Short| Malformed)
    }

    fn read(wire: &'a [u8]) -> Result<Self, Short> {
        let mut from = Reader::new(wire);
        let first = from.u8()?;
        let suite = first & 0x0f;
        if first >> 4 != 2 || !(1..=4).contains(&suite) {
            return Err(Short);
        }
        let tag = from.array()?;
        let index = u32::try_from(from.leb128()?).map_err(|_| Short)?;
        if suite <= 2 && index >= LEAVES {
            return Err(Short);
        }
        let header = Header { suite, tag, index, hint: from.array()?, salt: from.array()? };
        let (sealed, signature) = from.rest().split_last_chunk::<SIGNATURE>().ok_or(Short)?;
        if !(TAG..=MAX_PLAINTEXT + TAG).contains(&sealed.len()) {
            return Err(Short);
        }
        Ok(Self { header, sealed, signature: *signature })
    }
}

/// What a message is bound to, and does not carry whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The group of the envelope.
    pub group: GroupId,
    /// The sending device.
    pub sender: DeviceId,
    /// The chain.
    pub chain: ChainId,
    /// The roster that the header's hint means.
    pub roster: RosterHash,
}

impl Context {
    /// The associated data, 153 bytes: `cg/senderkey/v2\0 ‖ S ‖ be32 index ‖ salt ‖ group_id ‖
    /// sender_id ‖ chain_id ‖ roster_hash`.
    pub fn aad(&self, header: &Header) -> Vec<u8> {
        Writer::with_capacity(153)
            .raw(b"cg/senderkey/v2\0")
            .u8(header.suite)
            .be32(header.index)
            .raw(header.salt)
            .raw(self.group)
            .raw(self.sender)
            .raw(self.chain)
            .raw(self.roster)
            .into_bytes()
    }
}

/// What the chain's key signs: `cg/sk/v2/sign\0\0\0 ‖ H(AAD ‖ commit ‖ ciphertext ‖ tag)`.
pub fn signed_bytes(aad: &[u8], commit: &[u8; 32], sealed: &[u8]) -> Vec<u8> {
    [b"cg/sk/v2/sign\0\0\0".as_slice(), &hash([aad, commit, sealed])].concat()
}

/// What makes a chain's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainParts {
    /// As in the header.
    pub suite: u8,
    /// The group.
    pub group: GroupId,
    /// The sending device.
    pub sender: DeviceId,
    /// Roster epoch in which the chain was made.
    pub epoch: Epoch,
    /// Public half of the chain's signing key.
    pub sign_pk: [u8; 32],
    /// Random.
    pub rand: [u8; 16],
}

impl ChainParts {
    /// What the id is the hash of: `cg/sk/v2/chain\0\0 ‖ u8 suite ‖ group_id ‖ sender_id ‖
    /// be32 epoch ‖ sign_pk ‖ rand16`.
    pub fn to_bytes(&self) -> Vec<u8> {
        Writer::with_capacity(133)
            .raw(b"cg/sk/v2/chain\0\0")
            .u8(self.suite)
            .raw(self.group)
            .raw(self.sender)
            .be32(self.epoch.0)
            .raw(self.sign_pk)
            .raw(self.rand)
            .into_bytes()
    }

    /// The chain's id.
    pub fn id(&self) -> ChainId {
        ChainId::new(hash([self.to_bytes().as_slice()]))
    }
}

/// Depth and prefix of the fewest nodes that cover the leaves from `start` to the last one,
/// ascending by first leaf; at most ten, and none from the end of the chain on.
pub fn cover(start: u32) -> Vec<(u8, u16)> {
    let mut nodes = Vec::with_capacity(DEPTH.into());
    let mut leaf = start;
    while leaf < LEAVES {
        // The highest node that begins at this leaf: as many levels up as the leaf has low zeros.
        let up = leaf.trailing_zeros().min(DEPTH.into());
        let (Ok(levels), Ok(prefix)) = (u8::try_from(up), u16::try_from(leaf >> up)) else { break };
        nodes.push((DEPTH - levels, prefix));
        leaf += 1 << up;
    }
    nodes
}

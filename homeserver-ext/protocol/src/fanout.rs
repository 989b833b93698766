//! The public half of a fan-out: wire form, associated data, what a piece is bound to (protocol §5.1).
//!
//! ```text
//! 0x20 ‖ be16 shard ‖ be16 shards ‖ msg_id 16 ‖ roster_hash 32 ‖ kc 32 ‖ ciphertext ‖ tag 16
//! ```
//! 101 bytes and the plaintext. The key travels in each recipient's piece, over Olm; no secret is kept
//! here.

use sha2::{Digest as _, Sha256};

use crate::{
    fields::{Reader, Short, Writer},
    ids::{ClientId, DeviceId, Epoch, GroupId, RosterHash},
    keys::hash,
};

/// Bytes before the ciphertext.
pub const HEADER: usize = 85;

/// Bytes behind it.
pub const TAG: usize = 16;

const VERSION: u8 = 0x20;

/// Not a fan-out message: version, place among the shards, or length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a fan-out message")]
pub struct Malformed;

/// What stands before the ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which of the events that carry one ciphertext to different recipients.
    pub shard: u16,
    /// How many there are.
    pub shards: u16,
    /// The plaintext's `client_id`.
    pub msg_id: ClientId,
    /// The roster of the envelope's epoch.
    pub roster: RosterHash,
    /// What the key is committed to by ([`commitment`]).
    pub kc: [u8; 32],
}

impl Header {
    /// Its 85 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        Writer::with_capacity(HEADER)
            .u8(VERSION)
            .be16(self.shard)
            .be16(self.shards)
            .raw(self.msg_id)
            .raw(self.roster)
            .raw(self.kc)
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
}

impl<'a> Message<'a> {
    /// Splits a payload.
    ///
    /// # Errors
    /// [`Malformed`]: another version, a shard that is not among them, or too short for a tag.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        Self::read(payload).map_err(|Short| Malformed)
    }

    fn read(payload: &'a [u8]) -> Result<Self, Short> {
        let mut from = Reader::new(payload);
        if from.u8()? != VERSION {
            return Err(Short);
        }
        let header = Header {
            shard: from.be16()?,
            shards: from.be16()?,
            msg_id: ClientId::new(from.array()?),
            roster: RosterHash::new(from.array()?),
            kc: from.array()?,
        };
        let sealed = from.rest();
        if header.shard >= header.shards || sealed.len() < TAG {
            return Err(Short);
        }
        Ok(Self { header, sealed })
    }
}

/// What a message is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The group of the envelope.
    pub group: GroupId,
    /// The sending device.
    pub sender: DeviceId,
    /// The epoch of the envelope.
    pub epoch: Epoch,
    /// The roster of that epoch.
    pub roster: RosterHash,
    /// The plaintext's `client_id`.
    pub msg_id: ClientId,
}

impl Context {
    /// The associated data, 129 bytes: `cg/fanout/v2\0 ‖ group_id ‖ sender_id ‖ be32 epoch ‖
    /// roster_hash ‖ msg_id`.
    pub fn aad(&self) -> Vec<u8> {
        Writer::with_capacity(129)
            .raw(b"cg/fanout/v2\0")
            .raw(self.group)
            .raw(self.sender)
            .be32(self.epoch.0)
            .raw(self.roster)
            .raw(self.msg_id)
            .into_bytes()
    }

    /// What stands beside the key in the piece of `recipient`: the hash of `ciphertext ‖ tag ‖ kc ‖
    /// group_id ‖ sender_id ‖ recipient_id ‖ msg_id ‖ roster_hash`.
    pub fn binding(&self, sealed: &[u8], kc: &[u8; 32], recipient: &DeviceId) -> [u8; 32] {
        self.bindings(sealed, kc).of(recipient)
    }

    /// The [`binding`](Self::binding) of each of several recipients, the ciphertext hashed once.
    pub fn bindings(&self, sealed: &[u8], kc: &[u8; 32]) -> Bindings {
        let hashed = Sha256::new()
            .chain_update(sealed)
            .chain_update(kc)
            .chain_update(self.group.as_bytes())
            .chain_update(self.sender.as_bytes());
        Bindings { hashed, msg_id: self.msg_id, roster: self.roster }
    }
}

/// What the bindings of one message begin with.
pub struct Bindings {
    hashed: Sha256,
    msg_id: ClientId,
    roster: RosterHash,
}

impl Bindings {
    /// That of this recipient.
    pub fn of(&self, recipient: &DeviceId) -> [u8; 32] {
        self.hashed
            .clone()
            .chain_update(recipient.as_bytes())
            .chain_update(self.msg_id.as_bytes())
            .chain_update(self.roster.as_bytes())
            .finalize()
            .into()
    }
}

/// kc, by which all who open an event know that they have one key: H(`cg/fanout/kc` ‖ key).
pub fn commitment(key: &[u8; 32]) -> [u8; 32] {
    hash([b"cg/fanout/kc".as_slice(), key])
}

//! One op: its bytes, its fields, and how a signer makes it.
//!
//! `core ‖ certificate 64 ‖ signature 64`; core is 186 bytes and the body (protocol §3.2).

use super::{
    body::{Body, Create},
    invalid::Invalid,
    kind::Kind,
};
use crate::{
    device::{DeviceOf, DeviceRecord},
    fields::{Reader, Short, TooLong, Writer},
    ids::{CurveKey, DeviceId, Epoch, GroupId, MemberId, OpHash, RosterHash, Signature, Timestamp},
    keys::{hash, label, signed_bytes},
};

/// Longest op, in bytes: it must fit an envelope.
pub const MAX_OP: usize = 45_000;

const DOMAIN: &[u8] = b"cg/op/v2\0";
/// Bytes of a core without its body.
const CORE_BEFORE_BODY: usize = 186;
/// Bytes of certificate and signature.
const SEALS: usize = 128;

/// What is signed of an op.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpCore {
    /// Which op.
    pub kind: Kind,
    /// Of which group.
    pub group: GroupId,
    /// The epoch that it makes.
    pub epoch: Epoch,
    /// Roster hash of the epoch before; zeros for `create`.
    pub prev: RosterHash,
    /// Identity key of the signer's account.
    pub signer_member: MemberId,
    /// The device that signs; the identity key itself where that signs a `devices` op.
    pub signer_device: DeviceId,
    /// The device's Olm key, which the certificate covers; zeros where the identity key signs.
    pub signer_curve25519: CurveKey,
    /// When it was made, by the signer's clock; nothing depends on it.
    pub created_ms: Timestamp,
    /// As [`Body::to_bytes`] writes it.
    pub body: Vec<u8>,
}

impl OpCore {
    /// The op by which `signer` begins a group.
    ///
    /// # Errors
    /// [`TooLong`]: a string or list does not fit its length field.
    pub fn create(
        signer: &DeviceRecord,
        created_ms: Timestamp,
        create: Create,
    ) -> Result<Self, TooLong> {
        let body = Body::Create(create).to_bytes()?;
        Ok(Self {
            kind: Kind::Create,
            group: group_id(&signer.member_id, &body),
            epoch: Epoch(0),
            prev: RosterHash::new([0; 32]),
            signer_member: signer.member_id,
            signer_device: signer.device_id,
            signer_curve25519: signer.curve25519,
            created_ms,
            body,
        })
    }

    /// Its bytes.
    ///
    /// # Errors
    /// [`TooLong`]: the body does not fit its length field.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TooLong> {
        let len = u32::try_from(self.body.len()).map_err(|_| TooLong)?;
        Writer::with_capacity(CORE_BEFORE_BODY + self.body.len() + SEALS)
            .raw(DOMAIN)
            .u8(self.kind as u8)
            .raw(self.group)
            .be32(self.epoch.0)
            .raw(self.prev)
            .raw(self.signer_member)
            .raw(self.signer_device)
            .raw(self.signer_curve25519)
            .be64(self.created_ms.0)
            .be32(len)
            .raw(&self.body)
            .finish()
    }

    /// What the device (or the identity key) signs: `cg/opsig/v2 ‖ 0 ‖ core`.
    ///
    /// # Errors
    /// As [`OpCore::to_bytes`].
    pub fn signed_bytes(&self) -> Result<Vec<u8>, TooLong> {
        Ok(signed_bytes(label::OP, &self.to_bytes()?))
    }

    /// The op: this core, the signer's certificate (zeros for an identity key) and the signature.
    ///
    /// # Errors
    /// As [`OpCore::to_bytes`].
    pub fn sealed(self, certificate: Signature, signature: Signature) -> Result<Op, TooLong> {
        let mut bytes = self.to_bytes()?;
        let hash = OpHash::new(hash([bytes.as_slice()]));
        bytes.extend_from_slice(certificate.as_bytes());
        bytes.extend_from_slice(signature.as_bytes());
        Ok(Op { core: self, certificate, signature, hash, bytes })
    }
}

/// An op of the right form; whether it is valid only its `prev` can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    core: OpCore,
    certificate: Signature,
    signature: Signature,
    hash: OpHash,
    bytes: Vec<u8>,
}

impl Op {
    /// Step 1 of validity: domain tag, exact lengths, size, kind.
    ///
    /// # Errors
    /// [`Invalid`] of step 1.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        if !bytes.starts_with(DOMAIN) {
            return Err(Invalid::BadDomain);
        }
        let core_len = core_len(bytes).map_err(|Short| Invalid::BadLength)?;
        if bytes.len() > MAX_OP {
            return Err(Invalid::TooLarge);
        }
        let number = bytes.get(DOMAIN.len()).copied();
        let kind = number.and_then(Kind::from_number).ok_or(Invalid::UnknownKind)?;
        Self::read(kind, bytes, core_len).map_err(|Short| Invalid::BadLength)
    }

    fn read(kind: Kind, bytes: &[u8], core_len: usize) -> Result<Self, Short> {
        let mut from = Reader::new(bytes);
        let core = read_core(kind, &mut from, core_len)?;
        let certificate = Signature::new(from.array()?);
        let signature = Signature::new(from.array()?);
        let hash = OpHash::new(hash(bytes.get(..core_len)));
        Ok(Self { core, certificate, signature, hash, bytes: bytes.to_vec() })
    }

    /// What was signed.
    pub const fn core(&self) -> &OpCore {
        &self.core
    }

    /// Which op.
    pub const fn kind(&self) -> Kind {
        self.core.kind
    }

    /// Of which group.
    pub const fn group(&self) -> GroupId {
        self.core.group
    }

    /// The epoch that it makes.
    pub const fn epoch(&self) -> Epoch {
        self.core.epoch
    }

    /// The roster that it changes.
    pub const fn prev(&self) -> RosterHash {
        self.core.prev
    }

    /// Who signed it: member and device.
    pub const fn signer(&self) -> DeviceOf {
        DeviceOf { member_id: self.core.signer_member, device_id: self.core.signer_device }
    }

    /// Whether the account's identity key signed instead of a device.
    pub fn is_by_identity(&self) -> bool {
        self.core.signer_member.as_bytes() == self.core.signer_device.as_bytes()
    }

    /// H(core): two ops are the same iff this is.
    pub const fn hash(&self) -> OpHash {
        self.hash
    }

    /// The whole op, as it travels.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Fields of its body.
    ///
    /// # Errors
    /// [`Invalid`] of step 5.
    pub fn body(&self) -> Result<Body, Invalid> {
        Body::parse(self.core.kind, &self.core.body)
    }

    pub(super) const fn certificate(&self) -> &Signature {
        &self.certificate
    }

    pub(super) const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What `signature` is over.
    pub(super) fn signed_bytes(&self) -> Vec<u8> {
        let core = self.bytes.get(..self.bytes.len().saturating_sub(SEALS)).unwrap_or_default();
        signed_bytes(label::OP, core)
    }
}

/// Bytes before certificate and signature, where the op is exactly as long as its body says.
fn core_len(bytes: &[u8]) -> Result<usize, Short> {
    let mut from = Reader::new(bytes);
    from.take(CORE_BEFORE_BODY - 4)?;
    let body = usize::try_from(from.be32()?).map_err(|_| Short)?;
    if from.rest().len().checked_sub(body) == Some(SEALS) {
        Ok(CORE_BEFORE_BODY + body)
    } else {
        Err(Short)
    }
}

/// A core whose lengths were checked; its kind was read before.
fn read_core(kind: Kind, from: &mut Reader<'_>, core_len: usize) -> Result<OpCore, Short> {
    from.take(DOMAIN.len() + 1)?;
    Ok(OpCore {
        kind,
        group: GroupId::new(from.array()?),
        epoch: Epoch(from.be32()?),
        prev: RosterHash::new(from.array()?),
        signer_member: MemberId::new(from.array()?),
        signer_device: DeviceId::new(from.array()?),
        signer_curve25519: CurveKey::new(from.array()?),
        created_ms: Timestamp(from.be64()?),
        body: {
            from.be32()?;
            from.take(core_len - CORE_BEFORE_BODY)?.to_vec()
        },
    })
}

/// `H("cg/group/v2\0" ‖ signer member_id ‖ create body)`.
pub(super) fn group_id(signer: &MemberId, create_body: &[u8]) -> GroupId {
    GroupId::new(hash([b"cg/group/v2\0".as_slice(), signer.as_bytes(), create_body]))
}

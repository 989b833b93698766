//! The request of one who holds a link, and how a server judges it.
//!
//! `g ‖ ik_pub ‖ member_id ‖ device_id ‖ curve25519 ‖ certificate ‖ be64 now ‖ str8 account ‖ devices`,
//! then 64 bytes by the invite's key and 64 by the device.

use crate::{
    device::{DeviceOf, verify_certificate},
    fields::{Reader, Short, TooLong, Writer},
    ids::{
        AccountId, CurveKey, DeviceId, GroupId, InviteKey, MemberId, RequestId, Signature,
        Timestamp,
    },
    keys::{hash, label, signed_bytes, verify_bytes},
    roster::Devices,
};

/// How far the request's clock may be from the server's: 5 minutes.
pub const MAX_CLOCK_SKEW_MS: u64 = 300_000;

/// A request to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The group.
    pub group: GroupId,
    /// Public half of the invite's key.
    pub ik_pub: InviteKey,
    /// Identity and device of who wants in.
    pub device: DeviceOf,
    /// The device's Olm key.
    pub curve25519: CurveKey,
    /// By the identity over the device.
    pub certificate: Signature,
    /// When it was made, by the device's clock.
    pub now: Timestamp,
    /// The account; is one as protocol §1 has it only after [`Join::judge`].
    pub account: String,
    /// The account's device list.
    pub devices: Devices,
    /// By the invite's key; zeros before it is signed.
    pub ik_signature: Signature,
    /// By the device; zeros before it is signed.
    pub device_signature: Signature,
}

/// What a server knows of an invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteFacts {
    /// The group that it is for.
    pub group: GroupId,
    /// Its key.
    pub ik_pub: InviteKey,
    /// Good while now is not above this.
    pub expires: Timestamp,
    /// Whether it was taken back.
    pub revoked: bool,
    /// How often it can still be used.
    pub uses_left: u32,
}

/// Why a request is refused: the first thing that is wrong, in this order.
///
/// Whoever has not shown that he holds the link is told nothing: to [`JoinRefused::Malformed`] and
/// [`JoinRefused::Stranger`] the server gives the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum JoinRefused {
    /// Not a request of this form.
    #[error("malformed")]
    Malformed,
    /// No such invite, or not signed by its key.
    #[error("stranger")]
    Stranger,
    /// The invite is for another group.
    #[error("wrong_group")]
    WrongGroup,
    /// Not signed by the device.
    #[error("bad_device_signature")]
    BadDeviceSignature,
    /// The certificate is not by the identity over this device.
    #[error("bad_certificate")]
    BadCertificate,
    /// The device list lacks the device that asks.
    #[error("device_not_listed")]
    DeviceNotListed,
    /// Not an account's name.
    #[error("bad_account")]
    BadAccount,
    /// Made more than 5 minutes from the server's clock.
    #[error("stale_now")]
    StaleNow,
    /// The invite's time is over.
    #[error("expired")]
    Expired,
    /// The invite was taken back.
    #[error("revoked")]
    Revoked,
    /// The invite has no use left.
    #[error("used")]
    Used,
}

impl JoinRefused {
    /// Whether the asker may be told this reason.
    pub const fn may_be_told(self) -> bool {
        !matches!(self, Self::Malformed | Self::Stranger)
    }
}

impl Join {
    /// The request, without signatures.
    ///
    /// # Errors
    /// [`TooLong`]: account or device list do not fit their length fields.
    pub fn request_bytes(&self) -> Result<Vec<u8>, TooLong> {
        Writer::with_capacity(512)
            .raw(self.group)
            .raw(self.ik_pub)
            .raw(self.device.member_id)
            .raw(self.device.device_id)
            .raw(self.curve25519)
            .raw(self.certificate)
            .be64(self.now.0)
            .str8(&self.account)
            .be32(self.devices.version)
            .count16(self.devices.ids.len())
            .names(&self.devices.ids)
            .finish()
    }

    /// What the invite's key signs: `cg/join/ik/v2 ‖ 0 ‖ request`.
    ///
    /// # Errors
    /// As [`Join::request_bytes`].
    pub fn signed_by_invite(&self) -> Result<Vec<u8>, TooLong> {
        Ok(signed_bytes(label::JOIN_BY_INVITE, &self.request_bytes()?))
    }

    /// What the device signs: `cg/join/v2 ‖ 0 ‖ request`.
    ///
    /// # Errors
    /// As [`Join::request_bytes`].
    pub fn signed_by_device(&self) -> Result<Vec<u8>, TooLong> {
        Ok(signed_bytes(label::JOIN, &self.request_bytes()?))
    }

    /// The request and its two signatures.
    ///
    /// # Errors
    /// As [`Join::request_bytes`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, TooLong> {
        let mut bytes = self.request_bytes()?;
        bytes.extend_from_slice(self.ik_signature.as_bytes());
        bytes.extend_from_slice(self.device_signature.as_bytes());
        Ok(bytes)
    }

    /// Reads a request of exactly the length that its fields say.
    ///
    /// # Errors
    /// [`JoinRefused::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, JoinRefused> {
        Self::read(bytes).map_err(|Short| JoinRefused::Malformed)
    }

    fn read(bytes: &[u8]) -> Result<Self, Short> {
        let mut from = Reader::new(bytes);
        let join = Self {
            group: GroupId::new(from.array()?),
            ik_pub: InviteKey::new(from.array()?),
            device: DeviceOf {
                member_id: MemberId::new(from.array()?),
                device_id: DeviceId::new(from.array()?),
            },
            curve25519: CurveKey::new(from.array()?),
            certificate: Signature::new(from.array()?),
            now: Timestamp(from.be64()?),
            account: std::str::from_utf8(from.str8()?).map_err(|_| Short)?.to_owned(),
            devices: Devices {
                version: from.be32()?,
                ids: {
                    let count = from.be16()?;
                    let id = |_| from.array().map(DeviceId::new);
                    (0..count).map(id).collect::<Result<_, _>>()?
                },
            },
            ik_signature: Signature::new(from.array()?),
            device_signature: Signature::new(from.array()?),
        };
        if from.rest().is_empty() { Ok(join) } else { Err(Short) }
    }

    /// Names the request: the first 16 bytes of H(request), signatures aside.
    ///
    /// # Errors
    /// As [`Join::request_bytes`].
    pub fn id(&self) -> Result<RequestId, TooLong> {
        let hash = hash([self.request_bytes()?.as_slice()]);
        let (id, _) = hash.split_first_chunk().ok_or(TooLong)?;
        Ok(RequestId::new(*id))
    }

    /// How the server judges: `invite` is what it has under the request's key, `now` its clock.
    ///
    /// # Errors
    /// [`JoinRefused`], by what is wrong first.
    pub fn judge(&self, invite: Option<&InviteFacts>, now: Timestamp) -> Result<(), JoinRefused> {
        let invite = invite.ok_or(JoinRefused::Stranger)?;
        self.check_signed(invite.group, &invite.ik_pub)?;
        if self.now.0.abs_diff(now.0) > MAX_CLOCK_SKEW_MS {
            return Err(JoinRefused::StaleNow);
        }
        if now > invite.expires {
            return Err(JoinRefused::Expired);
        }
        if invite.revoked {
            return Err(JoinRefused::Revoked);
        }
        if invite.uses_left == 0 { Err(JoinRefused::Used) } else { Ok(()) }
    }

    /// What server and link holder both check: signatures, certificate, device, account.
    pub(super) fn check_signed(
        &self,
        group: GroupId,
        ik_pub: &InviteKey,
    ) -> Result<AccountId, JoinRefused> {
        let request = self.request_bytes().map_err(|_| JoinRefused::Malformed)?;
        let by_invite = signed_bytes(label::JOIN_BY_INVITE, &request);
        let is_holder =
            self.ik_pub == *ik_pub && verify_bytes(ik_pub, &by_invite, self.ik_signature).is_ok();
        if !is_holder {
            return Err(JoinRefused::Stranger);
        }
        if self.group != group {
            return Err(JoinRefused::WrongGroup);
        }
        let by_device = signed_bytes(label::JOIN, &request);
        verify_bytes(self.device.device_id, &by_device, self.device_signature)
            .map_err(|_| JoinRefused::BadDeviceSignature)?;
        verify_certificate(&self.device, &self.curve25519, &self.certificate)
            .map_err(|_| JoinRefused::BadCertificate)?;
        if !self.devices.ids.contains(&self.device.device_id) {
            return Err(JoinRefused::DeviceNotListed);
        }
        self.account.parse().map_err(|_| JoinRefused::BadAccount)
    }
}

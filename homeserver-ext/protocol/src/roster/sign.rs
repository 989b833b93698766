//! The ops that a signer puts on a group's head: all but `create`, which has none before it.

use super::{
    body::{Body, Devices},
    kind::Kind,
    op::OpCore,
    state::Roster,
};
use crate::{
    device::DeviceRecord,
    fields::TooLong,
    ids::{CurveKey, DeviceId, MemberId, Timestamp},
};

impl OpCore {
    /// The op by which `signer` changes the group whose head is `head`.
    ///
    /// # Errors
    /// [`TooLong`]: a string or list does not fit its length field, or the epochs are used up.
    pub fn next(
        head: &Roster,
        signer: &DeviceRecord,
        created_ms: Timestamp,
        body: &Body,
    ) -> Result<Self, TooLong> {
        Ok(Self {
            kind: body.kind(),
            group: head.group(),
            epoch: head.epoch().next().ok_or(TooLong)?,
            prev: head.hash(),
            signer_member: signer.member_id,
            signer_device: signer.device_id,
            signer_curve25519: signer.curve25519,
            created_ms,
            body: body.to_bytes()?,
        })
    }

    /// The `devices` op that an identity key signs itself, with which lost devices are taken out.
    ///
    /// # Errors
    /// As [`OpCore::next`].
    pub fn by_identity(
        head: &Roster,
        member_id: MemberId,
        created_ms: Timestamp,
        devices: Devices,
    ) -> Result<Self, TooLong> {
        Ok(Self {
            kind: Kind::Devices,
            group: head.group(),
            epoch: head.epoch().next().ok_or(TooLong)?,
            prev: head.hash(),
            signer_member: member_id,
            signer_device: DeviceId::new(*member_id.as_bytes()),
            signer_curve25519: CurveKey::new([0; 32]),
            created_ms,
            body: Body::Devices(devices).to_bytes()?,
        })
    }
}

//! Devices as everyone sees them: records, certificates, lists, one-time keys (protocol §1).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    fields::Writer,
    ids::{AccountId, CurveKey, DeviceId, KeyId, MemberId, Nonce, Signature, Timestamp},
    keys::{check_curve25519, label, signed_bytes, verify_bytes},
};

/// One device of an account, said by itself and by the account's identity key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceRecord {
    /// The account's identity key.
    pub member_id: MemberId,
    /// The device's own key.
    pub device_id: DeviceId,
    /// Its Olm identity key.
    pub curve25519: CurveKey,
    /// By the device key, label `cg/device/v2`.
    pub signature: Signature,
    /// By the identity key, label `cg/devcert/v2`.
    pub certificate: Signature,
}

/// All devices of an account, signed by its identity key (label `cg/devlist/v2`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceList {
    /// Whose.
    pub account: AccountId,
    /// Identity key that signs it.
    pub member_id: MemberId,
    /// From 1, never back.
    pub version: u32,
    /// When it was made.
    pub created_ms: Timestamp,
    /// Sorted, without duplicates, at least one.
    pub devices: Vec<DeviceId>,
    /// By the identity key.
    pub signature: Signature,
}

/// A key that opens one Olm session, signed by its device (label `cg/otk/v2`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OneTimeKey {
    /// Its number: those of a device's one-time keys rise, its fallback keys are counted apart.
    pub key_id: KeyId,
    /// Whether it is the fallback key, handed out when the others are gone.
    pub fallback: bool,
    /// The key.
    pub curve25519: CurveKey,
    /// By the device key.
    pub signature: Signature,
}

/// One device and the account's identity that it acts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceOf {
    /// The account's identity key.
    pub member_id: MemberId,
    /// The device's own key.
    pub device_id: DeviceId,
}

/// Why what an account or its device says of itself is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// The device's own signature.
    #[error("device record does not verify")]
    Record,
    /// The identity's signature under a device.
    #[error("certificate does not verify")]
    Certificate,
    /// The identity's signature under its list.
    #[error("device list does not verify")]
    List,
    /// Empty, not sorted, with duplicates, more than 65,535, or of version 0.
    #[error("device list is not well-formed")]
    Form,
    /// Records that are not, one for one, those of the list.
    #[error("device records are not those of the list")]
    Records,
    /// The device's signature under a one-time or fallback key.
    #[error("one-time key does not verify")]
    OneTimeKey,
    /// The device's signature under a login.
    #[error("login does not verify")]
    Login,
    /// A Curve25519 key of small order or misspelt.
    #[error("Curve25519 key is of small order or misspelt")]
    CurveKey,
}

impl DeviceRecord {
    /// Which device, and whose.
    pub const fn device(&self) -> DeviceOf {
        DeviceOf { member_id: self.member_id, device_id: self.device_id }
    }

    /// What the device signs: `cg/device/v2 ‖ 0 ‖ member_id ‖ device_id ‖ curve25519`.
    pub fn record_bytes(device: &DeviceOf, curve25519: &CurveKey) -> Vec<u8> {
        signed_bytes(label::DEVICE, &triple(device, curve25519))
    }

    /// What the identity signs: `cg/devcert/v2 ‖ 0 ‖ member_id ‖ device_id ‖ curve25519`.
    pub fn certificate_bytes(device: &DeviceOf, curve25519: &CurveKey) -> Vec<u8> {
        signed_bytes(label::CERTIFICATE, &triple(device, curve25519))
    }

    /// Checks both signatures and the Curve25519 key.
    ///
    /// # Errors
    /// [`Untrusted::CurveKey`], [`Untrusted::Record`], [`Untrusted::Certificate`].
    pub fn verify(&self) -> Result<(), Untrusted> {
        let (device, curve) = (self.device(), &self.curve25519);
        check_curve25519(curve).map_err(|_| Untrusted::CurveKey)?;
        verify_bytes(self.device_id, &Self::record_bytes(&device, curve), self.signature)
            .map_err(|_| Untrusted::Record)?;
        verify_certificate(&device, curve, &self.certificate)
    }
}

/// Checks an identity's certificate for one of its devices.
///
/// # Errors
/// [`Untrusted::Certificate`].
pub fn verify_certificate(
    device: &DeviceOf,
    curve25519: &CurveKey,
    certificate: &Signature,
) -> Result<(), Untrusted> {
    let bytes = DeviceRecord::certificate_bytes(device, curve25519);
    verify_bytes(device.member_id, &bytes, certificate).map_err(|_| Untrusted::Certificate)
}

impl DeviceList {
    /// What the identity signs: `cg/devlist/v2 ‖ 0 ‖ member_id ‖ str8 account ‖ be32 version ‖
    /// be64 created_ms ‖ be16 n ‖ n sorted device_ids`.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let fields = Writer::new()
            .raw(self.member_id)
            .str8(self.account.as_str())
            .be32(self.version)
            .be64(self.created_ms.0)
            .count16(self.devices.len())
            .names(&self.devices);
        signed_bytes(label::DEVICE_LIST, &fields.into_bytes())
    }

    /// Checks form and signature.
    ///
    /// # Errors
    /// [`Untrusted::Form`], [`Untrusted::List`].
    pub fn verify(&self) -> Result<(), Untrusted> {
        let counted = (1..=usize::from(u16::MAX)).contains(&self.devices.len());
        if self.version == 0 || !counted || !self.devices.is_sorted_by(|a, b| a < b) {
            return Err(Untrusted::Form);
        }
        verify_bytes(self.member_id, &self.signed_bytes(), self.signature)
            .map_err(|_| Untrusted::List)
    }
}

/// Checks a list and the records of its devices, one for one and in its order.
///
/// # Errors
/// [`Untrusted`], by what is wrong first: the list, then each record.
pub fn verify_account(list: &DeviceList, records: &[DeviceRecord]) -> Result<(), Untrusted> {
    list.verify()?;
    let listed = list.devices.iter().map(|id| (list.member_id, *id));
    if !listed.eq(records.iter().map(|record| (record.member_id, record.device_id))) {
        return Err(Untrusted::Records);
    }
    records.iter().try_for_each(DeviceRecord::verify)
}

impl OneTimeKey {
    /// What the device signs: `cg/otk/v2 ‖ 0 ‖ device_id ‖ u8 fallback ‖ be64 key_id ‖ curve25519`.
    pub fn signed_bytes(&self, device: &DeviceId) -> Vec<u8> {
        let fields = Writer::new()
            .raw(device)
            .u8(self.fallback.into())
            .raw(self.key_id)
            .raw(self.curve25519);
        signed_bytes(label::ONE_TIME_KEY, &fields.into_bytes())
    }

    /// Checks that `device` offers this key, and that it is a usable one.
    ///
    /// # Errors
    /// [`Untrusted::CurveKey`], [`Untrusted::OneTimeKey`].
    pub fn verify(&self, device: &DeviceId) -> Result<(), Untrusted> {
        check_curve25519(&self.curve25519).map_err(|_| Untrusted::CurveKey)?;
        verify_bytes(device, &self.signed_bytes(device), self.signature)
            .map_err(|_| Untrusted::OneTimeKey)
    }
}

/// What a device signs to log in: `cg/login/v2 ‖ 0 ‖ str8 server ‖ device_id ‖ nonce`.
pub fn login_bytes(server: &str, device: &DeviceId, nonce: &Nonce) -> Vec<u8> {
    let fields = Writer::new().str8(server).raw(device).raw(nonce);
    signed_bytes(label::LOGIN, &fields.into_bytes())
}

/// Checks the signature of a login at `server`; whether the nonce is fresh is the server's to know.
///
/// # Errors
/// [`Untrusted::Login`].
pub fn verify_login(
    server: &str,
    device: &DeviceId,
    nonce: &Nonce,
    signature: &Signature,
) -> Result<(), Untrusted> {
    verify_bytes(device, &login_bytes(server, device, nonce), signature)
        .map_err(|_| Untrusted::Login)
}

fn triple(device: &DeviceOf, curve25519: &CurveKey) -> Vec<u8> {
    Writer::new().raw(device.member_id).raw(device.device_id).raw(curve25519).into_bytes()
}

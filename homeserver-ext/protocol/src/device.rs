//! Devices as everyone sees them: records, certificates, lists, one-time keys (protocol §1).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{AccountId, CurveKey, DeviceId, KeyId, MemberId, Signature, Timestamp};

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
    /// Its number, unique per device.
    pub key_id: KeyId,
    /// Whether it is the fallback key, handed out when the others are gone.
    pub fallback: bool,
    /// The key.
    pub curve25519: CurveKey,
    /// By the device key.
    pub signature: Signature,
}

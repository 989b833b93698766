//! Accounts, sessions, devices, one-time keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    device::{DeviceList, DeviceRecord, OneTimeKey},
    ids::{AccountId, DeviceId, Nonce, Signature},
};

/// Devices that an account has had and that are shown of it.
pub const MAX_FORMER: usize = 32;

/// Body of `POST register`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct RegisterRequest {
    /// A registration token, where the policy asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The account's first device list: version 1, naming just `device`.
    pub list: DeviceList,
    /// The account's first device.
    pub device: DeviceRecord,
    /// Keys that let others open Olm sessions with it.
    pub one_time_keys: Vec<OneTimeKey>,
    /// Handed out when the others are gone.
    pub fallback_key: OneTimeKey,
}

/// Answer to `POST register` and `POST login`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Who is logged in.
    pub account: AccountId,
    /// With which device.
    pub device_id: DeviceId,
    /// Bearer token, 32 bytes in base64url; the server keeps only its hash.
    pub access_token: String,
}

/// Answer to `POST login/nonce`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginNonce {
    /// To be signed once, within 60 s.
    pub nonce: Nonce,
}

/// Body of `POST login`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginRequest {
    /// Who logs in.
    pub device_id: DeviceId,
    /// The nonce that the server gave.
    pub nonce: Nonce,
    /// By the device, label `cg/login/v2`.
    pub signature: Signature,
}

/// Body of `PUT account/devices`, and answer to `GET recover`: the newest list and the records of the
/// devices that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountDevices {
    /// The newest list.
    pub list: DeviceList,
    /// One for each device of the list, in its order.
    pub devices: Vec<DeviceRecord>,
}

/// Answer to `GET accounts/{account}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountAnswer {
    /// The newest list.
    pub list: DeviceList,
    /// One for each device of the list, in its order.
    pub devices: Vec<DeviceRecord>,
    /// Records of devices that the same identity has taken off its list, at most [`MAX_FORMER`], those
    /// that came last first: what they said while they were on it may still wait somewhere.
    #[serde(default, deserialize_with = "crate::json::or_default")]
    #[schema(nullable)]
    pub former: Vec<DeviceRecord>,
}

impl From<AccountDevices> for AccountAnswer {
    fn from(newest: AccountDevices) -> Self {
        let AccountDevices { list, devices } = newest;
        Self { list, devices, former: Vec::new() }
    }
}

impl From<AccountAnswer> for AccountDevices {
    fn from(answer: AccountAnswer) -> Self {
        let AccountAnswer { list, devices, .. } = answer;
        Self { list, devices }
    }
}

/// Body of `POST keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadKeys {
    /// New ones; a key that the server has is taken as the same.
    #[serde(default, deserialize_with = "crate::json::or_default")]
    #[schema(nullable)]
    pub one_time_keys: Vec<OneTimeKey>,
    /// Replaces the former one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_key: Option<OneTimeKey>,
    /// Whether all one-time keys that nobody has claimed are withdrawn first: the device has lost
    /// what belongs to them.
    #[serde(
        default,
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    #[schema(nullable)]
    pub replace: bool,
}

/// Answer to `POST keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyCount {
    /// Unclaimed one-time keys of the caller's device.
    pub one_time_keys: u32,
}

/// Body of `POST keys/claim`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClaimRequest {
    /// At most 1,000.
    pub devices: Vec<DeviceId>,
}

/// Answer to `POST keys/claim`: devices without any key, and unknown ones, are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClaimedKeys {
    /// One key for each device; each one-time key is given once.
    pub keys: BTreeMap<DeviceId, OneTimeKey>,
}

//! Requests and answers of the native API, `/_causeway/native/v1/…` (protocol §8), as server and
//! SDK both use them. `docs/openapi.json` is made from these.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    device::{DeviceList, DeviceRecord, OneTimeKey},
    envelope::{Envelope, Submission},
    ids::{
        AccountId, DeviceId, EnvelopeId, Epoch, GroupId, InviteKey, MemberId, Nonce, RequestId,
        RosterHash, Seq, Signature, Timestamp, base64url,
    },
};

/// Where every route of this API begins.
pub const PREFIX: &str = "/_causeway/native/v1";

/// Answer to `GET server`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerInfo {
    /// Its name, the part of its accounts after the colon.
    pub server: String,
    /// The account that bridges groups into Matrix rooms, if there is one.
    pub bridge: Option<BridgeInfo>,
    /// Who may register.
    pub registration: Registration,
    /// What it takes.
    pub limits: Limits,
}

/// The server's bridge, to be shown before it is let into a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BridgeInfo {
    /// Its account.
    pub account: AccountId,
    /// Its identity key.
    pub member_id: MemberId,
    /// First 24 digits of the identity's fingerprint in groups of four: for people to compare.
    pub fingerprint: String,
}

/// Who may register an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Nobody.
    Closed,
    /// Whoever has a registration token.
    Token,
    /// Everybody.
    Open,
}

/// What the server takes; more is refused with 413 or 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// Bytes of one payload.
    pub max_payload_bytes: u32,
    /// Envelopes of one POST.
    pub max_envelopes: u32,
    /// Bytes of one POST.
    pub max_body_bytes: u32,
    /// Longest a message is kept, and the default.
    pub max_ttl_ms: u64,
    /// One-time keys kept for one device.
    pub max_one_time_keys: u32,
}

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

/// Answer to `GET accounts/{account}`, and body of `PUT account/devices`: the newest list and the
/// records of the devices that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountDevices {
    /// The newest list.
    pub list: DeviceList,
    /// One for each device of the list, in its order.
    pub devices: Vec<DeviceRecord>,
}

/// Body of `POST keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadKeys {
    /// New ones; a key that the server has is taken as the same.
    #[serde(default)]
    pub one_time_keys: Vec<OneTimeKey>,
    /// Replaces the former one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_key: Option<OneTimeKey>,
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

/// Body of `POST groups` and `POST groups/{id}/roster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PostOp {
    /// `core ‖ certificate ‖ signature`, protocol §3.2.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub op: Vec<u8>,
}

/// Where a group stands; answer to `POST groups`, `POST groups/{id}/roster` and `GET groups/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupHead {
    /// Which group.
    pub group: GroupId,
    /// Epoch of its last op.
    pub epoch: Epoch,
    /// The roster there.
    pub roster_hash: RosterHash,
    /// Name in its policy.
    pub name: String,
    /// Members, bridge included.
    pub members: u32,
    /// Whether `close` ended it.
    pub closed: bool,
}

/// Answer to `GET groups`: the caller's groups by id; `?from=<group>&limit=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupPage {
    /// At most `limit` (default 100, at most 1,000).
    pub groups: Vec<GroupHead>,
    /// `from` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<GroupId>,
}

/// One op in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpBytes(
    /// `core ‖ certificate ‖ signature`.
    #[serde(with = "base64url")]
    pub Vec<u8>,
);

/// Answer to `GET groups/{id}/roster?from=<epoch>&limit=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpPage {
    /// From `from` on, in order, at most `limit` (default 100, at most 1,000; at most 4 MiB).
    #[schema(value_type = Vec<String>)]
    pub ops: Vec<OpBytes>,
    /// Epoch of the group's last op.
    pub epoch: Epoch,
    /// `from` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Epoch>,
}

/// Body of `POST groups/{id}/invites`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewInvite {
    /// Public half of the invite's key; the server never sees the other.
    pub ik_pub: InviteKey,
    /// Until when it is good.
    pub expires_ms: Timestamp,
    /// How often, at least once.
    pub uses: u32,
}

/// An invite as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InviteState {
    /// Public half of its key.
    pub ik_pub: InviteKey,
    /// Who made it.
    pub by: AccountId,
    /// Until when it is good.
    pub expires_ms: Timestamp,
    /// How often it may be used.
    pub uses: u32,
    /// How often it was.
    pub used: u32,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// Answer to `GET groups/{id}/invites?from=<ik_pub>&limit=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitePage {
    /// By `ik_pub`.
    pub invites: Vec<InviteState>,
    /// `from` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<InviteKey>,
}

/// Body of `POST groups/{id}/join`; the only call on a group by one who is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinRequest {
    /// Request and two signatures, protocol §3.4.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub request: Vec<u8>,
}

/// Answer to `POST groups/{id}/join`: the request waits for a member who may admit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinPending {
    /// Names the request.
    pub id: RequestId,
}

/// A join request that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingRequest {
    /// Names it.
    pub id: RequestId,
    /// Request and two signatures, protocol §3.4.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub request: Vec<u8>,
    /// When it came.
    pub at_ms: Timestamp,
}

/// Answer to `GET groups/{id}/requests?from=<id>&limit=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestPage {
    /// By id.
    pub requests: Vec<PendingRequest>,
    /// `from` of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<RequestId>,
}

/// Body of `POST groups/{id}/envelopes`: in order, all or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PostEnvelopes {
    /// At most 4,096.
    pub envelopes: Vec<Submission>,
}

/// Answer to `POST groups/{id}/envelopes`: the same for the same ids, however often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// In the order of the request.
    pub accepted: Vec<AcceptedEnvelope>,
}

/// What became of one envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcceptedEnvelope {
    /// Its id, as the server computed it.
    pub id: EnvelopeId,
    /// Devices in whose mailboxes it was put.
    pub recipients: u32,
}

/// Answer to `GET messages/{id}/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageStatus {
    /// Which message.
    pub id: EnvelopeId,
    /// One for each recipient device.
    pub recipients: Vec<RecipientStatus>,
}

/// How far a message came to one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecipientStatus {
    /// Which device.
    pub device: DeviceId,
    /// How far.
    pub state: DeliveryState,
    /// Why not, for `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How far a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// In the mailbox.
    Queued,
    /// Handed to the recipient's server.
    Relayed,
    /// Put on the recipient's stream.
    Delivered,
    /// The recipient said it has it.
    Acked,
    /// Nobody took it in time.
    Expired,
    /// It cannot arrive; see the reason.
    Failed,
}

/// A frame of `GET stream` by the server: one row of the caller's mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamRow {
    /// Its place.
    pub seq: Seq,
    /// What waits there.
    pub envelope: Envelope,
}

/// A frame of `GET stream` by the client: it has everything up to and with `ack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamAck {
    /// Cumulative.
    pub ack: Seq,
}

/// What a client reports of a sender-key chain (`PUT groups/{id}/sender-keys`); no secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SenderKeyReport {
    /// First four bytes of the chain id.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub tag: Vec<u8>,
    /// Whose chain.
    pub sender: DeviceId,
    /// Epoch of its creation.
    pub epoch: Epoch,
    /// Next index, where it is the reporter's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_index: Option<u32>,
    /// Devices that have not acknowledged it, where it is the reporter's own.
    #[serde(default)]
    pub unacknowledged: u32,
}

/// Body of `PUT groups/{id}/sender-keys`: the caller's device holds these, and no others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PutSenderKeys {
    /// At most 1,000.
    pub keys: Vec<SenderKeyReport>,
    /// Messages that could not be opened, by reason, since the last report.
    #[serde(default)]
    pub failures: BTreeMap<String, u32>,
}

/// Answer to `GET groups/{id}/sender-keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SenderKeyInventory {
    /// One for each device that reported.
    pub reports: Vec<SenderKeyInventoryEntry>,
}

/// What one device reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SenderKeyInventoryEntry {
    /// Who says so.
    pub reported_by: DeviceId,
    /// When.
    pub at_ms: Timestamp,
    /// What.
    #[serde(flatten)]
    pub report: PutSenderKeys,
}

/// Answer to `PUT groups/{id}/sender-keys`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SenderKeysNoted {
    /// When everybody was last asked to rotate; a device whose chain is older makes a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_asked_ms: Option<Timestamp>,
}

/// Every refusal of this API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Matrix code where one fits, else `DEV_CAUSEWAY_…`.
    pub errcode: String,
    /// What happened, why, and what to do.
    pub error: String,
    /// With `M_LIMIT_EXCEEDED`: when to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// With `M_STALE_EPOCH`: where the group stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// With `M_STALE_EPOCH`: what the caller lacks, from the epoch after the one it stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub ops: Option<Vec<OpBytes>>,
}

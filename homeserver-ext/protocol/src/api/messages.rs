//! Envelopes in, what became of them, and the stream.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    envelope::{Envelope, Sender, Submission},
    ids::{CurveKey, DeviceId, EnvelopeId, Generation, GroupId, Seq},
};

/// Body of `POST groups/{id}/envelopes`: taken in order, all or nothing up to 512 rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PostEnvelopes {
    /// At most 4,096.
    pub envelopes: Vec<Submission>,
    /// How often the device has sealed so far, by its own count; the server keeps the highest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// Answer to `GET device`: what the server knows of the caller's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnDevice {
    /// The highest count that it has posted with: a device that counts less itself was put back from
    /// a copy.
    pub count: u64,
    /// What it gives to those who begin sessions with the device; a server of before does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<OwnKeys>,
    /// Whether something that is for this device alone, a key perhaps, waits in its mailbox; a server of
    /// before does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<bool>,
}

/// Of the keys of the caller's device, what tells whether they are its newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnKeys {
    /// The fallback key. Another than the device uploaded last, or none: the server was put back, and
    /// the device uploads a whole set.
    pub fallback_key: Option<CurveKey>,
}

/// Answer to `PUT device/kept`: what the caller's device acknowledges from now on is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Kept {
    /// Whose numbers the device is going to remember: to be named when it reads again.
    pub generation: Generation,
    /// For how long; 0 where this server keeps nothing.
    pub keep_ms: u64,
}

/// Body of `POST device/kept`: the device was put back from a copy, and reads again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadAgain {
    /// Under which it took the row of this number.
    pub generation: Generation,
    /// The last row that it has.
    pub after: Seq,
}

/// Answer to `POST device/kept`: the next stream begins with what comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Again {
    /// Rows with numbers up to this one were acknowledged before.
    pub until: Seq,
    /// Whether all of them come that the device does not have, but for those whose time to live is
    /// over.
    pub whole: bool,
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
    /// Devices in whose mailboxes it was put; 0 where nobody for whom it is counts.
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

/// The first frame of `GET stream`, by the server: whether a place of before still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamHello {
    /// Where it is another one than before, the numbers of rows that the client remembers say
    /// nothing any more.
    pub generation: Generation,
    /// No row of this mailbox that was accepted so far has a number above this.
    pub last_seq: Seq,
    /// Whether rows of this mailbox are parked; `None` where the server parks none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<bool>,
}

/// A frame of `GET stream` by the server: one row of the caller's mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamRow {
    /// Its place: rises from row to row, with gaps.
    pub seq: Seq,
    /// What waits there.
    pub envelope: Envelope,
}

/// A frame of `GET stream` by the client: it has everything up to and with `ack`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamAck {
    /// Cumulative.
    pub ack: Seq,
    /// But for these, which it cannot hold: they are set aside for it, and nothing waits behind them.
    #[serde(
        default,
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schema(nullable)]
    pub park: Vec<Seq>,
}

impl From<Seq> for StreamAck {
    fn from(ack: Seq) -> Self {
        Self { ack, park: Vec::new() }
    }
}

/// Answer to `GET device/parked`: of whom rows are parked for the caller's device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ParkedPage {
    /// By the first row of each.
    pub parked: Vec<Parked>,
    /// `from` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Seq>,
}

/// What is parked of one device in one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Parked {
    /// The group.
    pub group: GroupId,
    /// Whose rows.
    pub sender: Sender,
    /// The number of the first of them.
    pub first: Seq,
    /// How many.
    pub rows: u64,
    /// Bytes of what they carry.
    pub bytes: u64,
}

/// Body of `POST device/unpark`: hands out what is parked of one device in one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unpark {
    /// The group.
    pub group: GroupId,
    /// Whose rows.
    pub sender: DeviceId,
    /// Rows behind this one; from the first on if 0.
    #[serde(default, deserialize_with = "crate::json::or_default")]
    #[schema(nullable)]
    pub after: Seq,
    /// These, at most 256, are not lacked any more: they are let go of first.
    #[serde(
        default,
        deserialize_with = "crate::json::or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schema(nullable)]
    pub taken: Vec<Seq>,
}

/// Answer to `POST device/unpark`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unparked {
    /// The next rows in order, with their numbers; none: there is nothing more.
    pub rows: Vec<StreamRow>,
    /// How far this device has acknowledged: what it parked with that is counted here.
    pub acked: Seq,
    /// No row that was accepted so far has a number above this: one that has is of a database that
    /// was put back since.
    pub last_seq: Seq,
}

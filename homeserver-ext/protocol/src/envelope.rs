//! What travels, and what waits: envelopes and mailbox rows (protocol §2).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    fields::Writer,
    ids::{AccountId, DeviceId, EnvelopeId, Epoch, GroupId, base64url},
    keys::hash,
};

/// What an envelope is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Broadcast ciphertext of a group scheme.
    Message,
    /// Key material over Olm, types D and K.
    KeyDistribution,
    /// Type R.
    KeyRequest,
    /// Type A.
    KeyAck,
    /// Any other Olm plaintext.
    Direct,
    /// One message, a piece for each recipient device.
    Fanout,
    /// Call signalling.
    Call,
    /// An op, by the server.
    Roster,
    /// A join request, by the server.
    Join,
    /// State of a call, by the server.
    CallChanged,
    /// Sixteen bytes: the id of what expired, by the server.
    Expired,
}

/// Who sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sender {
    /// The account.
    pub account: AccountId,
    /// Its device.
    pub device: DeviceId,
}

/// For whom it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Recipient {
    /// Every other device of the group.
    Broadcast,
    /// One.
    Device(DeviceId),
}

/// A row as it reaches a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Envelope {
    /// See [`Envelope::compute_id`].
    pub id: EnvelopeId,
    /// What for.
    pub kind: Kind,
    /// In which group.
    pub group: GroupId,
    /// Roster epoch that its sender stated; of a roster row, its op's.
    pub epoch: Epoch,
    /// Absent where the server made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
    /// For whom.
    pub to: Recipient,
    /// How long it is kept.
    pub ttl_ms: u64,
    /// What the kind says.
    #[serde(with = "base64url")]
    #[schema(value_type = crate::ids::Bytes)]
    pub payload: Vec<u8>,
    /// The recipient's own part of a `fanout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::ids::Bytes>)]
    pub piece: Option<Piece>,
}

/// The part of a fan-out message that one device gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Piece(#[serde(with = "base64url")] pub Vec<u8>);

/// For whom a submitted envelope is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubmittedTo {
    /// Every other device of the group.
    Broadcast,
    /// One.
    Device(DeviceId),
    /// A piece for each, `fanout` only.
    #[schema(value_type = BTreeMap<DeviceId, crate::ids::Bytes>)]
    Devices(BTreeMap<DeviceId, Piece>),
}

/// An envelope as a device posts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Submission {
    /// The server recomputes it; absent for `fanout`, which stands for several rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EnvelopeId>,
    /// What for; the server's own kinds are refused.
    pub kind: Kind,
    /// In which group; as in the path.
    pub group: GroupId,
    /// Roster epoch under which it was made.
    pub epoch: Epoch,
    /// The caller.
    pub sender: Sender,
    /// For whom.
    pub to: SubmittedTo,
    /// How long it is to be kept.
    pub ttl_ms: u64,
    /// What the kind says.
    #[serde(with = "base64url")]
    #[schema(value_type = crate::ids::Bytes)]
    pub payload: Vec<u8>,
}

/// Longest payload, in bytes: it must fit a Matrix event in base64.
pub const MAX_PAYLOAD: usize = 45_000;

/// Longest time that anything is kept: 30 days.
pub const MAX_TTL_MS: u64 = 2_592_000_000;

/// Longest time that call signalling is kept.
pub const MAX_CALL_TTL_MS: u64 = 60_000;

/// Most envelopes of one POST.
pub const MAX_BATCH: usize = 4_096;

/// Most bytes of one POST.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Why an envelope is refused whatever the group says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEnvelope {
    /// Only the server makes this kind.
    #[error("this kind is made by the server only")]
    ServerKind,
    /// A kind that the server makes has no sender, every other one has.
    #[error("sender is missing, or where it must not be")]
    Sender,
    /// Broadcast or one device, as the kind says.
    #[error("recipient does not fit the kind")]
    Recipient,
    /// Only a row of `fanout` has a piece.
    #[error("piece is missing, or where it must not be")]
    Piece,
    /// Bytes with pieces and their recipients, and the most that fit.
    #[error("envelope is {0} bytes, at most {1} fit")]
    TooLarge(usize, usize),
    /// Milliseconds, and the most that is kept.
    #[error("time to live is {0} ms, must be 1 to {1}")]
    Ttl(u64, u64),
    /// The id is not that of the bytes, or stands where `fanout` has none.
    #[error("id is not that of the envelope")]
    Id,
}

impl Kind {
    /// Its number, as in ids.
    pub const fn number(self) -> u8 {
        match self {
            Self::Message => 0,
            Self::KeyDistribution => 1,
            Self::KeyRequest => 2,
            Self::KeyAck => 3,
            Self::Direct => 4,
            Self::Fanout => 5,
            Self::Call => 6,
            Self::Roster => 16,
            Self::Join => 17,
            Self::CallChanged => 18,
            Self::Expired => 19,
        }
    }

    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Message,
            1 => Self::KeyDistribution,
            2 => Self::KeyRequest,
            3 => Self::KeyAck,
            4 => Self::Direct,
            5 => Self::Fanout,
            6 => Self::Call,
            16 => Self::Roster,
            17 => Self::Join,
            18 => Self::CallChanged,
            19 => Self::Expired,
            _ => return None,
        })
    }

    /// Whether only the server makes it.
    pub const fn is_of_server(self) -> bool {
        match self {
            Self::Roster | Self::Join | Self::CallChanged | Self::Expired => true,
            Self::Message
            | Self::KeyDistribution
            | Self::KeyRequest
            | Self::KeyAck
            | Self::Direct
            | Self::Fanout
            | Self::Call => false,
        }
    }

    /// Whether people read it, so that it lives no longer than the group's messages.
    pub const fn is_read(self) -> bool {
        match self {
            Self::Message | Self::Fanout => true,
            Self::KeyDistribution
            | Self::KeyRequest
            | Self::KeyAck
            | Self::Direct
            | Self::Call
            | Self::Roster
            | Self::Join
            | Self::CallChanged
            | Self::Expired => false,
        }
    }

    /// Longest time that it is kept.
    pub const fn max_ttl_ms(self) -> u64 {
        match self {
            Self::Call | Self::CallChanged => MAX_CALL_TTL_MS,
            Self::Message
            | Self::KeyDistribution
            | Self::KeyRequest
            | Self::KeyAck
            | Self::Direct
            | Self::Fanout
            | Self::Roster
            | Self::Join
            | Self::Expired => MAX_TTL_MS,
        }
    }

    /// Whether one of this kind may be for this recipient.
    pub const fn takes(self, to: &Recipient) -> bool {
        match self {
            Self::Message | Self::Roster | Self::CallChanged => matches!(to, Recipient::Broadcast),
            Self::Call => true,
            Self::KeyDistribution
            | Self::KeyRequest
            | Self::KeyAck
            | Self::Direct
            | Self::Fanout
            | Self::Join
            | Self::Expired => matches!(to, Recipient::Device(_)),
        }
    }
}

/// What the id of a row is the hash of. Of a `message`: `cg/msgid\0 ‖ payload`, so that it is the same
/// for all. Of any other row: `cg/envid\0 ‖ u8 kind ‖ sender ‖ recipient ‖ payload ‖ piece`, 32
/// bytes each for sending and recipient device, zeros where the server made it or all get it.
pub fn id_bytes(
    kind: Kind,
    sender: Option<&DeviceId>,
    to: &Recipient,
    payload: &[u8],
    piece: Option<&Piece>,
) -> Vec<u8> {
    if kind == Kind::Message {
        return [b"cg/msgid\0", payload].concat();
    }
    let recipient = match to {
        Recipient::Broadcast => [0; 32],
        Recipient::Device(device) => *device.as_bytes(),
    };
    Writer::with_capacity(74 + payload.len())
        .raw(b"cg/envid\0")
        .u8(kind.number())
        .raw(sender.map_or([0; 32], |device| *device.as_bytes()))
        .raw(recipient)
        .raw(payload)
        .raw(piece.map_or(&[][..], |piece| &piece.0))
        .into_bytes()
}

/// The id of a row: the first 16 bytes of H([`id_bytes`]).
pub fn compute_id(
    kind: Kind,
    sender: Option<&DeviceId>,
    to: &Recipient,
    payload: &[u8],
    piece: Option<&Piece>,
) -> EnvelopeId {
    let bytes = hash([id_bytes(kind, sender, to, payload, piece).as_slice()]);
    let (id, _) = bytes.split_first_chunk().unwrap_or((&[0; 16], &[]));
    EnvelopeId::new(*id)
}

impl Envelope {
    /// Its id, from what it says.
    pub fn compute_id(&self) -> EnvelopeId {
        let sender = self.sender.as_ref().map(|sender| &sender.device);
        compute_id(self.kind, sender, &self.to, &self.payload, self.piece.as_ref())
    }

    /// Checks a row that a server gave: recipient and sender as the kind says, sizes, the id.
    ///
    /// # Errors
    /// [`BadEnvelope`].
    pub fn check(&self) -> Result<(), BadEnvelope> {
        self.check_for(self.kind.takes(&self.to))
    }

    /// As [`Envelope::check`], by whoever knows whether it is for whom it may be.
    pub(crate) fn check_for(&self, recipient_fits: bool) -> Result<(), BadEnvelope> {
        if self.sender.is_none() != self.kind.is_of_server() {
            return Err(BadEnvelope::Sender);
        }
        if !recipient_fits {
            return Err(BadEnvelope::Recipient);
        }
        if self.piece.is_some() != (self.kind == Kind::Fanout) {
            return Err(BadEnvelope::Piece);
        }
        check_size(&self.payload, self.piece.iter())?;
        if self.compute_id() == self.id { Ok(()) } else { Err(BadEnvelope::Id) }
    }
}

impl Submission {
    /// Checks what a device posts, whatever the group says.
    ///
    /// # Errors
    /// [`BadEnvelope`].
    pub fn check(&self) -> Result<(), BadEnvelope> {
        self.check_form()?;
        self.check_limits()
    }

    /// Checks kind, recipients and id: what a server must know before it looks the id up.
    ///
    /// # Errors
    /// [`BadEnvelope::ServerKind`], [`BadEnvelope::Recipient`], [`BadEnvelope::Id`].
    pub fn check_form(&self) -> Result<(), BadEnvelope> {
        if self.kind.is_of_server() {
            return Err(BadEnvelope::ServerKind);
        }
        let rows = self.recipients();
        let fans_out = matches!(self.to, SubmittedTo::Devices(_));
        let fits = rows.iter().all(|(to, _)| self.kind.takes(to));
        if rows.is_empty() || !fits || fans_out != (self.kind == Kind::Fanout) {
            return Err(BadEnvelope::Recipient);
        }
        let right = match (self.id, fans_out) {
            (None, true) => true,
            (Some(id), false) => self.rows().all(|row| row.id == id),
            (None, false) | (Some(_), true) => false,
        };
        if right { Ok(()) } else { Err(BadEnvelope::Id) }
    }

    /// Checks size and time to live, which come after the epoch (protocol §2).
    ///
    /// # Errors
    /// [`BadEnvelope::TooLarge`], [`BadEnvelope::Ttl`].
    pub fn check_limits(&self) -> Result<(), BadEnvelope> {
        check_size(&self.payload, self.recipients().iter().filter_map(|(_, piece)| *piece))?;
        let most = self.kind.max_ttl_ms();
        if (1..=most).contains(&self.ttl_ms) {
            Ok(())
        } else {
            Err(BadEnvelope::Ttl(self.ttl_ms, most))
        }
    }

    /// What names it as a whole, for its sender and the server: its id; of a `fanout`, whose rows have
    /// ids of their own, the id of a row to nobody in particular, whose piece is all pieces, each
    /// after its device and be32 length (protocol §11).
    pub fn name(&self) -> EnvelopeId {
        self.id.unwrap_or_else(|| {
            let all = match &self.to {
                SubmittedTo::Broadcast | SubmittedTo::Device(_) => Vec::new(),
                SubmittedTo::Devices(pieces) => {
                    pieces.iter().fold(Writer::new(), write_piece).into_bytes()
                }
            };
            let (device, to) = (&self.sender.device, Recipient::Broadcast);
            compute_id(self.kind, Some(device), &to, &self.payload, Some(&Piece(all)))
        })
    }

    /// The rows that it stands for: one, or one for each device of a `fanout`. A broadcast row is
    /// put in every recipient's mailbox as it is.
    pub fn rows(&self) -> impl Iterator<Item = Envelope> + '_ {
        self.recipients().into_iter().map(|(to, piece)| Envelope {
            id: compute_id(self.kind, Some(&self.sender.device), &to, &self.payload, piece),
            kind: self.kind,
            group: self.group,
            epoch: self.epoch,
            sender: Some(self.sender.clone()),
            to,
            ttl_ms: self.ttl_ms,
            payload: self.payload.clone(),
            piece: piece.cloned(),
        })
    }

    fn recipients(&self) -> Vec<(Recipient, Option<&Piece>)> {
        match &self.to {
            SubmittedTo::Broadcast => vec![(Recipient::Broadcast, None)],
            SubmittedTo::Device(device) => vec![(Recipient::Device(*device), None)],
            SubmittedTo::Devices(pieces) => {
                pieces.iter().map(|(to, piece)| (Recipient::Device(*to), Some(piece))).collect()
            }
        }
    }
}

fn write_piece(to: Writer, (device, Piece(piece)): (&DeviceId, &Piece)) -> Writer {
    to.raw(device).be32(u32::try_from(piece.len()).unwrap_or(u32::MAX)).raw(piece)
}

/// Payload and, for each piece, 32 bytes of recipient and the piece.
fn check_size<'a>(
    payload: &[u8],
    pieces: impl Iterator<Item = &'a Piece>,
) -> Result<(), BadEnvelope> {
    let size = pieces.fold(payload.len(), |sum, piece| sum + 32 + piece.0.len());
    if size <= MAX_PAYLOAD { Ok(()) } else { Err(BadEnvelope::TooLarge(size, MAX_PAYLOAD)) }
}

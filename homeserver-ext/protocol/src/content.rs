//! What a message means: the plaintext inside every group message (protocol §2.1).
//!
//! `u8 type ‖ be64 sent_at_ms ‖ be32 ttl_s ‖ client_id 16 ‖ body`, body being JSON. Unknown fields
//! are ignored, an unknown type is kept as it came.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    fields::{Reader, Short, Writer},
    ids::{ClientId, DeviceId, Epoch, ParseError, RosterHash, Timestamp},
};

/// Most bytes of a plaintext: with the 95 that a sealed message has around it, they make a payload of
/// 45,000.
pub const MAX_PLAINTEXT: usize = 44_905;

/// A message as its sender meant it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plaintext {
    /// When, by the sender's clock.
    pub sent_at: Timestamp,
    /// How long it is to live, in seconds; 0 as long as the group says.
    pub ttl_s: u32,
    /// What its sender calls it; receivers drop what they have by (sender device, this).
    pub client_id: ClientId,
    /// What it says.
    pub content: Content,
}

/// The types that the protocol has numbers for; some are not built yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ContentType {
    /// Said.
    Text = 1,
    /// Said otherwise.
    Edit = 2,
    /// A sign below a message.
    Reaction = 3,
    /// Taken back.
    Redaction = 4,
    /// A file.
    Media = 5,
    /// Read up to here.
    Receipt = 6,
    /// Writing just now.
    Typing = 7,
    /// Whom the bridge speaks for.
    Mirrors = 16,
    /// Which roster the sender has.
    RosterSync = 17,
    /// What an admin asks of the bridge.
    BridgeRequest = 18,
    /// Of a call.
    Call = 32,
}

impl ContentType {
    /// The type with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Text,
            2 => Self::Edit,
            3 => Self::Reaction,
            4 => Self::Redaction,
            5 => Self::Media,
            6 => Self::Receipt,
            7 => Self::Typing,
            16 => Self::Mirrors,
            17 => Self::RosterSync,
            18 => Self::BridgeRequest,
            32 => Self::Call,
            _ => return None,
        })
    }
}

/// What a message says; nothing of it is in its `Debug` form but its type.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Type 1.
    Text(Text),
    /// Type 16: whom the bridge speaks for.
    Mirrors(Mirrors),
    /// Type 17: which roster the sender has.
    RosterSync(RosterSync),
    /// Type 18: what an admin asks of the bridge.
    BridgeRequest(BridgeRequest),
    /// A type that is not known here, and its body: shown as such, and acknowledged.
    Unknown(u8, Vec<u8>),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Content").field(&self.number()).finish()
    }
}

/// Type 1.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// How it is shown.
    pub kind: TextKind,
    /// The text.
    pub body: String,
    /// The same with markup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// The message that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageRef>,
    /// The Matrix user who said it; from the bridge only, and announced before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Text").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// How a text is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextKind {
    /// Said.
    Text,
    /// Said by a program.
    Notice,
    /// Done.
    Emote,
}

/// Type 16, from the bridge only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirrors {
    /// Who is there, or has a new name.
    pub mirrors: Vec<Mirror>,
    /// Who went.
    pub gone: Vec<String>,
}

/// A Matrix user as the group sees him.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// His Matrix id.
    pub id: String,
    /// His name in the room; may be empty.
    pub name: String,
}

/// Type 17, hourly while active: makes forks visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterSync {
    /// The sender's head.
    pub epoch: Epoch,
    /// Its hash.
    pub roster_hash: RosterHash,
}

/// Type 18, honoured from admins' devices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BridgeRequest {
    /// Id or alias of the room to bridge into; a new one where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// Matrix users to invite there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<Vec<String>>,
}

/// How messages refer to one another: `<sender device>/<client_id>`, both base64url.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageRef {
    /// Whose message.
    pub device: DeviceId,
    /// Which.
    pub client_id: ClientId,
}

/// Not a plaintext, or the body of a known type is not what that type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message plaintext")]
pub struct Malformed;

impl Content {
    /// Its type's number.
    pub const fn number(&self) -> u8 {
        match self {
            Self::Text(_) => ContentType::Text as u8,
            Self::Mirrors(_) => ContentType::Mirrors as u8,
            Self::RosterSync(_) => ContentType::RosterSync as u8,
            Self::BridgeRequest(_) => ContentType::BridgeRequest as u8,
            Self::Unknown(number, _) => *number,
        }
    }

    fn parse(number: u8, body: &[u8]) -> Result<Self, Malformed> {
        fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Malformed> {
            crate::json::from_slice(body).map_err(|_| Malformed)
        }
        Ok(match ContentType::from_number(number) {
            Some(ContentType::Text) => Self::Text(json(body)?),
            Some(ContentType::Mirrors) => Self::Mirrors(json(body)?),
            Some(ContentType::RosterSync) => Self::RosterSync(json(body)?),
            Some(ContentType::BridgeRequest) => Self::BridgeRequest(json(body)?),
            Some(
                ContentType::Edit
                | ContentType::Reaction
                | ContentType::Redaction
                | ContentType::Media
                | ContentType::Receipt
                | ContentType::Typing
                | ContentType::Call,
            )
            | None => Self::Unknown(number, body.to_vec()),
        })
    }

    fn body(&self) -> Vec<u8> {
        // Strings, integers and lists: nothing here that JSON cannot say.
        match self {
            Self::Text(text) => serde_json::to_vec(text),
            Self::Mirrors(mirrors) => serde_json::to_vec(mirrors),
            Self::RosterSync(sync) => serde_json::to_vec(sync),
            Self::BridgeRequest(request) => serde_json::to_vec(request),
            Self::Unknown(_, body) => return body.clone(),
        }
        .unwrap_or_default()
    }
}

impl Plaintext {
    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        Writer::new()
            .u8(self.content.number())
            .be64(self.sent_at.0)
            .be32(self.ttl_s)
            .raw(self.client_id)
            .raw(self.content.body())
            .into_bytes()
    }

    /// Reads what another device sealed.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let head = |from: &mut Reader<'_>| -> Result<_, Short> {
            Ok((from.u8()?, Timestamp(from.be64()?), from.be32()?, ClientId::new(from.array()?)))
        };
        let (number, sent_at, ttl_s, client_id) = head(&mut from).map_err(|Short| Malformed)?;
        Ok(Self { sent_at, ttl_s, client_id, content: Content::parse(number, from.rest())? })
    }

    /// How long it lives in a group whose policy says `group_ttl_s`, in milliseconds; the
    /// envelope's `ttl_ms` is the same.
    pub fn ttl_ms(&self, group_ttl_s: u32) -> u64 {
        let ttl_s = if self.ttl_s == 0 { group_ttl_s } else { self.ttl_s.min(group_ttl_s) };
        u64::from(ttl_s) * 1_000
    }

    /// Until when a receiver shows it.
    pub fn expires_at(&self, group_ttl_s: u32) -> Timestamp {
        self.sent_at.plus_ms(self.ttl_ms(group_ttl_s))
    }
}

impl fmt::Display for MessageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.client_id)
    }
}

impl FromStr for MessageRef {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (device, client_id) = text.split_once('/').ok_or(ParseError::Base64)?;
        Ok(Self { device: device.parse()?, client_id: client_id.parse()? })
    }
}

impl Serialize for MessageRef {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        text.parse().map_err(de::Error::custom)
    }
}

//! Parsed names of things: whoever holds one of these need not check it again.
//!
//! In JSON, paths and links bytes are unpadded base64url (protocol §0); [`bytes_of`] is the one
//! decoder, and refuses padding, the other alphabet, white space and non-zero trailing bits.

use std::{fmt, str::FromStr};

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_allow_trailing_bits(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Why text is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not unpadded base64url, protocol §0.
    #[error("not unpadded base64url")]
    Base64,
    /// Decoded to the wrong number of bytes: expected, got.
    #[error("expected {0} bytes, got {1}")]
    Length(usize, usize),
    /// Not `localpart:server` as protocol §1 has it, or above 255 bytes.
    #[error("not an account name of the form localpart:server")]
    Account,
}

/// Text form of `bytes`: unpadded base64url.
pub fn text_of(bytes: &[u8]) -> String {
    BASE64URL.encode(bytes)
}

/// Bytes of unpadded base64url `text`.
///
/// # Errors
/// [`ParseError::Base64`] for anything but the one canonical spelling.
pub fn bytes_of(text: &str) -> Result<Vec<u8>, ParseError> {
    BASE64URL.decode(text).map_err(|_| ParseError::Base64)
}

/// Serde form of a byte string of any length: unpadded base64url.
pub mod base64url {
    use super::{Deserialize, Deserializer, Serializer, bytes_of, de, text_of};
    use std::borrow::Cow;

    /// Writes `bytes` as text.
    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text_of(bytes))
    }

    /// Reads text into bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        bytes_of(&Cow::<str>::deserialize(from)?).map_err(de::Error::custom)
    }
}

/// What the text of `len` bytes looks like, for `OpenAPI`.
fn pattern_of(len: usize) -> String {
    // The bits of the last character that no byte needs are zero.
    let (whole, last) = match len % 3 {
        0 => (len / 3 * 4, ""),
        1 => (len / 3 * 4 + 1, "[AQgw]"),
        _ => (len / 3 * 4 + 2, "[AEIMQUYcgkosw048]"),
    };
    format!("^[A-Za-z0-9_-]{{{whole}}}{last}$")
}

/// The schema of bytes of any length, for `OpenAPI`.
pub struct Bytes;

impl utoipa::PartialSchema for Bytes {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        let end = "([A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?";
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("Bytes, unpadded base64url"))
            .pattern(Some(format!("^([A-Za-z0-9_-]{{4}})*{end}$")))
            .into()
    }
}

impl utoipa::ToSchema for Bytes {}

macro_rules! byte_names {
    ($($(#[$doc:meta])* $name:ident[$len:literal];)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Bytes in one.
            pub const LEN: usize = $len;

            /// The name with these bytes.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Its bytes, from a slice of exactly that length.
            ///
            /// # Errors
            /// [`ParseError::Length`] for any other length.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, ParseError> {
                bytes.try_into().map(Self).map_err(|_| ParseError::Length($len, bytes.len()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&text_of(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                Self::from_slice(&bytes_of(text)?)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(from)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .description(Some(concat!($len, " bytes, unpadded base64url")))
                    .pattern(Some(pattern_of($len)))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    )+};
}

byte_names! {
    /// A group: `H("cg/group/v2\0" ‖ signer member_id ‖ create body)`, protocol §3.1.
    GroupId[32];
    /// An account's Ed25519 identity key, protocol §1.
    MemberId[32];
    /// A device's Ed25519 key, protocol §1.
    DeviceId[32];
    /// A Curve25519 public key of Olm.
    CurveKey[32];
    /// An Ed25519 signature.
    Signature[64];
    /// One row of the mailbox, or one broadcast message, protocol §2.
    EnvelopeId[16];
    /// What its sender calls a message; unique per sending device, protocol §2.1.
    ClientId[16];
    /// A sender-key chain, protocol §4.1.
    ChainId[32];
    /// A shared key, protocol §5.2.
    SharedKeyId[32];
    /// The roster at one epoch, protocol §3.1.
    RosterHash[32];
    /// One op, signature aside, protocol §3.1.
    OpHash[32];
    /// The public half of an invite's key, protocol §3.4.
    InviteKey[32];
    /// Challenge of a login, protocol §1.
    Nonce[32];
    /// Which one-time or fallback key of a device: be64, as bytes because JSON readers round at 2^53.
    KeyId[8];
    /// One life of the server's database, protocol §2: new with every start, so new after every restore.
    Generation[16];
    /// A new device's offer to be linked, protocol §1: `H("cg/link/id\0" ‖ s)[..16]`.
    LinkId[16];
    /// One direction of a link between two servers, protocol §7.1: new with every start.
    ServerLinkId[16];
    /// What an item of a link is taken once by, protocol §7.1.
    ItemId[16];
    /// A server's events of one group since one of its starts, protocol §7.3.
    StreamId[16];
    /// A join request that waits at the server, protocol §3.4: `H(request bytes)[..16]`.
    RequestId[16];
    /// What is shared of a group's history at once.
    ShareId[16];
    /// A call, by a number that its starter draws.
    CallId[16];
}

macro_rules! number_names {
    ($($(#[$doc:meta])* $name:ident($number:ty);)+) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
            utoipa::ToSchema,
        )]
        #[serde(transparent)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

number_names! {
    /// Position in a group's roster log; `create` makes 0.
    Epoch(u32);
    /// Position in one device's mailbox; the first row is 1.
    Seq(u64);
    /// Unix time in milliseconds.
    Timestamp(u64);
}

impl Epoch {
    /// The epoch that the next op makes; `None` at the end of the log.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(epoch) => Some(Self(epoch)),
            None => None,
        }
    }
}

impl Timestamp {
    /// This moment and `ms` milliseconds.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// `ms` milliseconds before this moment.
    #[must_use]
    pub const fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }
}

/// A native account, `localpart:server`, protocol §1.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(pattern = "^[a-z0-9._=/+-]{1,64}:[a-z0-9.-]{1,230}(:[0-9]{1,5})?$", max_length = 255)]
pub struct AccountId(String);

impl AccountId {
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the first colon.
    pub fn localpart(&self) -> &str {
        self.0.split_once(':').map_or("", |(localpart, _)| localpart)
    }

    /// What stands after the first colon: host, and port if it has one.
    pub fn server(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, server)| server)
    }
}

/// Whether `text` is a server name of protocol §1: `[a-z0-9.-]{1,230}(:[0-9]{1,5})?`.
pub fn is_server_name(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p)));
    (1..=230).contains(&host.len())
        && host.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'))
        && port.is_none_or(|p| (1..=5).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
}

impl FromStr for AccountId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (localpart, server) = text.split_once(':').ok_or(ParseError::Account)?;
        let named = (1..=64).contains(&localpart.len())
            && localpart.bytes().all(
                |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'/' | b'+' | b'-'),
            );
        // Protocol §3.2: every layout has it as a `str8`.
        if named && is_server_name(server) && text.len() <= 255 {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseError::Account)
        }
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountId({})", self.0)
    }
}

impl<'de> Deserialize<'de> for AccountId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        text.parse().map_err(de::Error::custom)
    }
}

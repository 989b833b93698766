//! Public keys and what they signed: length-checked, strict, and never without a label.
//!
//! Private halves live elsewhere: signers sign what [`signed_bytes`] gives. Every length is
//! checked before a library sees the bytes, because vodozemac 0.10 panics on a 33-byte Ed25519 key.

use curve25519_dalek::{montgomery::MontgomeryPoint, scalar::Scalar};
use ed25519_dalek::{Signature as DalekSignature, VerifyingKey};
use sha2::{Digest, Sha256, Sha512};

use crate::ids::{CurveKey, MemberId};

/// What a signature is for; each label is used for one thing (protocol §0).
pub mod label {
    /// A device about itself.
    pub const DEVICE: &str = "cg/device/v2";
    /// An identity about one of its devices.
    pub const CERTIFICATE: &str = "cg/devcert/v2";
    /// An identity about all of its devices.
    pub const DEVICE_LIST: &str = "cg/devlist/v2";
    /// A device about a one-time or fallback key.
    pub const ONE_TIME_KEY: &str = "cg/otk/v2";
    /// A device that logs in.
    pub const LOGIN: &str = "cg/login/v2";
    /// A device, or for `devices` an identity, about an op.
    pub const OP: &str = "cg/opsig/v2";
    /// A device about an invite link.
    pub const INVITE: &str = "cg/invite/v2";
    /// An invite's key about a join request.
    pub const JOIN_BY_INVITE: &str = "cg/join/ik/v2";
    /// The joining device about its join request.
    pub const JOIN: &str = "cg/join/v2";
}

/// Why a key or a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Expected, got, in bytes.
    #[error("expected {0} bytes, got {1}")]
    Length(usize, usize),
    /// Not the one spelling of a point on the curve, or of small order.
    #[error("not a usable public key")]
    Key,
    /// Not by this key over these bytes.
    #[error("signature does not verify")]
    Signature,
}

/// What a signer signs: `label ‖ 0x00 ‖ fields`.
pub fn signed_bytes(label: &str, fields: &[u8]) -> Vec<u8> {
    [label.as_bytes(), &[0], fields].concat()
}

/// Checks a signature over `label ‖ 0x00 ‖ fields`.
///
/// # Errors
/// As [`verify_bytes`].
pub fn verify(
    key: impl AsRef<[u8]>,
    label: &str,
    fields: &[u8],
    signature: impl AsRef<[u8]>,
) -> Result<(), KeyError> {
    verify_bytes(key, &signed_bytes(label, fields), signature)
}

/// Checks a signature over `message`, which carries its own prefix (protocol §4.1, §5).
///
/// Strict: S below the group order, R and the key neither of small order nor misspelt.
///
/// # Errors
/// [`KeyError`], by what is wrong first: lengths, the key, the signature.
pub fn verify_bytes(
    key: impl AsRef<[u8]>,
    message: &[u8],
    signature: impl AsRef<[u8]>,
) -> Result<(), KeyError> {
    let signature = signature.as_ref();
    let signature: [u8; 64] =
        signature.try_into().map_err(|_| KeyError::Length(64, signature.len()))?;
    ed25519(key)?
        .verify_strict(message, &DalekSignature::from_bytes(&signature))
        .map_err(|_| KeyError::Signature)
}

/// Whether an Ed25519 key may enter: 32 bytes, canonical, on the curve, not of small order.
///
/// # Errors
/// [`KeyError::Length`], [`KeyError::Key`].
pub fn check_ed25519(key: impl AsRef<[u8]>) -> Result<(), KeyError> {
    ed25519(key).map(drop)
}

/// Whether a Curve25519 key may enter: below 2^255 − 19, and not of small order.
///
/// # Errors
/// [`KeyError::Key`]: Diffie-Hellman with it would tell nothing about who holds it.
pub fn check_curve25519(key: &CurveKey) -> Result<(), KeyError> {
    let point = MontgomeryPoint(*key.as_bytes());
    let of_small_order = (Scalar::from(8_u8) * point).0 == [0; 32];
    if is_below_p(key.as_bytes(), 0xff) && !of_small_order { Ok(()) } else { Err(KeyError::Key) }
}

/// Twelve groups of five digits, the same for both, that two people compare (protocol §1).
pub fn safety_number(one: &MemberId, other: &MemberId) -> String {
    let (lower, higher) = if one <= other { (one, other) } else { (other, one) };
    let hash = Sha512::new()
        .chain_update(b"cg/safety/v1\0")
        .chain_update(lower)
        .chain_update(higher)
        .finalize();
    digit_groups(&hash, 12)
}

/// An identity's fingerprint for people: 24 digits in six groups of four, from
/// `H("cg/fingerprint/v1\0" ‖ member_id)`; group i = be32(h[4i..4i+4]) mod 10,000.
pub fn fingerprint(member: &MemberId) -> String {
    let hash = Sha256::new().chain_update(b"cg/fingerprint/v1\0").chain_update(member).finalize();
    let groups = hash.chunks_exact(4).take(6).map(|chunk| {
        let number = chunk.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        format!("{:04}", number % 10_000)
    });
    groups.collect::<Vec<_>>().join(" ")
}

/// Group i = be40(h[5i..5i+5]) mod 100,000.
fn digit_groups(hash: &[u8], count: usize) -> String {
    let groups = hash.chunks_exact(5).take(count).map(|chunk| {
        let number = chunk.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        format!("{:05}", number % 100_000)
    });
    groups.collect::<Vec<_>>().join(" ")
}

fn ed25519(key: impl AsRef<[u8]>) -> Result<VerifyingKey, KeyError> {
    let key = key.as_ref();
    let key: [u8; 32] = key.try_into().map_err(|_| KeyError::Length(32, key.len()))?;
    // The top bit is the sign of x.
    if !is_below_p(&key, 0x7f) {
        return Err(KeyError::Key);
    }
    let point = VerifyingKey::from_bytes(&key).map_err(|_| KeyError::Key)?;
    if point.is_weak() { Err(KeyError::Key) } else { Ok(point) }
}

/// Whether a little-endian number is below p = 2^255 − 19; `mask` is laid on its top byte.
fn is_below_p(number: &[u8; 32], mask: u8) -> bool {
    let mut p = [0xff_u8; 32];
    p[0] = 0xed;
    p[31] = 0x7f;
    let mut number = *number;
    number[31] &= mask;
    number.iter().rev().lt(p.iter().rev())
}

/// SHA-256 of the parts in turn: H of the protocol.
pub(crate) fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let hash = parts.into_iter().fold(Sha256::new(), Digest::chain_update);
    hash.finalize().into()
}

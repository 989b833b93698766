//! The text by which a new device is made a device of an account (protocol §1).
//!
//! `causeway://link/<base64url(JSON)>`, shown by the new device and carried by a person: what is in
//! it is believed for that, and nothing of it passes through the server.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    device::{DeviceList, DeviceOf, Untrusted, verify_certificate},
    ids::{
        AccountId, CurveKey, DeviceId, LinkId, MemberId, Signature, bytes_of, is_server_name,
        text_of,
    },
    keys::{check_curve25519, check_ed25519, hash},
};

const SCHEME: &str = "causeway://link/";

/// Longest text that is looked at, bytes: the longest server's name, and room for fields that are
/// not known.
const MAX_TEXT: usize = 2_048;

/// Most bytes of a sealed answer, and of a device record as JSON.
pub const MAX_LINK_BYTES: usize = 4_096;

/// How long the server keeps an offer, and a device what it offered.
pub const LINK_MS: u64 = 600_000;

/// Info of the key that an answer is sealed with: HKDF(s, info, 32).
pub const ANSWER_KEY_INFO: &[u8] = b"cg/link/key";

/// Thirty-two random bytes: whoever has them reads the answer, and may give one.
#[derive(Clone, PartialEq, Eq)]
pub struct OfferSecret(Zeroizing<[u8; 32]>);

impl OfferSecret {
    /// The secret with these bytes.
    pub const fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Name of the offer at the server: `H("cg/link/id\0" ‖ s)[..16]`.
    pub fn id(&self) -> LinkId {
        let hash = hash([b"cg/link/id\0".as_slice(), self.as_bytes()]);
        LinkId::new(hash.first_chunk().copied().unwrap_or_default())
    }
}

impl std::fmt::Debug for OfferSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OfferSecret(…)")
    }
}

/// What a new device shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLink {
    /// Where the offer is.
    pub server: String,
    /// The new device.
    pub device: DeviceId,
    /// Its Olm identity key.
    pub curve25519: CurveKey,
    /// What opens the answer.
    pub secret: OfferSecret,
}

/// The text is not one that a new device shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not what a new device shows: it begins with `{SCHEME}`, and no character is missing"
)]
pub struct NotADeviceLink;

impl DeviceLink {
    /// The text that a person carries.
    pub fn to_text(&self) -> Zeroizing<String> {
        let s = Zeroizing::new(text_of(self.secret.as_bytes()));
        let json = LinkJson { v: 1, h: &self.server, d: self.device, k: self.curve25519, s: &s };
        // Strings and an integer: nothing here that JSON cannot say.
        let json = Zeroizing::new(serde_json::to_vec(&json).unwrap_or_default());
        Zeroizing::new(format!("{SCHEME}{}", *Zeroizing::new(text_of(&json))))
    }

    /// Reads the text, around which white space means nothing.
    ///
    /// # Errors
    /// [`NotADeviceLink`]; also where a key in it is none that may enter.
    pub fn parse(text: &str) -> Result<Self, NotADeviceLink> {
        Self::read(text.trim()).ok_or(NotADeviceLink)
    }

    fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix(SCHEME).filter(|text| text.len() <= MAX_TEXT)?;
        let json = Zeroizing::new(bytes_of(text).ok()?);
        let json: ReadLinkJson = crate::json::from_slice(&json).ok()?;
        let secret = Zeroizing::new(bytes_of(&Zeroizing::new(json.s)).ok()?);
        let secret = OfferSecret(Zeroizing::new(secret.as_slice().try_into().ok()?));
        check_ed25519(json.d).ok()?;
        check_curve25519(&json.k).ok()?;
        let link = Self { server: json.h, device: json.d, curve25519: json.k, secret };
        (json.v == 1 && is_server_name(&link.server)).then_some(link)
    }
}

/// What is authenticated with a sealed answer: `cg/link/answer\0 ‖ id`.
pub fn answer_aad(id: &LinkId) -> Vec<u8> {
    [b"cg/link/answer\0".as_slice(), id.as_bytes()].concat()
}

/// What the first device answers, before it is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkAnswer {
    /// The account that the new device is to be one of.
    pub account: AccountId,
    /// Its identity.
    pub member_id: MemberId,
    /// By the identity, over the new device and its Olm key.
    pub certificate: Signature,
    /// The account's newest list, without the new device.
    pub list: DeviceList,
}

/// Why a new device does not become one of the account that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerRefused {
    /// Its account is of another server than the offer.
    #[error("the account is another server's")]
    OtherServer,
    /// The certificate is for another device, or by another identity.
    #[error("the certificate is not for this device")]
    Certificate,
    /// The list is of another account or identity.
    #[error("the device list is of another account or identity")]
    OtherList,
    /// The list is not the identity's.
    #[error(transparent)]
    List(#[from] Untrusted),
}

impl LinkAnswer {
    /// Whether it makes the device of this link one of its account.
    ///
    /// # Errors
    /// [`AnswerRefused`], by what is wrong first.
    pub fn check(&self, link: &DeviceLink) -> Result<(), AnswerRefused> {
        if self.account.server() != link.server {
            return Err(AnswerRefused::OtherServer);
        }
        let device = DeviceOf { member_id: self.member_id, device_id: link.device };
        verify_certificate(&device, &link.curve25519, &self.certificate)
            .map_err(|_| AnswerRefused::Certificate)?;
        if self.list.account != self.account || self.list.member_id != self.member_id {
            return Err(AnswerRefused::OtherList);
        }
        Ok(self.list.verify()?)
    }
}

#[derive(Serialize)]
struct LinkJson<'a> {
    v: u8,
    h: &'a str,
    d: DeviceId,
    k: CurveKey,
    s: &'a str,
}

#[derive(Deserialize)]
struct ReadLinkJson {
    v: u8,
    h: String,
    d: DeviceId,
    k: CurveKey,
    s: String,
}

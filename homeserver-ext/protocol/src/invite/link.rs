//! The link that a person hands to another.
//!
//! `causeway://join/<base64url(JSON)>`, signed by the inviting device.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    device::{DeviceOf, DeviceRecord, verify_certificate},
    fields::Writer,
    ids::{
        AccountId, DeviceId, GroupId, InviteKey, MemberId, Signature, Timestamp, bytes_of,
        is_server_name, text_of,
    },
    keys::{hash, label, signed_bytes, verify_bytes},
};

const SCHEME: &str = "causeway://join/";
/// Unicode scalar values of a group's name in a link.
const MAX_NAME: usize = 50;

/// Sixteen random bytes: whoever has them may ask to join.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkSecret(Zeroizing<[u8; 16]>);

impl LinkSecret {
    /// The secret with these bytes.
    pub const fn new(bytes: Zeroizing<[u8; 16]>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Seed of the invite's Ed25519 key: `H("cg/invite/key\0" ‖ t)`.
    pub fn key_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(hash([b"cg/invite/key\0".as_slice(), self.as_bytes()]))
    }

    /// Public half of the invite's key.
    pub fn key(&self) -> InviteKey {
        let key = ed25519_dalek::SigningKey::from_bytes(&self.key_seed());
        InviteKey::new(key.verifying_key().to_bytes())
    }
}

impl std::fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkSecret(…)")
    }
}

/// What an inviting device signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The group's home server.
    pub server: String,
    /// The group.
    pub group: GroupId,
    /// As [`invite_name`] gives it.
    pub name: String,
    /// Who invites.
    pub account: AccountId,
    /// Identity and device of who invites.
    pub inviter: DeviceOf,
    /// Good while now is not above this.
    pub expires: Timestamp,
    /// What the one who is invited must have.
    pub secret: LinkSecret,
    /// How often it may be used, at least once.
    pub uses: u32,
}

/// A link, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What it says.
    pub terms: Terms,
    /// By the inviting device.
    pub signature: Signature,
}

/// Why a link is not followed: the first thing that is wrong, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum LinkRefused {
    /// Not a link of this form.
    #[error("malformed")]
    Malformed,
    /// The inviting device is not the account's, or its certificate is not by the link's member.
    #[error("bad_certificate")]
    BadCertificate,
    /// Not signed by the inviting device.
    #[error("bad_signature")]
    BadSignature,
    /// Its time is over.
    #[error("expired")]
    Expired,
}

/// First 50 Unicode scalar values of a group's name.
pub fn invite_name(group_name: &str) -> String {
    group_name.chars().take(MAX_NAME).collect()
}

impl Terms {
    /// What the inviting device signs:
    /// `cg/invite/v2 ‖ 0 ‖ g ‖ c ‖ d ‖ be64 e ‖ be32 u ‖ ik_pub ‖ H(n) ‖ str8 h ‖ str8 a`.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let fields = Writer::new()
            .raw(self.group)
            .raw(self.inviter.member_id)
            .raw(self.inviter.device_id)
            .be64(self.expires.0)
            .be32(self.uses)
            .raw(self.secret.key())
            .raw(Sha256::digest(&self.name))
            .str8(&self.server)
            .str8(self.account.as_str());
        signed_bytes(label::INVITE, &fields.into_bytes())
    }
}

impl Link {
    /// The text that a person hands on.
    pub fn to_text(&self) -> Zeroizing<String> {
        let terms = &self.terms;
        let t = Zeroizing::new(text_of(terms.secret.as_bytes()));
        let json = LinkJson {
            v: 2,
            h: &terms.server,
            g: terms.group,
            n: &terms.name,
            a: &terms.account,
            c: terms.inviter.member_id,
            d: terms.inviter.device_id,
            e: terms.expires,
            t: &t,
            u: terms.uses,
            s: self.signature,
        };
        // Strings and integers: nothing here that JSON cannot say.
        let json = Zeroizing::new(serde_json::to_vec(&json).unwrap_or_default());
        Zeroizing::new(format!("{SCHEME}{}", *Zeroizing::new(text_of(&json))))
    }

    /// Reads a link.
    ///
    /// # Errors
    /// [`LinkRefused::Malformed`].
    pub fn parse(text: &str) -> Result<Self, LinkRefused> {
        Self::read(text).ok_or(LinkRefused::Malformed)
    }

    fn read(text: &str) -> Option<Self> {
        let json = Zeroizing::new(bytes_of(text.strip_prefix(SCHEME)?).ok()?);
        let json: ReadLinkJson = crate::json::from_slice(&json).ok()?;
        let secret = Zeroizing::new(bytes_of(&Zeroizing::new(json.t)).ok()?);
        let secret = LinkSecret(Zeroizing::new(secret.as_slice().try_into().ok()?));
        let well_formed = json.v == 2
            && is_server_name(&json.h)
            && json.n.chars().count() <= MAX_NAME
            && json.u >= 1;
        let terms = Terms {
            server: json.h,
            group: json.g,
            name: json.n,
            account: json.a,
            inviter: DeviceOf { member_id: json.c, device_id: json.d },
            expires: json.e,
            secret,
            uses: json.u,
        };
        well_formed.then_some(Self { terms, signature: json.s })
    }

    /// Whether the inviting device signed it.
    pub fn is_signed(&self) -> bool {
        let terms = &self.terms;
        verify_bytes(terms.inviter.device_id, &terms.signed_bytes(), self.signature).is_ok()
    }

    /// Whether the link may be followed at `now`; `records` are the inviting account's devices.
    ///
    /// # Errors
    /// [`LinkRefused`], by what is wrong first.
    pub fn judge(&self, records: &[DeviceRecord], now: Timestamp) -> Result<(), LinkRefused> {
        let inviter = self.terms.inviter;
        records
            .iter()
            .find(|record| record.device_id == inviter.device_id)
            .and_then(|r| verify_certificate(&inviter, &r.curve25519, &r.certificate).ok())
            .ok_or(LinkRefused::BadCertificate)?;
        if !self.is_signed() {
            return Err(LinkRefused::BadSignature);
        }
        if now <= self.terms.expires { Ok(()) } else { Err(LinkRefused::Expired) }
    }
}

#[derive(Serialize)]
struct LinkJson<'a> {
    v: u8,
    h: &'a str,
    g: GroupId,
    n: &'a str,
    a: &'a AccountId,
    c: MemberId,
    d: DeviceId,
    e: Timestamp,
    t: &'a str,
    u: u32,
    s: Signature,
}

#[derive(Deserialize)]
struct ReadLinkJson {
    v: u8,
    h: String,
    g: GroupId,
    n: String,
    a: AccountId,
    c: MemberId,
    d: DeviceId,
    e: Timestamp,
    t: String,
    u: u32,
    s: Signature,
}

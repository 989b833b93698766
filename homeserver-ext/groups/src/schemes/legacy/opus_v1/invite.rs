//! `discordopus://join/…`: a link with a group's name and a token, unsigned.
//!
//! It lets nobody in by itself. One of ours carries a link of ours as its token, which is signed; what
//! stands beside that says the same, or the link is refused.

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use causeway_protocol::{invite::Link, json};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::python;
use crate::schemes::legacy::names;

/// How such a link begins.
pub const BEGINNING: &str = "discordopus://join/";
/// Longest link that is looked at, bytes.
const MAX_LINK: usize = 4_096;
/// Longest name in a link, characters.
const MAX_NAME: usize = 50;

/// Why a link is none that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadInvite {
    /// It begins otherwise.
    #[error("Invalid invite code format")]
    Format,
    /// Not padded base64url of JSON.
    #[error("Invalid invite code encoding")]
    Encoding,
    /// The JSON is no object with `g`, `n`, `c`, `e` and `t`.
    #[error("Invalid invite code contents")]
    Fields,
    /// It was good until an earlier second.
    #[error("Invite code expired")]
    Expired,
    /// Its token is no link of Causeway: another program made it.
    #[error("Invite code of another program")]
    Token,
    /// It names another group, inviter or time than the link that it carries.
    #[error("Invite code contradicts itself")]
    Contradicts,
}

/// What a link says; whoever made it can have put anything there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Invite {
    /// The seed's id of the group, a UUID.
    #[serde(rename = "g")]
    pub group_id: String,
    /// What the group is called; at most 50 characters of it are written.
    #[serde(rename = "n")]
    pub group_name: String,
    /// The seed's name of who made the group, hex.
    #[serde(rename = "c")]
    pub creator_public_key: String,
    /// The last second in which it is good, Unix time.
    #[serde(rename = "e")]
    pub expires: u64,
    /// Makes it unlike any other.
    #[serde(rename = "t")]
    pub token: String,
}

impl From<&Link> for Invite {
    /// The same in this form, with the link as its token and its maker's device as the creator.
    fn from(link: &Link) -> Self {
        let terms = &link.terms;
        Self {
            group_id: names::group_uuid(&terms.group),
            group_name: terms.name.clone(),
            creator_public_key: names::sender_public_key(&terms.inviter.device_id),
            expires: terms.expires.0 / 1_000,
            token: link.to_text().to_string(),
        }
    }
}

impl Invite {
    /// The link of ours that it carries, which alone is signed.
    ///
    /// # Errors
    /// [`BadInvite::Token`], [`BadInvite::Contradicts`].
    pub fn carried(&self) -> Result<Link, BadInvite> {
        let link = Link::parse(&self.token).map_err(|_| BadInvite::Token)?;
        if Self::from(&link) == *self { Ok(link) } else { Err(BadInvite::Contradicts) }
    }

    /// The link.
    pub fn to_link(&self) -> String {
        format!("{BEGINNING}{}", URL_SAFE.encode(self.to_json()))
    }

    /// What the link carries, as the seed prints it.
    pub fn to_json(&self) -> String {
        let name: String = self.group_name.chars().take(MAX_NAME).collect();
        python::object(&[
            ("g", python::text(&self.group_id)),
            ("n", python::text(&name)),
            ("c", python::text(&self.creator_public_key)),
            ("e", self.expires.to_string()),
            ("t", python::text(&self.token)),
        ])
    }

    /// Reads a link at `now`, Unix time in seconds.
    ///
    /// # Errors
    /// [`BadInvite`].
    pub fn parse(link: &str, now: u64) -> Result<Self, BadInvite> {
        let encoded = link.strip_prefix(BEGINNING).ok_or(BadInvite::Format)?;
        if link.len() > MAX_LINK {
            return Err(BadInvite::Encoding);
        }
        let bytes = URL_SAFE.decode(encoded).map_err(|_| BadInvite::Encoding)?;
        let _: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|_| BadInvite::Encoding)?;
        let invite: Self = json::from_slice(&bytes).map_err(|_| BadInvite::Fields)?;
        if invite.expires < now { Err(BadInvite::Expired) } else { Ok(invite) }
    }
}

/// What is kept of a token instead of the token: its SHA-256, hex.
pub fn hash_token(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

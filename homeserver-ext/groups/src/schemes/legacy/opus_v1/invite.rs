//! `discordopus://join/…`: a link with a group's name and a token, unsigned.
//!
//! It lets nobody in by itself: who holds it can ask, and an admin decides.

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use causeway_protocol::json;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::python;

const BEGINNING: &str = "discordopus://join/";
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

impl Invite {
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

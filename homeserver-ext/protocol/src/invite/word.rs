//! What one holder of links says to another, in a plaintext of type `I` (protocol §2.2).
//!
//! A link itself, that it was taken back, or that somebody was let in by it: the server is believed
//! in neither.

use zeroize::Zeroizing;

use super::link::Link;
use crate::ids::{InviteKey, MemberId};

const REVOKED: &str = "causeway://revoked/";
const USED: &str = "causeway://used/";

/// The text of a plaintext of type `I`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkWord {
    /// A link to admit by.
    Link(Link),
    /// `causeway://revoked/<ik_pub>`: nobody is let in by it any more.
    Revoked(InviteKey),
    /// `causeway://used/<ik_pub>/<member_id>`: this identity takes, or has taken, one use of it.
    Used(InviteKey, MemberId),
}

impl LinkWord {
    /// The text; a link's is a secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        match self {
            Self::Link(link) => link.to_text(),
            Self::Revoked(ik_pub) => Zeroizing::new(format!("{REVOKED}{ik_pub}")),
            Self::Used(ik_pub, member) => Zeroizing::new(format!("{USED}{ik_pub}/{member}")),
        }
    }

    /// Reads the text; `None` where it is none of the three.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(ik_pub) = text.strip_prefix(REVOKED) {
            return Some(Self::Revoked(ik_pub.parse().ok()?));
        }
        if let Some(used) = text.strip_prefix(USED) {
            let (ik_pub, member) = used.split_once('/')?;
            return Some(Self::Used(ik_pub.parse().ok()?, member.parse().ok()?));
        }
        Link::parse(text).ok().map(Self::Link)
    }
}

//! What somebody shared of before, in one line.

use causeway_protocol::{
    content::{Mirror, TextKind},
    ids::{AccountId, ClientId, DeviceId, MemberId, ShareId, Timestamp},
};
use serde::{Deserialize, Serialize};

use super::super::harmless::one_line;

/// A text of before, in the words of whoever shared it. Nobody has verified who said it: whoever shared it could have
/// made it up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shared {
    /// Who shared it.
    pub(crate) by: AccountId,
    /// Under which identity.
    pub(crate) by_member_id: MemberId,
    /// With what else it came.
    pub(crate) share: ShareId,
    /// Whose device it is said to be from.
    pub(crate) sender: AccountId,
    /// That device.
    pub(crate) device: DeviceId,
    /// What that device is said to call it.
    pub(crate) client_id: ClientId,
    /// How it is meant.
    pub(crate) kind: TextKind,
    /// What it is said to say.
    pub(crate) body: String,
    /// The Matrix user that the bridge is said to have spoken for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mirror: Option<Mirror>,
    /// When it is said to have been sent.
    pub(crate) sent_at_ms: Timestamp,
}

impl Shared {
    /// Whether both are the same words of the same.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let id = |said: &Self| said.mirror.as_ref().map(|mirror| mirror.id.clone());
        (self.kind, &self.body, id(self)) == (other.kind, &other.body, id(other))
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let who = match &self.mirror {
            Some(mirror) => {
                format!("{} (Matrix, via {})", one_line(&mirror.name), self.sender.server())
            }
            None => self.sender.to_string(),
        };
        let who = format!("{who} (from {}, not verified)", self.by);
        match self.kind {
            TextKind::Emote => format!("* {who} {}", self.body),
            TextKind::Notice => format!("{who} notes: {}", self.body),
            TextKind::Text => format!("{who}: {}", self.body),
        }
    }
}

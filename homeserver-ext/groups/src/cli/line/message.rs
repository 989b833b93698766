//! A message, in one line.

use std::fmt::Write as _;

use causeway_protocol::{
    content::{MessageRef, Mirror, Text, TextKind},
    ids::{AccountId, ClientId, DeviceId, EnvelopeId, Timestamp},
};
use serde::{Deserialize, Serialize};

use super::super::harmless::one_line;
use crate::machine::Me;

/// A message as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    /// Its envelope.
    pub(crate) id: EnvelopeId,
    /// Who sent it.
    pub(crate) sender: AccountId,
    /// From which device.
    pub(crate) device: DeviceId,
    /// What that device calls it.
    pub(crate) client_id: ClientId,
    /// How it is meant.
    pub(crate) kind: TextKind,
    /// What it says.
    pub(crate) body: String,
    /// The same with formatting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) html: Option<String>,
    /// The message it answers, `<device>/<client_id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to: Option<MessageRef>,
    /// The row of that one, where it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reply_row: Option<i64>,
    /// The Matrix user that the bridge speaks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mirror: Option<Mirror>,
    /// Where its sender is not who that account is known to be: `changed`, `borrowed`, `former`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<String>,
    /// Whether it was said by this account, with whichever device.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) own: bool,
    /// Whether it is from the bridge itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) bridge: bool,
    /// When its sender says it was sent.
    pub(crate) sent_at_ms: Timestamp,
    /// Whether it was sent before a removal was seen by its sender.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) late: bool,
}

impl Message {
    /// What was said with this device, and accepted as `id`.
    pub(crate) fn own(
        me: &Me,
        id: EnvelopeId,
        client_id: ClientId,
        sent_at_ms: Timestamp,
        text: Text,
    ) -> Self {
        Self {
            id,
            sender: me.account.clone(),
            device: me.record.device_id,
            client_id,
            kind: text.kind,
            body: text.body,
            html: text.html,
            reply_to: text.reply_to,
            reply_row: None,
            mirror: None,
            identity: None,
            own: true,
            bridge: false,
            sent_at_ms,
            late: false,
        }
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let mut who = match &self.mirror {
            Some(mirror) => {
                format!("{} (Matrix, via {})", one_line(&mirror.name), self.sender.server())
            }
            None if self.bridge => format!("{} (bridge)", self.sender),
            None => self.sender.to_string(),
        };
        if let Some(row) = self.reply_row {
            let _ = write!(who, " (re #{row})");
        } else if self.reply_to.is_some() {
            who.push_str(" (re a message that is not here)");
        }
        if let Some(identity) = &self.identity {
            let _ = write!(who, " (!! identity {identity}: perhaps somebody else)");
        }
        let mut text = match self.kind {
            TextKind::Emote => format!("* {who} {}", self.body),
            TextKind::Notice => format!("{who} notes: {}", self.body),
            TextKind::Text => format!("{who}: {}", self.body),
        };
        if self.late {
            text.push_str("  (sent before a removal was seen)");
        }
        text
    }
}

//! What is said, on its way from one network to the other.
//!
//! A new kind of message is a variant of [`Said`], and a line in each of the two conversions
//! ([`super::to_matrix`], [`super::to_native`]); routing, storing and delivering it name no kind.

use causeway_protocol::{
    content::{MessageRef, TextKind},
    ids::{AccountId, EnvelopeId, Timestamp},
};
use ruma::{OwnedEventId, OwnedUserId};
use serde::{Deserialize, Serialize};

/// What somebody says. `R` is how a side names a message that this one is about: [`MessageRef`]
/// natively, an event id in Matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said<R> {
    /// A text, and the message that it answers.
    Text(Text, Option<R>),
}

impl<R> Said<R> {
    /// The message that this one is about.
    pub fn about(&self) -> Option<&R> {
        match self {
            Self::Text(_, reply_to) => reply_to.as_ref(),
        }
    }

    /// The same for the other side, where the message that it is about is `found`; a text whose
    /// question is not known there stands alone.
    pub fn across<S>(&self, found: Option<S>) -> Said<S> {
        match self {
            Self::Text(text, _) => Said::Text(text.clone(), found),
        }
    }
}

/// Words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// How they are meant.
    pub kind: TextKind,
    /// As plain text.
    pub body: String,
    /// As sanitised HTML, where they are formatted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

/// A message that a native account said in the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// Who.
    pub account: AccountId,
    /// How others refer to it.
    pub reference: MessageRef,
    /// The server's name for it.
    pub message_id: EnvelopeId,
    /// When it ends being of use.
    pub expires_at: Timestamp,
    /// Sent before the sender's client could see that its removal had come.
    pub late: bool,
    /// What.
    pub said: Said<MessageRef>,
}

/// What a Matrix user said, for the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relayed {
    /// Who.
    pub mirror: OwnedUserId,
    /// The event it came in; of its first part, the one that others refer to.
    pub event_id: OwnedEventId,
    /// What.
    pub said: Said<OwnedEventId>,
}

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

    /// Whether somebody may be named in it.
    pub fn may_name_people(&self) -> bool {
        match self {
            Self::Text(text, _) => text.body.contains('@'),
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
    /// When the sender's client says that it was said; nobody vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// Sent before the sender's client could see that its removal had come.
    pub late: bool,
    /// What.
    pub said: Said<MessageRef>,
}

/// From so long on what was said shows its own time instead of the homeserver's, milliseconds.
pub const OLD_MS: u64 = 5_000;

impl Spoken {
    /// The time that it bears in the room; `None` for the homeserver's own. It is what the sender's
    /// client says, but not before it can have been said: what was taken in at `accepted_at` was to
    /// live from then until its end, and cannot have waited longer before.
    pub fn own_time(&self, accepted_at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let said = self.sent_at.or(accepted_at)?;
        let accepted = accepted_at.unwrap_or(said);
        let life_ms = self.expires_at.0.saturating_sub(accepted.0);
        let said = Timestamp(said.0.max(accepted.0.saturating_sub(life_ms)));
        (said.plus_ms(OLD_MS) <= now).then_some(said)
    }
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

#[cfg(test)]
mod tests {
    use causeway_protocol::ids::{ClientId, DeviceId};

    use super::*;

    #[test]
    fn an_answer_is_about_what_it_answers() {
        let text = || Text { kind: TextKind::Text, body: "hi".to_owned(), html: None };
        assert_eq!(Said::Text(text(), Some(5)).about(), Some(&5));
        assert_eq!(Said::<u8>::Text(text(), None).about(), None);
    }

    #[test]
    fn what_is_old_bears_its_own_time_and_none_that_cannot_be() {
        let text = Text { kind: TextKind::Text, body: String::new(), html: None };
        let spoken = |sent_at: Option<u64>| Spoken {
            account: "bob:b.example".parse().unwrap(),
            reference: MessageRef {
                device: DeviceId::new([1; 32]),
                client_id: ClientId::new([2; 16]),
            },
            message_id: EnvelopeId::new([3; 16]),
            expires_at: Timestamp(150_000),
            sent_at: sent_at.map(Timestamp),
            late: false,
            said: Said::Text(text.clone(), None),
        };
        // When it was said, taken in, and is said in the room; the time that it bears.
        let table = [
            (Some(99_000), Some(100_000), 100_000, None),
            (Some(96_000), Some(100_000), 101_000, Some(96_000)),
            (Some(100_000), Some(100_000), 104_999, None),
            (Some(100_000), Some(100_000), 105_000, Some(100_000)),
            // From the future; from before what lives so long can be from.
            (Some(999_000), Some(100_000), 140_000, None),
            (Some(1), Some(100_000), 140_000, Some(50_000)),
            (None, Some(100_000), 140_000, Some(100_000)),
            (Some(60_000), None, 140_000, Some(60_000)),
            (None, None, 140_000, None),
        ];
        for (said, accepted, now, expected) in table {
            let found = spoken(said).own_time(accepted.map(Timestamp), Timestamp(now));
            assert_eq!(found, expected.map(Timestamp), "{said:?} {accepted:?} {now}");
        }
    }
}

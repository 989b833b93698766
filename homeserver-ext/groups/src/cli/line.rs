//! One line of `tail`: what came in, as it is kept, as JSON, and as people read it.

mod identity;
mod imported;
mod message;
mod roster;
mod shared;

use causeway_protocol::{
    content::{Content, ContentType, Mirror},
    ids::{AccountId, ClientId, DeviceId, EnvelopeId, Epoch, GroupId, Timestamp},
    roster::Role,
};
use serde::{Deserialize, Serialize};

use super::{
    called::in_words,
    harmless::{harmless, one_line},
    local_time::LocalTime,
};
use crate::{
    machine::{Incoming, OfferShown, Trust, What},
    storage::history::Name,
};

use identity::IdentityLine;
pub(super) use imported::Imported;
pub(super) use message::Message;
use roster::RosterLine;
pub(super) use shared::Shared;

/// A line with its place. `row` rises by one with each line of a home, over all its groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Its place in this home's history.
    pub(super) row: i64,
    /// In which group.
    pub(super) group: GroupId,
    /// What the group was called then.
    pub(super) group_name: String,
    /// When it came.
    pub(super) at_ms: Timestamp,
    /// What it is.
    #[serde(flatten)]
    pub(super) what: Said,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said {
    /// A message.
    Message(Message),
    /// A message that another program has kept.
    Imported(Imported),
    /// A text of before, as a member has shared it.
    Shared(Shared),
    /// The group's roster changed.
    Roster(RosterLine),
    /// Matrix users came or went behind the bridge.
    Mirrors {
        /// Who came, by Matrix id, with the name shown there.
        present: Vec<Mirror>,
        /// Who went.
        gone: Vec<String>,
    },
    /// Someone asks to be let in; nothing of it is checked yet.
    JoinAsked {
        /// Who says so.
        account: AccountId,
        /// Whether he was removed before: then only `member add` lets him in.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        was_removed: bool,
    },
    /// A message of ours that somebody's device did not take in time.
    Expired {
        /// Which.
        id: EnvelopeId,
    },
    /// A message of ours that was given up; nobody has it.
    Unsent {
        /// What this device calls it.
        client_id: ClientId,
        /// What it says.
        body: String,
        /// Why.
        reason: String,
    },
    /// A message that cannot be read.
    Failed {
        /// Which.
        id: EnvelopeId,
        /// From which device; absent where the server made it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<DeviceId>,
        /// Why, in one word.
        reason: String,
    },
    /// The server has shown a second history; nothing is sent in this group until it is decided.
    Fork {
        /// The epoch that two ops make.
        epoch: Epoch,
        /// Whether only a member's client says so, and the server has not shown it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        only_said: bool,
    },
    /// A member, or who wants to be one, is not who that account is known to be.
    Identity(IdentityLine),
    /// Somebody has added this account to a group; nothing goes there before it is taken.
    Offered {
        /// Who.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<AccountId>,
        /// Who that is: `unmet`, `pinned`, `verified`, or loudly `changed`, `borrowed`, `former`.
        identity: String,
        /// How many are in it.
        members: usize,
    },
    /// A message of a kind that this version does not know.
    Unknown {
        /// Which.
        id: EnvelopeId,
        /// From whom.
        sender: AccountId,
        /// Type byte of its plaintext.
        content_type: u8,
    },
}

impl Said {
    /// What is shown of what came in; nothing of keys, holds and duplicates.
    pub(super) fn from_what(what: What) -> Option<Self> {
        Some(match what {
            What::Message(incoming) => return Self::from_message(incoming),
            What::Roster(change) => Self::Roster(change.into()),
            What::JoinAsked { account, was_removed, .. } => {
                Self::JoinAsked { account, was_removed }
            }
            What::Expired { id } => Self::Expired { id },
            What::Failed { id, sender, reason } => {
                Self::Failed { id, device: sender, reason: reason.to_owned() }
            }
            What::Identity(shown) => Self::Identity(shown.into()),
            What::Offered(OfferShown { by, trust, members }) => {
                Self::Offered { by, identity: trust.name().to_owned(), members }
            }
            What::Fork(fork) => Self::Fork { epoch: fork.epoch, only_said: fork.other.is_none() },
            // Of which there are many lines.
            What::Past(_) | What::Held { .. } | What::Duplicate | What::Keys | What::Signal(_) => {
                return None;
            }
        })
    }

    fn from_message(incoming: Incoming) -> Option<Self> {
        let bridge = incoming.role == Role::Bridge;
        let identity = incoming.trust.is_wrong().then(|| incoming.trust.name().to_owned());
        let own = incoming.trust == Trust::Me;
        let Incoming { id, sender, device, client_id, sent_at, content, late, .. } = incoming;
        Some(match content {
            Content::Text(text) => Self::Message(Message {
                id,
                sender,
                device,
                client_id,
                kind: text.kind,
                body: text.body,
                html: text.html,
                reply_to: text.reply_to,
                reply_row: None,
                mirror: text.mirror.map(|id| Mirror { name: id.clone(), id }),
                identity,
                own,
                bridge,
                sent_at_ms: sent_at,
                late,
            }),
            Content::Mirrors(mirrors) => {
                Self::Mirrors { present: mirrors.mirrors, gone: mirrors.gone }
            }
            Content::Unknown(content_type, _) => Self::Unknown { id, sender, content_type },
            // Between clients, and from an admin to the bridge: nothing to show.
            Content::RosterSync(_) | Content::BridgeRequest(_) => return None,
        })
    }
}

impl Line {
    /// What it is called, where it is a message.
    pub(super) fn name(&self) -> Option<Name> {
        let (device, client_id, own) = match &self.what {
            Said::Message(said) => (said.device, said.client_id, said.own),
            Said::Imported(said) => (said.device, said.client_id, false),
            _ => return None,
        };
        Some(Name { device, client_id, own })
    }

    /// Whether it was said by this account.
    pub(super) fn is_own(&self) -> bool {
        matches!(&self.what, Said::Message(Message { own: true, .. }))
    }

    /// What was said, where something was.
    pub(super) fn body(&self) -> Option<&str> {
        match &self.what {
            Said::Message(Message { body, .. })
            | Said::Imported(Imported { body, .. })
            | Said::Shared(Shared { body, .. })
            | Said::Unsent { body, .. } => Some(body),
            _ => None,
        }
    }

    /// When it was said, or came.
    pub(super) fn at(&self) -> Timestamp {
        match &self.what {
            Said::Message(message) => message.sent_at_ms,
            Said::Imported(imported) => imported.sent_at_ms,
            Said::Shared(shared) => shared.sent_at_ms,
            _ => self.at_ms,
        }
    }

    /// For people, who call this program like this; what others wrote cannot move their cursor or turn
    /// their text around.
    pub(super) fn to_text(&self, time: &LocalTime, called: &str) -> String {
        let (time, group) = (time.of(self.at()), one_line(&self.group_name));
        format!("{time} [{group}] {}", self.to_short_text(called))
    }

    /// As [`Self::to_text`], where it is clear which group it is of, and when.
    pub(super) fn to_short_text(&self, called: &str) -> String {
        let number = match &self.what {
            Said::Message(_) => format!("#{} ", self.row),
            _ => String::new(),
        };
        let words = match &self.what {
            Said::JoinAsked { .. }
            | Said::Fork { .. }
            | Said::Offered { .. }
            | Said::Identity(_) => in_words(&self.words(), called),
            // Others' words, which are shown as they are.
            _ => self.words(),
        };
        number + &harmless(&words)
    }

    /// What it says, as it came.
    fn words(&self) -> String {
        match &self.what {
            Said::Message(message) => message.to_text(),
            Said::Imported(imported) => imported.to_text(),
            Said::Shared(shared) => shared.to_text(),
            Said::Roster(roster) => roster.to_text(),
            Said::Mirrors { present, gone } => mirrors_text(present, gone),
            Said::JoinAsked { account, was_removed: false } => {
                format!("-- {account} asks to be let in")
            }
            Said::JoinAsked { account, was_removed: true } => format!(
                "-- {account}, who was removed before, asks to be let in; if you want that: \
                 causeway-client member add {} {account}",
                self.group
            ),
            Said::Expired { id } => format!("-- message {id} was not taken in time by a device"),
            Said::Unsent { body, reason, .. } => format!("!! not sent, {reason}: {body}"),
            Said::Failed { id, device, reason } => {
                let device =
                    device.map_or_else(|| "the server".to_owned(), |d| format!("device {d}"));
                format!("!! {id} from {device} cannot be read: {reason}")
            }
            Said::Fork { epoch, only_said: true } => format!(
                "!! somebody's client says that this group has another history from epoch {epoch} \
                 on, which the server does not show: causeway-client group fork show {}",
                self.group
            ),
            Said::Fork { epoch, only_said: false } => format!(
                "!! the server shows a second history of this group from epoch {epoch} on; nothing \
                 is sent here until you decide: causeway-client group fork show {}",
                self.group
            ),
            Said::Offered { by, identity, members } => {
                let by = by.as_ref().map_or_else(|| "somebody".to_owned(), ToString::to_string);
                let loud = match identity.as_str() {
                    "changed" | "borrowed" | "former" => {
                        format!(" (!! identity {identity}: perhaps somebody else)")
                    }
                    _ => String::new(),
                };
                format!(
                    "-- {by}{loud} has put you into this group of {members}; nothing of yours goes \
                     there until you take it: causeway-client group accept {}, or group leave {}",
                    self.group, self.group
                )
            }
            Said::Identity(line) => line.to_text(&self.group),
            Said::Unknown { sender, content_type, .. } => {
                let kind = match ContentType::from_number(*content_type) {
                    Some(ContentType::Edit) => "an edit",
                    Some(ContentType::Reaction) => "a reaction",
                    Some(ContentType::Redaction) => "that something is taken back",
                    Some(ContentType::Media) => "a file",
                    _ => "something",
                };
                format!(
                    "-- {sender} sent {kind}: this version does not show it (type {content_type})"
                )
            }
        }
    }
}

fn mirrors_text(present: &[Mirror], gone: &[String]) -> String {
    let mut parts = Vec::new();
    if !present.is_empty() {
        let names = present.iter().map(|m| one_line(&format!("{} ({})", m.name, m.id)));
        parts.push(format!("{} can read here through Matrix", list(names)));
    }
    if !gone.is_empty() {
        let gone = gone.iter().map(|id| one_line(id));
        parts.push(format!("{} cannot read here any more", list(gone)));
    }
    format!("-- {}", parts.join("; "))
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use causeway_protocol::content::TextKind;

    use super::*;

    #[test]
    fn a_matrix_user_is_said_to_speak_through_the_bridge() {
        let line = Line {
            row: 1,
            group: GroupId::new([1; 32]),
            group_name: "team".to_owned(),
            at_ms: Timestamp(1),
            what: Said::Message(Message {
                id: EnvelopeId::new([2; 16]),
                sender: "bot:b.example".parse().unwrap(),
                device: DeviceId::new([3; 32]),
                client_id: ClientId::new([4; 16]),
                kind: TextKind::Text,
                body: "hello".to_owned(),
                html: None,
                reply_to: None,
                reply_row: None,
                mirror: Some(Mirror { id: "@u:m.example".to_owned(), name: "Ursula".to_owned() }),
                identity: None,
                own: false,
                bridge: true,
                sent_at_ms: Timestamp(1),
                late: false,
            }),
        };
        assert_eq!(
            line.to_text(&LocalTime::utc(Timestamp(2)), "causeway-client"),
            "00:00 [team] #1 Ursula (Matrix, via b.example): hello"
        );
        let json = serde_json::to_value(&line).unwrap();
        assert_eq!(json["type"], "message");
        assert_eq!(json["row"], 1);
        assert_eq!(serde_json::from_value::<Line>(json).unwrap(), line);
    }
}

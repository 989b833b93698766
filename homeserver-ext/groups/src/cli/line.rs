//! One line of `tail`: what came in, as it is kept, as JSON, and as people read it.

mod identity;

use std::fmt::Write as _;

use causeway_protocol::{
    content::{Content, MessageRef, Mirror, TextKind},
    ids::{AccountId, ClientId, DeviceId, EnvelopeId, Epoch, GroupId, Timestamp},
    roster::Role,
};
use serde::{Deserialize, Serialize};

use super::{
    harmless::{harmless, one_line},
    names,
};
use crate::machine::{Incoming, OfferShown, RosterChange, What};

use identity::IdentityLine;

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

/// A message as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    /// Its envelope.
    pub(super) id: EnvelopeId,
    /// Who sent it.
    pub(super) sender: AccountId,
    /// From which device.
    pub(super) device: DeviceId,
    /// What that device calls it.
    pub(super) client_id: ClientId,
    /// How it is meant.
    pub(super) kind: TextKind,
    /// What it says.
    pub(super) body: String,
    /// The same with formatting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) html: Option<String>,
    /// The message it answers, `<device>/<client_id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reply_to: Option<MessageRef>,
    /// The Matrix user that the bridge speaks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mirror: Option<Mirror>,
    /// Where its sender is not who that account is known to be: `changed`, `borrowed`, `former`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<String>,
    /// Whether it is from the bridge itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) bridge: bool,
    /// When its sender says it was sent.
    pub(super) sent_at_ms: Timestamp,
    /// Whether it was sent before a removal was seen by its sender.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) late: bool,
}

/// A change of the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RosterLine {
    /// The epoch that it made.
    pub(super) epoch: Epoch,
    /// Which op: `create`, `add`, `remove`, `role`, `policy`, `leave`, `devices`, `close`.
    pub(super) change: String,
    /// Who signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<AccountId>,
    /// Who came, with their roles.
    pub(super) joined: Vec<Joined>,
    /// Who went.
    pub(super) left: Vec<AccountId>,
    /// Whether this account came in with it.
    pub(super) me_joined: bool,
    /// Whether this account went out with it.
    pub(super) me_left: bool,
}

/// Who came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Joined {
    /// The account.
    pub(super) account: AccountId,
    /// `member`, `admin` or `bridge`.
    pub(super) role: String,
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
            What::Held { .. } | What::Duplicate | What::Keys => return None,
        })
    }

    fn from_message(incoming: Incoming) -> Option<Self> {
        let bridge = incoming.role == Role::Bridge;
        let identity = incoming.trust.is_wrong().then(|| incoming.trust.name().to_owned());
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
                mirror: text.mirror.map(|id| Mirror { name: id.clone(), id }),
                identity,
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

impl From<RosterChange> for RosterLine {
    fn from(change: RosterChange) -> Self {
        let joined = |(account, role)| Joined { account, role: names::role(role).to_owned() };
        Self {
            epoch: change.epoch,
            change: change.kind.name().to_owned(),
            by: change.by,
            joined: change.joined.into_iter().map(joined).collect(),
            left: change.left,
            me_joined: change.me_joined,
            me_left: change.me_left,
        }
    }
}

impl Line {
    /// For people; what others wrote cannot move their cursor or turn their text around.
    pub(super) fn to_text(&self) -> String {
        let said = match &self.what {
            Said::Message(message) => message.to_text(),
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
                format!(
                    "-- {sender} sent something this version does not know (type {content_type})"
                )
            }
        };
        format!("[{}] {}", one_line(&self.group_name), harmless(&said))
    }
}

impl Message {
    fn to_text(&self) -> String {
        let mut who = match &self.mirror {
            Some(mirror) => {
                format!("{} (Matrix, via {})", one_line(&mirror.name), self.sender.server())
            }
            None if self.bridge => format!("{} (bridge)", self.sender),
            None => self.sender.to_string(),
        };
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

impl RosterLine {
    /// Whether a bridge is in the group since.
    pub(super) fn lets_bridge_in(&self) -> bool {
        self.joined.iter().any(|joined| joined.role == "bridge")
    }

    fn to_text(&self) -> String {
        let by = self.by.as_ref().map_or_else(|| "someone".to_owned(), ToString::to_string);
        let mut text = match self.change.as_str() {
            "create" => format!("-- {by} made the group"),
            "add" => {
                let joined = self.joined.iter().map(Joined::to_text);
                format!("-- {by} let in {}", list(joined))
            }
            "remove" => format!("-- {by} removed {}", list(self.left.iter())),
            "leave" => format!("-- {by} left"),
            "close" => format!("-- {by} closed the group; nothing follows"),
            "role" => format!("-- {by} changed a role"),
            "policy" => format!("-- {by} changed the group's policy"),
            "devices" => format!("-- {by} changed their devices"),
            other => format!("-- {by}: {other}"),
        };
        if self.lets_bridge_in() {
            text.push_str("; that server can read everything from now on");
        }
        if self.me_left {
            text.push_str(" (you are not in it any more)");
        }
        let _ = write!(text, " [epoch {}]", self.epoch);
        text
    }
}

impl Joined {
    fn to_text(&self) -> String {
        match self.role.as_str() {
            "member" => self.account.to_string(),
            role => format!("{} as {role}", self.account),
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
                mirror: Some(Mirror { id: "@u:m.example".to_owned(), name: "Ursula".to_owned() }),
                identity: None,
                bridge: true,
                sent_at_ms: Timestamp(1),
                late: false,
            }),
        };
        assert_eq!(line.to_text(), "[team] Ursula (Matrix, via b.example): hello");
        let json = serde_json::to_value(&line).unwrap();
        assert_eq!(json["type"], "message");
        assert_eq!(json["row"], 1);
        assert_eq!(serde_json::from_value::<Line>(json).unwrap(), line);
    }
}

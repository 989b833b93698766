//! A change of the roster, in one line.

use std::fmt::Write as _;

use causeway_protocol::ids::{AccountId, Epoch};
use serde::{Deserialize, Serialize};

use super::{
    super::{harmless::one_line, names},
    list,
};
use crate::machine::{PolicyChange, RosterChange};

/// A change of the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RosterLine {
    /// The epoch that it made.
    pub(crate) epoch: Epoch,
    /// Which op: `create`, `add`, `remove`, `role`, `policy`, `leave`, `devices`, `close`; of a
    /// `policy` that has changed nothing else, `name` or `topic`.
    pub(crate) change: String,
    /// Who signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<AccountId>,
    /// Who came, with their roles.
    pub(crate) joined: Vec<Joined>,
    /// Who went.
    pub(crate) left: Vec<AccountId>,
    /// Whether this account came in with it.
    pub(crate) me_joined: bool,
    /// Whether this account went out with it.
    pub(crate) me_left: bool,
    /// How the group is called since, where that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// What it is about since, where that is new; empty where nothing is said of it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) topic: Option<String>,
    /// Whether anything else of what it allows is new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) settings: bool,
}

/// Who came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Joined {
    /// The account.
    pub(crate) account: AccountId,
    /// `member`, `admin` or `bridge`.
    pub(crate) role: String,
}

impl From<RosterChange> for RosterLine {
    fn from(change: RosterChange) -> Self {
        let joined = |(account, role)| Joined { account, role: names::role(role).to_owned() };
        let policy = change.policy.unwrap_or_default();
        let kind = match &policy {
            PolicyChange { name: Some(_), topic: None, settings: false } => "name",
            PolicyChange { name: None, topic: Some(_), settings: false } => "topic",
            _ => change.kind.name(),
        };
        Self {
            epoch: change.epoch,
            change: kind.to_owned(),
            by: change.by,
            joined: change.joined.into_iter().map(joined).collect(),
            left: change.left,
            me_joined: change.me_joined,
            me_left: change.me_left,
            name: policy.name,
            topic: policy.topic,
            settings: policy.settings,
        }
    }
}

impl RosterLine {
    /// Whether a bridge is in the group since.
    pub(crate) fn lets_bridge_in(&self) -> bool {
        self.joined.iter().any(|joined| joined.role == "bridge")
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
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
            "name" | "topic" | "policy" => format!("-- {by} {}", self.policy_text()),
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

    fn policy_text(&self) -> String {
        let name = self.name.as_deref();
        let name = name.map(|name| format!("renamed the group to “{}”", one_line(name)));
        let topic = self.topic.as_deref().map(|topic| match topic {
            "" => "took the topic away".to_owned(),
            topic => format!("set the topic to “{}”", one_line(topic)),
        });
        let settings = self.settings.then(|| "changed the group's settings".to_owned());
        let all: Vec<_> = [name, topic, settings].into_iter().flatten().collect();
        // Kept by a version that did not say which.
        if all.is_empty() {
            return "changed the group's name, topic or settings".to_owned();
        }
        list(all.iter())
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_is_told_as_far_as_it_is_known_also_where_an_older_version_kept_it() {
        let told = |what: serde_json::Value| {
            let mut line = json!({
                "epoch": 3, "change": "policy", "by": "ann:b.example", "joined": [], "left": [],
                "me_joined": false, "me_left": false,
            });
            line.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
            serde_json::from_value::<RosterLine>(line).unwrap().to_text()
        };
        for (what, words) in [
            (json!({}), "changed the group's name, topic or settings"),
            (json!({"settings": true}), "changed the group's settings"),
            (
                json!({"name": "Tea", "topic": "", "settings": true}),
                "renamed the group to “Tea”, took the topic away, changed the group's settings",
            ),
        ] {
            assert_eq!(told(what), format!("-- ann:b.example {words} [epoch 3]"));
        }
    }
}

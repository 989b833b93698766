//! A change of the roster, in one line.

use std::fmt::Write as _;

use causeway_protocol::ids::{AccountId, Epoch};
use serde::{Deserialize, Serialize};

use super::{super::names, list};
use crate::machine::RosterChange;

/// A change of the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RosterLine {
    /// The epoch that it made.
    pub(crate) epoch: Epoch,
    /// Which op: `create`, `add`, `remove`, `role`, `policy`, `leave`, `devices`, `close`.
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
            "policy" => format!("-- {by} changed the group's name, topic or settings"),
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

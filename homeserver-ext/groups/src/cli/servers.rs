//! On which servers a group's members are, and what waits for those that are not one's own.

use std::{collections::BTreeMap, fmt::Write as _};

use causeway_protocol::{
    api::{GroupServer, GroupServers},
    ids::{AccountId, Timestamp},
    roster::Roster,
};
use serde::{Serialize, Serializer};
use serde_json::json;

use super::{harmless::one_line, local_time::LocalTime};
use crate::sdk::Client;

/// Members who are named; of more it is said how many they are.
const NAMED: usize = 3;

/// A server that takes nothing now.
#[derive(Serialize)]
pub(super) struct Unreached {
    server: String,
    since_ms: Option<Timestamp>,
    #[serde(skip)]
    since: Option<String>,
    #[serde(serialize_with = "count")]
    members: Vec<AccountId>,
}

impl Unreached {
    /// For people, in one line.
    pub(super) fn to_text(&self) -> String {
        let since = self.since.as_ref().map_or_else(String::new, |since| format!(" since {since}"));
        let who = if self.members.len() > NAMED {
            format!("{} members", self.members.len())
        } else {
            let names: Vec<_> = self.members.iter().map(AccountId::as_str).collect();
            names.join(", ")
        };
        format!("{} cannot be reached{since}: {who} will read this when it is back", self.server)
    }
}

#[expect(clippy::ptr_arg, reason = "what serde calls")]
fn count<S: Serializer>(members: &Vec<AccountId>, to: S) -> Result<S::Ok, S::Error> {
    members.len().serialize(to)
}

/// The servers of a group; none where all are on one's own.
pub(super) struct OfGroup {
    home: Option<String>,
    /// How many members are on each.
    members: BTreeMap<String, usize>,
    /// What one's own server knows of the others, as far as it could be asked.
    others: BTreeMap<String, GroupServer>,
    mine: String,
    time: LocalTime,
}

impl OfGroup {
    /// As one's own server knows it now; one that does not answer takes nothing from what is known here.
    pub(super) async fn of(client: &Client, roster: &Roster) -> Option<Self> {
        let mine = client.me().account.server().to_owned();
        let mut members: BTreeMap<String, usize> = BTreeMap::new();
        for member in roster.members().values() {
            *members.entry(member.account.server().to_owned()).or_default() += 1;
        }
        if members.keys().all(|server| *server == mine) {
            return None;
        }
        let said = match client.http().group_servers(roster.group()).await {
            Ok(said) => Some(said),
            Err(error) => {
                tracing::debug!(%error, "what waits for other servers is not known");
                None
            }
        };
        let home = said.as_ref().map(|said| said.home.clone());
        let servers = said.map_or_else(Vec::new, |GroupServers { servers, .. }| servers);
        let others = servers.into_iter().map(|of| (of.server.clone(), of)).collect();
        Some(Self { home, members, others, mine, time: LocalTime::new(client.now()) })
    }

    /// Those that cannot be reached now.
    pub(super) fn unreached(&self, roster: &Roster) -> Vec<Unreached> {
        let silent = self.others.values().filter(|of| of.silent);
        let unreached = silent.map(|of| {
            let accounts = roster.members().values().map(|member| &member.account);
            let members = accounts.filter(|account| account.server() == of.server);
            Unreached {
                server: of.server.clone(),
                since_ms: of.waits_since_ms,
                since: of.waits_since_ms.map(|since| self.time.of(since)),
                members: members.cloned().collect(),
            }
        });
        unreached.collect()
    }

    /// For people, a line for each.
    pub(super) fn to_text(&self) -> String {
        let lines = self.members.iter().map(|(server, count)| {
            let members = if *count == 1 { "member" } else { "members" };
            let mut line = format!("  {:<28} {count} {members}", one_line(server));
            if self.home.as_deref() == Some(server) {
                line.push_str("; the group's home");
            }
            if *server == self.mine {
                line.push_str("; yours");
            }
            let Some(of) = self.others.get(server) else { return line };
            if of.waiting > 0 {
                let since =
                    of.waits_since_ms.map(|since| format!(" since {}", self.time.of(since)));
                let since = since.unwrap_or_default();
                let wait = if of.waiting == 1 { "message waits" } else { "messages wait" };
                let _ = write!(line, "; {} {wait} for it{since}", of.waiting);
            }
            if let Some(heard) = of.heard_ms {
                let _ = write!(line, "; heard of {}", self.time.of(heard));
            }
            line
        });
        let lines: Vec<String> = lines.collect();
        format!("\nservers\n{}\n", lines.join("\n"))
    }

    /// For programs.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let server = |(server, members): (&String, &usize)| {
            let of = self.others.get(server);
            json!({
                "server": server, "members": members, "home": self.home.as_ref() == Some(server),
                "own": *server == self.mine, "waiting": of.map(|of| of.waiting),
                "waits_since_ms": of.and_then(|of| of.waits_since_ms),
                "heard_ms": of.and_then(|of| of.heard_ms),
            })
        };
        self.members.iter().map(server).collect()
    }
}

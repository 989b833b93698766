//! Who reads a group on Matrix, through its bridge: as far as the bridge has said, and `tail` has
//! heard of it.

use std::fmt::Write as _;

use causeway_protocol::{ids::AccountId, roster::Roster};
use serde_json::{Value, json};

use super::{exit::Failure, harmless::one_line};
use crate::{
    sdk::Client,
    storage::mirrors::{self, Reader},
};

/// Those whom one page names, and how many there are.
pub(super) struct Readers {
    bridge: Option<AccountId>,
    named: Vec<Reader>,
    next: Option<String>,
    all: usize,
}

impl Readers {
    /// From `from` on, at most `limit`; nobody where there is no bridge.
    pub(super) async fn of(
        client: &Client,
        roster: &Roster,
        from: &str,
        limit: u32,
    ) -> Result<Self, Failure> {
        let Some((_, bridge)) = roster.bridge() else {
            return Ok(Self { bridge: None, named: Vec::new(), next: None, all: 0 });
        };
        let group = roster.group();
        let mut read = client.db().read().await?;
        let mut named = mirrors::readers(read.conn(), &group, from, limit + 1).await?;
        let all = mirrors::count(read.conn(), &group).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let next = named.get(limit).map(|reader| reader.id.clone());
        named.truncate(limit);
        Ok(Self { bridge: Some(bridge.account.clone()), named, next, all })
    }

    /// For people; nothing where there is no bridge.
    pub(super) fn to_text(&self) -> String {
        let Some(bridge) = &self.bridge else { return String::new() };
        let mut text = format!("\nRead on Matrix through {bridge} by ");
        if self.all == 0 {
            text.push_str("nobody of whom it has told.");
            return text;
        }
        let each = self.named.iter().map(|Reader { id, name }| format!("{name} ({id})"));
        text.push_str(&one_line(&each.collect::<Vec<_>>().join(", ")));
        let more = self.all - self.named.len().min(self.all);
        if more > 0 {
            let and = if self.named.is_empty() { "" } else { " and " };
            let _ = write!(text, "{and}{more} more");
        }
        if let Some(next) = &self.next {
            let _ = write!(
                text,
                "; `causeway-client member list` names them, --from {}",
                one_line(next)
            );
        }
        text
    }

    /// For people, each on a line.
    pub(super) fn to_rows(&self) -> Vec<String> {
        let Some(bridge) = &self.bridge else { return Vec::new() };
        let mut rows =
            vec![format!("On Matrix, through {bridge}, as far as it has told: {}", self.all)];
        rows.extend(self.named.iter().map(|Reader { id, name }| format!("  {name} ({id})")));
        let more = self.all - self.named.len().min(self.all);
        if more > 0 {
            rows.push(format!("  and {more} more, whom `causeway-client member list` names"));
        }
        rows
    }

    /// For programs; null where there is no bridge.
    pub(super) fn to_json(&self) -> Value {
        let named = self.named.iter().map(|Reader { id, name }| json!({"id": id, "name": name}));
        let of = |bridge: &AccountId| {
            json!({
                "bridge": bridge, "readers": named.collect::<Vec<_>>(), "count": self.all,
                "more": self.all - self.named.len().min(self.all), "next": self.next,
            })
        };
        self.bridge.as_ref().map(of).into()
    }
}

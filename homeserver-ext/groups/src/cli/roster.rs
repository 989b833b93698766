//! The members of a roster, for people and for programs.

use causeway_protocol::{
    keys::fingerprint,
    roster::{Member, Roster},
};
use serde_json::json;

use super::{names, print::table};
use crate::sdk::Client;

/// The members of a roster for people.
pub(super) fn as_table(client: &Client, roster: &Roster) -> String {
    let rows = roster.members().iter().map(|(id, member)| {
        let you = if *id == client.me().record.member_id { " (you)" } else { "" };
        [
            format!("{}{you}", member.account),
            names::role(member.role).to_owned(),
            member.devices.len().to_string(),
            fingerprint(id),
        ]
    });
    table(["account", "role", "devices", "fingerprint"], rows)
}

/// The members of a roster for programs.
pub(super) fn as_json(roster: &Roster) -> Vec<serde_json::Value> {
    let member = |(id, member): (_, &Member)| {
        json!({
            "account": member.account, "role": names::role(member.role), "member_id": id,
            "fingerprint": fingerprint(id), "devices": &*member.devices,
        })
    };
    roster.members().iter().map(member).collect()
}

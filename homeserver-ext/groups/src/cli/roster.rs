//! The members of a roster, for people and for programs.

use std::collections::BTreeMap;

use causeway_protocol::{
    ids::MemberId,
    keys::fingerprint,
    roster::{Member, Roster},
};
use serde_json::json;

use super::{names, print::table};
use crate::{machine::Trust, sdk::Client};

/// Who each member is, as far as is known here.
type Trusts = BTreeMap<MemberId, Trust>;

/// The members of a roster for people.
pub(super) fn as_table(client: &Client, roster: &Roster, trusts: &Trusts) -> String {
    let rows = roster.members().iter().map(|(id, member)| {
        let you = if *id == client.me().record.member_id { " (you)" } else { "" };
        let trust = trust(trusts, id);
        let loud = if trust.is_undecided() { "!! " } else { "" };
        [
            format!("{}{you}", member.account),
            names::role(member.role).to_owned(),
            member.devices.len().to_string(),
            format!("{loud}{}", trust.name()),
            fingerprint(id),
        ]
    });
    table(["account", "role", "devices", "identity", "fingerprint"], rows)
}

/// The members of a roster for programs.
pub(super) fn as_json(roster: &Roster, trusts: &Trusts) -> Vec<serde_json::Value> {
    let member = |(id, member): (&MemberId, &Member)| {
        json!({
            "account": member.account, "role": names::role(member.role), "member_id": id,
            "identity": trust(trusts, id).name(), "fingerprint": fingerprint(id),
            "devices": &*member.devices,
        })
    };
    roster.members().iter().map(member).collect()
}

fn trust(trusts: &Trusts, id: &MemberId) -> Trust {
    trusts.get(id).copied().unwrap_or(Trust::Unmet)
}

//! `group show`: who can read a group, what it allows, who is in it.

use std::fmt::Write as _;

use serde_json::json;

use super::super::{
    exit::Failure,
    harmless::{harmless, one_line},
    home::Home,
    names::{self, Named},
    print::Printer,
    readers::Readers,
    roster::{as_json, as_table},
    servers::OfGroup,
    span,
};

/// How many of those who read on Matrix are named; `member list` names all.
const NAMED: u32 = 10;

pub(super) async fn run(named: &Named, home: &Home, printer: Printer) -> Result<(), Failure> {
    let client = home.client().await?;
    let roster = names::current_or_kept(&client, &named.group, printer).await?;
    let group = roster.group();
    let policy = roster.policy();
    let fork = client.fork(group).await?;
    let trusts = client.trusts(&roster).await?;
    let forked = fork.is_some_and(|view| view.fork.other.is_some());
    let by = |all: bool| if all { "every member" } else { "admins" };
    let mut text = format!(
        "{}\n  id            {group}\n  epoch         {}\n  roster        {}\n  who can read  {}\n  \
         sealed        {}\n  let in by     {}\n  written by    {}\n  kept for      {}\n",
        one_line(&policy.name),
        roster.epoch(),
        roster.hash(),
        names::confidentiality(&roster),
        names::scheme(roster.scheme()),
        by(policy.members_may_add()),
        by(!policy.is_channel()),
        span::in_words(policy.ttl_s),
    );
    if !policy.description.is_empty() {
        let _ = writeln!(text, "  about         {}", harmless(&policy.description));
    }
    if let Some(id) = names::legacy_id(&roster) {
        let _ = writeln!(text, "  legacy id     {id}");
    }
    if roster.closed() {
        text.push_str("  closed: nothing follows\n");
    }
    if roster.member(&client.me().record.member_id).is_none() {
        text.push_str("  you are not in it any more\n");
    }
    let offer = client.offer(group).await?;
    if let Some(offer) = &offer {
        let by = offer.by.as_ref().map_or_else(|| "somebody".to_owned(), ToString::to_string);
        let _ = writeln!(
            text,
            "  offered by    {by}: you take no part before `causeway-client group accept {group}`; {} \
             rows wait unopened",
            offer.waiting
        );
    }
    if forked {
        text.push_str("  !! two histories: see `causeway-client group fork show`\n");
    }
    for (id, member) in roster.members() {
        if trusts.get(id).is_some_and(|trust| trust.is_undecided()) {
            let _ = writeln!(
                text,
                "  !! {} is not who that account is known to be: nothing is sent here until you \
                 decide, `causeway-client verify {}`",
                member.account, member.account
            );
        }
    }
    text.push('\n');
    text.push_str(&as_table(&client, &roster, &trusts));
    let servers = OfGroup::of(&client, &roster).await;
    text.push_str(&servers.as_ref().map(OfGroup::to_text).unwrap_or_default());
    let readers = Readers::of(&client, &roster, "", NAMED).await?;
    text.push_str(&readers.to_text());
    printer.show(
        &text,
        &json!({
            "group": group, "name": policy.name, "description": policy.description,
            "epoch": roster.epoch(), "roster_hash": roster.hash(), "closed": roster.closed(),
            "members_may_add": policy.members_may_add(), "channel": policy.is_channel(),
            "confidentiality": names::confidentiality(&roster),
            "scheme": names::scheme(roster.scheme()), "legacy": names::legacy(&roster),
            "legacy_id": names::legacy_id(&roster), "max_members": policy.max_members, "ttl_s": policy.ttl_s,
            "bridge": roster.bridge().map(|(_, bridge)| &bridge.account), "forked": forked,
            "state": match (roster.member(&client.me().record.member_id), &offer) {
                (None, _) => "left",
                (Some(_), Some(_)) => "offered",
                (Some(_), None) => "taken",
            },
            "offered_by": offer.as_ref().and_then(|offer| offer.by.as_ref()),
            "members": as_json(&roster, &trusts), "matrix": readers.to_json(),
            "servers": servers.as_ref().map(OfGroup::to_json),
        }),
    )
}

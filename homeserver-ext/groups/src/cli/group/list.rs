//! `group list`: one's groups.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::{
    exit::Failure,
    harmless::one_line,
    home::Home,
    names,
    print::{Printer, table},
};

pub(super) async fn run(home: &Home, printer: Printer) -> Result<(), Failure> {
    let client = home.client().await?;
    names::or_kept(client.sync(), printer).await?;
    let rosters = client.rosters().await?;
    let me = client.me().record.member_id;
    let mut offers = BTreeMap::new();
    for roster in &rosters {
        if let Some(offer) = client.offer(roster.group()).await? {
            offers.insert(roster.group(), offer);
        }
    }
    let rows = rosters.iter().map(|roster| {
        let offered = offers.contains_key(&roster.group());
        let role = roster.member(&me).map_or("left", |me| names::role(me.role));
        [
            one_line(&roster.policy().name),
            roster.members().len().to_string(),
            match (roster.closed(), offered) {
                (true, _) => "closed",
                (false, true) => "offered",
                (false, false) => role,
            }
            .to_owned(),
            names::confidentiality(roster),
            roster.group().to_string(),
        ]
    });
    let text = if rosters.is_empty() {
        "You are in no group. Make one with `causeway-client group create NAME`.".to_owned()
    } else {
        table(["name", "members", "you", "who can read", "id"], rows)
    };
    let groups = rosters.iter().map(|roster| {
        json!({
            "group": roster.group(), "name": roster.policy().name, "epoch": roster.epoch(),
            "confidentiality": names::confidentiality(roster),
            "members": roster.members().len(), "closed": roster.closed(),
            "scheme": names::scheme(roster.scheme()), "legacy": names::legacy(roster),
            "role": roster.member(&me).map(|me| names::role(me.role)),
            "bridge": roster.bridge().map(|(_, bridge)| &bridge.account),
            "state": match (roster.member(&me), offers.contains_key(&roster.group())) {
                (None, _) => "left",
                (Some(_), true) => "offered",
                (Some(_), false) => "taken",
            },
            "offered_by": offers.get(&roster.group()).and_then(|offer| offer.by.as_ref()),
        })
    });
    printer.show(&text, &json!({"groups": groups.collect::<Vec<_>>()}))
}

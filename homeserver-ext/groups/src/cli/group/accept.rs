//! `group accept`: takes part in a group that somebody has added this account to.

use serde_json::json;

use super::super::{
    exit::Failure,
    harmless::one_line,
    home::Home,
    names::{self, Named},
    print::Printer,
};

pub(super) async fn run(named: &Named, home: &Home, printer: Printer) -> Result<(), Failure> {
    let client = home.client().await?;
    let roster = names::current(&client, &named.group).await?;
    let (group, name) = (roster.group(), &roster.policy().name);
    if roster.member(&client.me().record.member_id).is_none() {
        return Err(Failure::failed("you are not in this group")
            .next("`causeway-client group list` shows your groups."));
    }
    let offer = client.offer(group).await?;
    client.take_offer(group).await?;
    let members = roster.members().len();
    let readers = names::confidentiality(&roster);
    let waiting = offer.map_or(0, |offer| offer.waiting);
    printer.show(
        &format!(
            "You take part in `{}` ({readers}; {members} members). `causeway-client tail` shows \
             what was said.",
            one_line(name)
        ),
        &json!({
            "group": group, "name": name, "state": "taken", "members": members,
            "waiting": waiting,
        }),
    )
}

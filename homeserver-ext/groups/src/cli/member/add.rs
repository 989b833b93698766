//! `member add`: someone comes in by a person's word, without a link.

use causeway_protocol::{keys::fingerprint, roster::Role};
use clap::Args;
use serde_json::json;

use super::super::{exit::Failure, home::Home, names, print::Printer};

/// Arguments of `member add`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The group: its name, its id, or the first characters of its id
    #[arg(allow_hyphen_values = true)]
    group: String,
    /// Who: `bob:b.example`, or `bob` of your own server
    #[arg(allow_hyphen_values = true)]
    account: String,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let group = names::to_change(&client, &arguments.group).await?.group();
    let account = names::account(&client, &arguments.account)?;
    let added = client.add(group, &account, Role::Member).await;
    let epoch = added.map_err(|error| names::of_account(&account, error))?;
    let roster = client.roster(group).await?;
    let member = roster.members().iter().find(|(_, member)| member.account == account);
    let fingerprint = member.map(|(id, _)| fingerprint(id));
    printer.show(
        &format!(
            "{account} is in the group [epoch {epoch}].\nFingerprint: {}\nWho does not know you has to \
             accept it first (`causeway-client group accept`).",
            fingerprint.as_deref().unwrap_or("not known"),
        ),
        &json!({"group": group, "account": account, "epoch": epoch, "fingerprint": fingerprint}),
    )
}

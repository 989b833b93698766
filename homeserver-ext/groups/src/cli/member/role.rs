//! `member role`: makes someone an admin, or a member again.

use causeway_protocol::roster::Role;
use clap::Args;
use serde_json::json;

use super::super::{
    exit::Failure,
    home::Home,
    names::{self, GivenRole},
    print::Printer,
};

/// Arguments of `member role`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The group: its name, its id, or the first characters of its id
    #[arg(allow_hyphen_values = true)]
    group: String,
    /// Who: `bob:b.example`, or `bob` of your own server
    #[arg(allow_hyphen_values = true)]
    account: String,
    /// What they may do from now on
    #[arg(value_enum)]
    role: GivenRole,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let group = names::to_change(&client, &arguments.group).await?.group();
    let account = names::account(&client, &arguments.account)?;
    let role = Role::from(arguments.role);
    let epoch = client.set_role(group, &account, role).await?;
    // A new admin is given the links that are good still; what fails is tried again.
    if let Err(error) = client.chores().await {
        tracing::debug!(%error, "links were not given to a new admin yet");
    }
    let role = names::role(role);
    printer.show(
        &format!("{account} is {role} now [epoch {epoch}]."),
        &json!({"group": group, "account": account, "role": role, "epoch": epoch}),
    )
}

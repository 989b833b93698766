//! `group rename`: another name for a group, and for its room.

use clap::Args;
use serde_json::json;

use super::{
    super::{
        exit::Failure,
        harmless::one_line,
        home::Home,
        names::{self, Named},
        print::Printer,
    },
    create::check_name,
};

/// Arguments of `group rename`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// What it is called from now on
    #[arg(allow_hyphen_values = true)]
    name: String,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let name = arguments.name;
    check_name(&name)?;
    let client = home.client().await?;
    let roster = names::to_change(&client, &arguments.named.group).await?;
    let (group, before) = (roster.group(), &roster.policy().name);
    let epoch = client.change_policy(group, &|policy| policy.name.clone_from(&name)).await?;
    printer.show(
        &format!("`{}` is `{}` now [epoch {epoch}].", one_line(before), one_line(&name)),
        &json!({"group": group, "name": name, "epoch": epoch}),
    )
}

//! `member remove`: someone goes.

use clap::Args;
use serde_json::json;

use super::super::{ask, exit::Failure, harmless::one_line, home::Home, names, print::Printer};

/// Arguments of `member remove`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The group: its name, its id, or the first characters of its id
    #[arg(allow_hyphen_values = true)]
    group: String,
    /// Who: `bob:b.example`, or `bob` of your own server
    #[arg(allow_hyphen_values = true)]
    account: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let account = names::account(&client, &arguments.account)?;
    let roster = names::to_change(&client, &arguments.group).await?;
    let (group, name) = (roster.group(), one_line(&roster.policy().name));
    ask::agree(&format!("Remove {account} from `{name}`?"), arguments.yes)?;
    let epoch = client.remove(group, &account).await?;
    printer.show(
        &format!("Removed {account}: what is sent from now on they cannot read [epoch {epoch}]."),
        &json!({"group": group, "account": account, "epoch": epoch}),
    )
}

//! `group leave`: this account goes.

use clap::Args;
use serde_json::json;

use super::super::{
    ask,
    exit::Failure,
    harmless::one_line,
    home::Home,
    names::{self, Named},
    print::Printer,
};

/// Arguments of `group leave`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(
    arguments: &Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let roster = names::to_change(&client, &arguments.named.group).await?;
    let (group, name) = (roster.group(), one_line(&roster.policy().name));
    let question = format!("Leave `{name}`? The way back is to be let in again.");
    ask::agree(&question, arguments.yes)?;
    let epoch = client.leave(group).await?;
    printer.show(&format!("Left [epoch {epoch}]."), &json!({"group": group, "epoch": epoch}))
}

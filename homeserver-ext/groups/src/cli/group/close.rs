//! `group close`: the end of a group, for everyone.

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

/// Arguments of `group close`.
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
    let question = format!("Close `{name}` for everyone, for good?");
    ask::agree(&question, arguments.yes)?;
    let epoch = client.close_group(group).await?;
    printer.show(
        &format!("Closed for everyone [epoch {epoch}]."),
        &json!({"group": group, "epoch": epoch}),
    )
}

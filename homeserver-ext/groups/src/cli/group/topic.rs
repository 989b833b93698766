//! `group topic`: what a group is about, in it and in its room.

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
    create::check_topic,
};

/// Arguments of `group topic`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// What it is about; empty: nothing is said of that
    #[arg(allow_hyphen_values = true)]
    text: String,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let text = arguments.text;
    check_topic(&text)?;
    let client = home.client().await?;
    let roster = names::to_change(&client, &arguments.named.group).await?;
    let (group, name) = (roster.group(), one_line(&roster.policy().name));
    let epoch = client.change_policy(group, &|policy| policy.description.clone_from(&text)).await?;
    let said = if text.is_empty() { "has no topic now" } else { "has this topic now" };
    printer.show(
        &format!("`{name}` {said} [epoch {epoch}]."),
        &json!({"group": group, "description": text, "epoch": epoch}),
    )
}

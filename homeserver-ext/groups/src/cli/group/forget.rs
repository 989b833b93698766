//! `group forget`: nothing of a group that is over is kept any more, and its name is free.

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

/// Arguments of `group forget`.
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
    let group = names::over(&client, &arguments.named.group).await?.group();
    // It may have ended unheard; where the server cannot be asked, what is known here counts.
    match client.sync_group(group).await {
        Err(error) if !error.is_transient() => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let roster = names::roster(&client, &group.to_string()).await?;
    let name = &roster.policy().name;
    if names::is_over(&client, &roster) {
        let question = format!("Forget `{}`, with all that was said there?", one_line(name));
        ask::agree(&question, arguments.yes)?;
    }
    client.forget(group).await?;
    printer.show(
        &format!("Forgot `{}`: nothing of it is kept here.", one_line(name)),
        &json!({"group": group, "name": name, "forgotten": true}),
    )
}

//! `group leave`, `group close`, `group forget`: a group is over, for this account, for everyone, for this
//! device.

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

/// Arguments of each.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// This account goes.
pub(super) async fn leave(
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

/// The end of a group, for everyone.
pub(super) async fn close(
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

/// Nothing of a group that is over is kept any more, and its name is free.
pub(super) async fn forget(
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
    let is_offered = client.offer(group).await?.is_some();
    if names::is_over(&client, &roster) || is_offered {
        let question = format!("Forget `{}`, with all that was said there?", one_line(name));
        ask::agree(&question, arguments.yes)?;
    }
    client.forget(group).await?;
    printer.show(
        &format!("Forgot `{}`: nothing of it is kept here.", one_line(name)),
        &json!({"group": group, "name": name, "forgotten": true}),
    )
}

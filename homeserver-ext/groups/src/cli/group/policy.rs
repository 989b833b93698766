//! `group rename`, `group topic`: what a group is called and what it is about, in it and in its room.

use causeway_protocol::{
    ids::{Epoch, GroupId},
    roster::Policy,
};
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
    create::{check_name, check_topic},
};

/// Arguments of `group rename`.
#[derive(Debug, Args)]
pub(crate) struct Rename {
    #[command(flatten)]
    named: Named,
    /// What it is called from now on
    #[arg(allow_hyphen_values = true)]
    name: String,
}

/// Arguments of `group topic`.
#[derive(Debug, Args)]
pub(crate) struct Topic {
    #[command(flatten)]
    named: Named,
    /// What it is about; empty: nothing is said of that
    #[arg(allow_hyphen_values = true)]
    text: String,
}

pub(super) async fn rename(
    arguments: Rename,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let name = arguments.name;
    check_name(&name)?;
    let to = |policy: &mut Policy| policy.name.clone_from(&name);
    let (group, before, epoch) = change(&arguments.named, home, &to).await?;
    printer.show(
        &format!("`{before}` is `{}` now [epoch {epoch}].", one_line(&name)),
        &json!({"group": group, "name": name, "epoch": epoch}),
    )
}

pub(super) async fn topic(arguments: Topic, home: &Home, printer: Printer) -> Result<(), Failure> {
    let text = arguments.text;
    check_topic(&text)?;
    let to = |policy: &mut Policy| policy.description.clone_from(&text);
    let (group, name, epoch) = change(&arguments.named, home, &to).await?;
    let said = if text.is_empty() { "has no topic now" } else { "has this topic now" };
    printer.show(
        &format!("`{name}` {said} [epoch {epoch}]."),
        &json!({"group": group, "description": text, "epoch": epoch}),
    )
}

/// The group, what it was called, and the epoch since which it is so.
async fn change(
    named: &Named,
    home: &Home,
    to: &(dyn Fn(&mut Policy) + Sync),
) -> Result<(GroupId, String, Epoch), Failure> {
    let client = home.client().await?;
    let roster = names::to_change(&client, &named.group).await?;
    let epoch = client.change_policy(roster.group(), to).await?;
    Ok((roster.group(), one_line(&roster.policy().name), epoch))
}

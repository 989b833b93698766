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
use crate::{machine::OpError, sdk::SdkError};

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
    let Changed { group, before, epoch, is_new } = change(&arguments.named, home, &to).await?;
    let said = if is_new {
        format!("`{before}` is `{}` now [epoch {epoch}].", one_line(&name))
    } else {
        format!("`{before}` has that name already: nothing was changed.")
    };
    printer.show(&said, &json!({"group": group, "name": name, "epoch": epoch}))
}

pub(super) async fn topic(arguments: Topic, home: &Home, printer: Printer) -> Result<(), Failure> {
    let text = arguments.text;
    check_topic(&text)?;
    let to = |policy: &mut Policy| policy.description.clone_from(&text);
    let Changed { group, before, epoch, is_new } = change(&arguments.named, home, &to).await?;
    let said = match (is_new, text.is_empty()) {
        (true, true) => format!("has no topic now [epoch {epoch}]."),
        (true, false) => format!("has this topic now [epoch {epoch}]."),
        (false, true) => "has no topic: nothing was changed.".to_owned(),
        (false, false) => "has that topic already: nothing was changed.".to_owned(),
    };
    printer.show(
        &format!("`{before}` {said}"),
        &json!({"group": group, "description": text, "epoch": epoch}),
    )
}

/// What came of a change.
struct Changed {
    group: GroupId,
    /// What it was called.
    before: String,
    /// The one that this made, or the newest.
    epoch: Epoch,
    /// Whether it was otherwise before.
    is_new: bool,
}

async fn change(
    named: &Named,
    home: &Home,
    to: &(dyn Fn(&mut Policy) + Sync),
) -> Result<Changed, Failure> {
    let client = home.client().await?;
    let roster = names::to_change(&client, &named.group).await?;
    let (group, before) = (roster.group(), one_line(&roster.policy().name));
    let (epoch, is_new) = match client.change_policy(group, to).await {
        Err(SdkError::Op(OpError::Unchanged)) => (client.roster(group).await?.epoch(), false),
        changed => (changed?, true),
    };
    Ok(Changed { group, before, epoch, is_new })
}

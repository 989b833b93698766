//! `settings …`: what may be set, of this client and of a group, in one place.
//!
//! What a group is called and what it is about have commands of their own.

mod known;

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use self::known::{Name, Scope, Told};
use super::{
    exit::Failure,
    harmless::one_line,
    home::Home,
    names,
    print::{Printer, table},
};
use crate::{machine::OpError, sdk::SdkError};

/// What can be done with settings.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what may be set, what it means, and how it stands
    #[command(
        after_help = "Examples:\n  causeway-client settings list\n  causeway-client settings list --group team"
    )]
    List(Of),
    /// Show how one of them stands
    #[command(after_help = "Examples:\n  causeway-client settings get message_ttl --group team")]
    Get(Get),
    /// Set one of them; those of a group for everyone in it, and by its admins only
    #[command(
        after_help = "Examples:\n  causeway-client settings set message_ttl 7d --group team\n  causeway-client settings set key_rotation_interval 12h\n  causeway-client settings set max_members default --group team"
    )]
    Set(Set),
}

/// Whose settings.
#[derive(Debug, Args)]
pub(super) struct Of {
    /// Those of this group, too
    #[arg(long, allow_hyphen_values = true, value_name = "GROUP")]
    group: Option<String>,
}

/// Arguments of `settings get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// Which
    name: Name,
    #[command(flatten)]
    of: Of,
}

/// Arguments of `settings set`.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// Which
    name: Name,
    /// To what: a time like 90s, 15m, 12h or 7d, a number, yes or no, or `default`
    #[arg(allow_hyphen_values = true)]
    value: String,
    #[command(flatten)]
    of: Of,
}

pub(super) async fn run(command: Command, home: &Home, printer: Printer) -> Result<(), Failure> {
    match command {
        Command::List(of) => list(&of, home, printer).await,
        Command::Get(arguments) => get(arguments, home, printer).await,
        Command::Set(arguments) => set(arguments, home, printer).await,
    }
}

async fn list(of: &Of, home: &Home, printer: Printer) -> Result<(), Failure> {
    let client = home.client().await?;
    let mut all = Vec::new();
    for name in Name::OF_CLIENT {
        all.push(name.of_client(&client).await?);
    }
    let mut group = None;
    if let Some(text) = &of.group {
        let roster = names::current_or_kept(&client, text, printer).await?;
        all.extend(Name::OF_GROUP.map(|name| name.of_group(&roster)));
        group = Some(roster.group());
    }
    let rows = all.iter().map(|told| {
        [told.name.text().to_owned(), told.said(), told.default_said(), told.range.clone()]
    });
    let mut text = table(["setting", "value", "default", "may be"], rows);
    text.push_str("\n\n");
    for told in &all {
        let _ = writeln!(text, "{}: {}", told.name.text(), told.name.meaning());
    }
    if of.group.is_none() {
        text.push_str("Those of a group are shown with --group GROUP.\n");
    }
    let settings: Vec<Value> = all.iter().map(Told::as_json).collect();
    printer.show(text.trim_end(), &json!({"group": group, "settings": settings}))
}

async fn get(arguments: Get, home: &Home, printer: Printer) -> Result<(), Failure> {
    let Get { name, of } = arguments;
    let client = home.client().await?;
    let told = match scope(name, &of)? {
        Some(text) => name.of_group(&*names::current_or_kept(&client, text, printer).await?),
        None => name.of_client(&client).await?,
    };
    printer.show(&told.said(), &told.as_json())
}

async fn set(arguments: Set, home: &Home, printer: Printer) -> Result<(), Failure> {
    let Set { name, value, of } = arguments;
    let Some(text) = scope(name, &of)? else {
        let client = home.client().await?;
        name.set_of_client(&client, &value).await?;
        let told = name.of_client(&client).await?;
        return printer.show(&format!("{} is {} now.", name.text(), told.said()), &told.as_json());
    };
    let client = home.client().await?;
    let roster = names::to_change(&client, text).await?;
    let to = name.for_group(&roster, &value)?;
    let change = |policy: &mut _| to.apply(policy);
    let (group, called) = (roster.group(), one_line(&roster.policy().name));
    let is_new = match client.change_policy(group, &change).await {
        Err(SdkError::Op(OpError::Unchanged)) => false,
        changed => changed.map(|_| true)?,
    };
    let roster = client.roster(group).await?;
    let told = name.of_group(&roster);
    let text = if is_new {
        let epoch = roster.epoch();
        format!("{} of `{called}` is {} now [epoch {epoch}].", name.text(), told.said())
    } else {
        format!("{} of `{called}` is {} already: nothing was changed.", name.text(), told.said())
    };
    let mut json = told.as_json();
    if let Some(fields) = json.as_object_mut() {
        fields.insert("group".to_owned(), json!(roster.group()));
        fields.insert("epoch".to_owned(), json!(roster.epoch()));
    }
    printer.show(&text, &json)
}

/// The group that is meant; `None`: this client.
fn scope(name: Name, of: &Of) -> Result<Option<&str>, Failure> {
    match (name.scope(), of.group.as_deref()) {
        (Scope::Group, None) => {
            Err(Failure::usage(format!("{} is set for each group", name.text()))
                .next("Say of which: --group GROUP."))
        }
        (Scope::Client, Some(_)) => {
            Err(Failure::usage(format!("{} is of this client, not of a group", name.text()))
                .next("Leave --group out."))
        }
        (_, group) => Ok(group),
    }
}

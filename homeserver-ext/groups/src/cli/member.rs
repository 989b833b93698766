//! `member …`: one file for each of its commands.

mod add;
mod list;
mod remove;
mod role;

use causeway_protocol::{keys::fingerprint, roster::Roster};
use clap::Subcommand;
use serde_json::json;

use super::{
    exit::Failure,
    home::Home,
    names,
    print::{Printer, table},
};
use crate::sdk::Client;

/// What can be done with members.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List who is in a group
    #[command(after_help = "Examples:\n  causeway-client member list team")]
    List(super::group::Named),
    /// Let someone in without a link, one who was removed before for example
    #[command(after_help = "Examples:\n  causeway-client member add team bob")]
    Add(add::Arguments),
    /// Remove someone; nothing sent afterwards can be read by them
    #[command(
        after_help = "Examples:\n  causeway-client member remove team bob\n  causeway-client member remove team bob:b.example"
    )]
    Remove(remove::Arguments),
    /// Make someone an admin, or a member again
    #[command(after_help = "Examples:\n  causeway-client member role team bob admin")]
    Role(role::Arguments),
}

pub(super) async fn run(command: Command, home: &Home, printer: Printer) -> Result<(), Failure> {
    match command {
        Command::List(named) => list::run(&named, home, printer).await,
        Command::Add(arguments) => add::run(arguments, home, printer).await,
        Command::Remove(arguments) => remove::run(arguments, home, printer).await,
        Command::Role(arguments) => role::run(arguments, home, printer).await,
    }
}

/// The members of a roster for people.
pub(super) fn as_table(client: &Client, roster: &Roster) -> String {
    let rows = roster.members().iter().map(|(id, member)| {
        let you = if *id == client.me().record.member_id { " (you)" } else { "" };
        [
            format!("{}{you}", member.account),
            names::role(member.role).to_owned(),
            member.devices.len().to_string(),
            fingerprint(id),
        ]
    });
    table(["account", "role", "devices", "fingerprint"], rows)
}

/// The members of a roster for programs.
pub(super) fn as_json(roster: &Roster) -> Vec<serde_json::Value> {
    let member = |(id, member): (_, &causeway_protocol::roster::Member)| {
        json!({
            "account": member.account, "role": names::role(member.role), "member_id": id,
            "fingerprint": fingerprint(id), "devices": &*member.devices,
        })
    };
    roster.members().iter().map(member).collect()
}

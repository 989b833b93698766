//! `member …`: one file for each of its commands.

mod accept;
mod add;
mod list;
mod remove;
mod role;

use clap::Subcommand;

use super::{exit::Failure, home::Home, print::Printer};

/// What can be done with members.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List who is in a group, and who reads it on Matrix
    #[command(
        after_help = "Examples:\n  causeway-client member list team\n  causeway-client member list team --limit 1000 --output json"
    )]
    List(list::Arguments),
    /// Let someone in without a link, one who was removed before for example
    #[command(after_help = "Examples:\n  causeway-client member add team bob")]
    Add(add::Arguments),
    /// Take another identity for someone: from now on it is theirs, in all groups
    #[command(
        after_help = "Examples:\n  causeway-client member accept team bob\n  causeway-client member accept team bob --fingerprint '6230 3687 2135 8303 6478 2316'"
    )]
    Accept(accept::Arguments),
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
        Command::List(arguments) => list::run(arguments, home, printer).await,
        Command::Add(arguments) => add::run(arguments, home, printer).await,
        Command::Accept(arguments) => accept::run(arguments, home, printer).await,
        Command::Remove(arguments) => remove::run(arguments, home, printer).await,
        Command::Role(arguments) => role::run(arguments, home, printer).await,
    }
}

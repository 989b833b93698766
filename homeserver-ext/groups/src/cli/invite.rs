//! `invite …`: one file for each of its commands.

mod accept;
mod create;
mod link;
mod list;
mod revoke;
mod show;

use clap::Subcommand;

use super::{exit::Failure, home::Home, names::Named, print::Printer};

/// What can be done with invites.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a link that lets people into a group
    #[command(
        after_help = "Examples:\n  causeway-client invite create team\n  causeway-client invite create team --uses 5 --hours 24"
    )]
    Create(create::Arguments),
    /// Ask to be let in with a link, and wait until someone's client has done it
    #[command(
        after_help = "Examples:\n  causeway-client invite accept causeway://join/eyJ2…\n  causeway-client invite accept causeway://join/eyJ2… --wait 600"
    )]
    Accept(accept::Arguments),
    /// Show what a link says, and ask nobody
    #[command(
        after_help = "Examples:\n  causeway-client invite show causeway://join/eyJ2…\n  causeway-client invite show discordopus://join/eyJn…"
    )]
    Show(show::Arguments),
    /// List a group's invites
    #[command(after_help = "Examples:\n  causeway-client invite list team")]
    List(Named),
    /// Take an invite back
    #[command(
        after_help = "Examples:\n  causeway-client invite revoke team OVJSLH68dm5M70pi…    # a key of `invite list`\n  causeway-client invite revoke team causeway://join/eyJ2…"
    )]
    Revoke(revoke::Arguments),
}

pub(super) async fn run(command: Command, home: &Home, printer: Printer) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create::run(arguments, home, printer).await,
        Command::Accept(arguments) => accept::run(arguments, home, printer).await,
        Command::Show(arguments) => show::run(arguments, home, printer).await,
        Command::List(named) => list::run(&named, home, printer).await,
        Command::Revoke(arguments) => revoke::run(arguments, home, printer).await,
    }
}

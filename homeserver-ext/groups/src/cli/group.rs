//! `group …`: one file for each of its commands.

mod bridge;
mod close;
mod create;
mod fork;
mod leave;
mod list;
mod show;

use clap::{Args, Subcommand};

use super::{exit::Failure, home::Home, print::Printer};

/// What can be done with a group.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a group; you are its admin
    Create(create::Arguments),
    /// List your groups
    List,
    /// Show a group: who can read, its policy, its members
    Show(Named),
    /// Leave a group
    Leave(Named),
    /// End a group for everyone
    Close(Named),
    /// Let the server's bridge in: it can read everything from then on
    Bridge(bridge::Arguments),
    /// Two histories of one group: see them, keep yours, or adopt the other
    #[command(subcommand)]
    Fork(fork::Command),
}

/// A group on the command line.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Its name, its id, or the first characters of its id
    pub(super) group: String,
}

pub(super) async fn run(command: Command, home: &Home, printer: Printer) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create::run(arguments, home, printer).await,
        Command::List => list::run(home, printer).await,
        Command::Show(named) => show::run(&named, home, printer).await,
        Command::Leave(named) => leave::run(&named, home, printer).await,
        Command::Close(named) => close::run(&named, home, printer).await,
        Command::Bridge(arguments) => bridge::run(arguments, home, printer).await,
        Command::Fork(command) => fork::run(command, home, printer).await,
    }
}

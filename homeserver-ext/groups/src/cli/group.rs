//! `group …`: one file for each of its commands.

mod accept;
pub(super) mod added_by;
mod bridge;
mod create;
mod fork;
mod list;
mod over;
mod policy;
mod show;
mod upgrade;

use clap::Subcommand;

use super::{exit::Failure, home::Home, names::Named, print::Printer};
/// What can be done with a group.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a group; you are its admin
    #[command(
        after_help = "Examples:\n  causeway-client group create team\n  causeway-client group create 'News of b.example' --channel --keep 7"
    )]
    Create(create::Arguments),
    /// List your groups
    #[command(after_help = "Examples:\n  causeway-client group list")]
    List,
    /// Show a group: who can read, its policy, its members
    #[command(after_help = "Examples:\n  causeway-client group show team")]
    Show(Named),
    /// Take part in a group that somebody has added you to
    #[command(after_help = "Examples:\n  causeway-client group accept team")]
    Accept(Named),
    /// Show or set who may add you to groups without asking you
    #[command(
        after_help = "Examples:\n  causeway-client group added-by\n  causeway-client group added-by none"
    )]
    AddedBy(added_by::Arguments),
    /// Give a group another name
    #[command(after_help = "Examples:\n  causeway-client group rename team 'The walkers'")]
    Rename(policy::Rename),
    /// Say what a group is about
    #[command(
        after_help = "Examples:\n  causeway-client group topic team 'We meet at 9.'\n  causeway-client group topic team ''"
    )]
    Topic(policy::Topic),
    /// End a group's legacy suite: it speaks Sender Keys from then on, and never as before
    #[command(
        after_help = "Examples:\n  causeway-client group upgrade team --check\n  causeway-client group upgrade team"
    )]
    Upgrade(upgrade::Arguments),
    /// Leave a group
    #[command(after_help = "Examples:\n  causeway-client group leave team")]
    Leave(over::Arguments),
    /// End a group for everyone
    #[command(after_help = "Examples:\n  causeway-client group close team")]
    Close(over::Arguments),
    /// Forget a group that is closed, or that you have left: its messages and keys go
    #[command(after_help = "Examples:\n  causeway-client group forget team")]
    Forget(over::Arguments),
    /// Let the server's bridge in: it can read everything from then on
    #[command(
        after_help = "Examples:\n  causeway-client group bridge team --invite @ursula:example.org\n  causeway-client group bridge team --fingerprint '6230 3687 2135 8303 6478 2316' --yes"
    )]
    Bridge(bridge::Arguments),
    /// Two histories of one group: see them, keep yours, or adopt the other
    #[command(subcommand)]
    Fork(fork::Command),
}

pub(super) async fn run(command: Command, home: &Home, printer: Printer) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create::run(arguments, home, printer).await,
        Command::List => list::run(home, printer).await,
        Command::Show(named) => show::run(&named, home, printer).await,
        Command::Accept(named) => accept::run(&named, home, printer).await,
        Command::AddedBy(arguments) => added_by::run(&arguments, home, printer).await,
        Command::Rename(arguments) => policy::rename(arguments, home, printer).await,
        Command::Topic(arguments) => policy::topic(arguments, home, printer).await,
        Command::Upgrade(arguments) => upgrade::run(&arguments, home, printer).await,
        Command::Leave(arguments) => over::leave(&arguments, home, printer).await,
        Command::Close(arguments) => over::close(&arguments, home, printer).await,
        Command::Forget(arguments) => over::forget(&arguments, home, printer).await,
        Command::Bridge(arguments) => bridge::run(arguments, home, printer).await,
        Command::Fork(command) => fork::run(command, home, printer).await,
    }
}

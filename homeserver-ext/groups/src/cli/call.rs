//! `call …`: one file for each of its commands.

mod decline;
mod end;
mod heard;
mod list;
mod watch;

use causeway_protocol::{
    api::{CallState, CallTopology},
    ids::GroupId,
};
use clap::Subcommand;

pub(super) use heard::Heard;

use super::{exit::Failure, home::Home, print::Printer};
use crate::sdk::Client;

/// What can be done with calls.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List a group's calls: the one that runs, and those of the last 30 days
    #[command(
        after_help = "Examples:\n  causeway-client call list team\n  causeway-client --output json call list team --limit 20"
    )]
    List(list::Arguments),
    /// Show who comes into a group's calls and who goes, until Ctrl-C
    #[command(
        after_help = "It may run beside `tail`.\n\nExamples:\n  causeway-client call watch team"
    )]
    Watch(watch::Arguments),
    /// Say that you do not come: none of your devices rings any more
    #[command(after_help = "Examples:\n  causeway-client call decline team")]
    Decline(decline::Arguments),
    /// End a group's call for everybody; for who began it, and admins of the group
    #[command(after_help = "Examples:\n  causeway-client call end team")]
    End(end::Arguments),
}

pub(super) async fn run(command: Command, home: &Home, printer: Printer) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list::run(arguments, home, printer).await,
        Command::Watch(arguments) => watch::run(arguments, home, printer).await,
        Command::Decline(arguments) => decline::run(arguments, home, printer).await,
        Command::End(arguments) => end::run(arguments, home, printer).await,
    }
}

/// The newest call of a group, if it runs.
async fn running(client: &Client, group: GroupId) -> Result<Option<CallState>, Failure> {
    let page = client.http().calls(group, None, 1).await?;
    let newest = page.calls.into_iter().next();
    Ok(newest.filter(|call| call.topology != CallTopology::Ended))
}

/// Likewise, where there must be one.
async fn the_running(client: &Client, group: GroupId) -> Result<CallState, Failure> {
    running(client, group).await?.ok_or_else(|| {
        Failure::failed("no call is running in this group")
            .next("`causeway-client call list` shows those that were.")
    })
}

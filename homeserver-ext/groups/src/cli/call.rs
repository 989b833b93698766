//! `call …`: one file for each of its commands.

mod decline;
mod end;
mod heard;
mod leave;
mod list;
mod react;
mod rule;
#[cfg(feature = "calls")]
mod sound;
#[cfg(feature = "calls")]
mod start;
#[cfg(feature = "calls")]
mod talk;
#[cfg(feature = "calls")]
mod tell;
#[cfg(feature = "calls")]
mod view;
mod watch;

use causeway_protocol::{
    api::{CallState, CallTopology},
    ids::GroupId,
};
use clap::{Args, Subcommand};

pub(super) use heard::Heard;

use super::{
    exit::Failure,
    home::Home,
    names::{self, Named},
    print::Printer,
};
use crate::sdk::Client;

/// Arguments of what is done with the call that runs.
#[derive(Debug, Args)]
pub(super) struct OfGroup {
    #[command(flatten)]
    named: Named,
}

/// The call that runs in a group, and who asks.
struct Running {
    client: Client,
    group: GroupId,
    call: CallState,
}

/// What can be done with calls.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Begin a group's call, or come into the one that somebody else has begun; until you leave
    #[cfg(feature = "calls")]
    #[command(
        after_help = "On a terminal m is the microphone, h your hand, q leaves. It follows the mailbox, as `tail` does: there is one of both.\n\nExamples:\n  causeway-client call start team --audio-in greeting.wav --audio-out heard.wav\n  causeway-client call start team --audio-in tone:440 --for 30s\n  causeway-client call start team --relay-only --turn turn:turn.b.example:3478 --turn-user alice --turn-password-file turn.txt"
    )]
    Start(start::Arguments),
    /// Come into the call that runs in a group; until you leave
    #[cfg(feature = "calls")]
    #[command(
        after_help = "As `call start`, where there must be a call.\n\nExamples:\n  causeway-client call join team --audio-out heard.wav\n  causeway-client --output json call join team --audio-in tone:440 --for 10s"
    )]
    Join(start::Arguments),
    /// Take this device out of a group's call, whatever brought it in
    #[command(
        after_help = "A `call start` or `call join` of the same home ends with it.\n\nExamples:\n  causeway-client call leave team"
    )]
    Leave(OfGroup),
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
    Decline(OfGroup),
    /// Show all who are in the call an emoji; from a device that is in it
    #[command(after_help = "Examples:\n  causeway-client call react team 👍")]
    React(react::Arguments),
    /// Take somebody out of a group's call; for admins of the group
    #[command(
        after_help = "A native may come back; one of Matrix not for ten minutes.\n\nExamples:\n  causeway-client call kick team bob:b.example\n  causeway-client call kick team @mia:b.example"
    )]
    Kick(rule::Arguments),
    /// Mute what somebody says through the server for calls, until he unmutes himself; for admins of the group
    #[command(
        after_help = "What devices say to each other directly nobody else can mute.\n\nExamples:\n  causeway-client call mute team @mia:b.example"
    )]
    Mute(rule::Arguments),
    /// End a group's call for everybody; for who began it, and admins of the group
    #[command(after_help = "Examples:\n  causeway-client call end team")]
    End(OfGroup),
}

pub(super) async fn run(command: Command, home: &Home, printer: Printer) -> Result<(), Failure> {
    match command {
        #[cfg(feature = "calls")]
        Command::Start(arguments) => start::run(arguments, home, printer).await,
        #[cfg(feature = "calls")]
        Command::Join(arguments) => start::join(arguments, home, printer).await,
        Command::Leave(arguments) => leave::run(arguments, home, printer).await,
        Command::List(arguments) => list::run(arguments, home, printer).await,
        Command::Watch(arguments) => watch::run(arguments, home, printer).await,
        Command::Decline(arguments) => decline::run(arguments, home, printer).await,
        Command::React(arguments) => react::run(arguments, home, printer).await,
        Command::Kick(arguments) => rule::kick(arguments, home, printer).await,
        Command::Mute(arguments) => rule::mute(arguments, home, printer).await,
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
async fn the_running(of: OfGroup, home: &Home) -> Result<Running, Failure> {
    let client = home.client().await?;
    let group = names::group(&client, &of.named.group).await?;
    let call = running(&client, group).await?.ok_or_else(|| {
        Failure::failed("no call is running in this group")
            .next("`causeway-client call list` shows those that were.")
    })?;
    Ok(Running { client, group, call })
}

/// The same, where this device takes part in it.
async fn the_one_it_is_in(of: OfGroup, home: &Home) -> Result<Running, Failure> {
    let running = the_running(of, home).await?;
    let me = running.client.me().record.device_id;
    if running.call.natives().any(|it| it.device == me) {
        return Ok(running);
    }
    Err(Failure::failed("this device is not in the call").next(
        "`causeway-client call join` brings it in, `causeway-client call watch` shows who is.",
    ))
}

//! `device …`: one file for each of its commands.

mod add;
mod link;
mod list;
mod remove;

use std::io::{self, IsTerminal as _};

use causeway_protocol::ids::{DeviceId, MemberId};
use clap::Subcommand;

use super::{ask, exit::Failure, home::Home, print::Printer};
use crate::{
    machine::DevicesError,
    sdk::{CallError, Client, DeviceError, SdkError},
};

/// What can be done with the account's devices.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make this home, which is nobody's yet, a device of an account that has another: shows a text for
    /// that one
    #[command(
        after_help = "Examples:\n  causeway-client device link --server https://b.example\n  causeway-client device link b.example            # finds the server by itself"
    )]
    Link(link::Arguments),
    /// Let a new device in, by the text that `device link` shows there
    #[command(
        after_help = "The new device will read and write as you. A text from anywhere but your own screen is somebody else's device.\n\nExamples:\n  causeway-client device add causeway://link/eyJ2…\n  causeway-client device add causeway://link/eyJ2… --yes    # you have compared the fingerprint"
    )]
    Add(add::Arguments),
    /// List the account's devices
    #[command(
        after_help = "Examples:\n  causeway-client device list\n  causeway-client --output json device list"
    )]
    List,
    /// Take a device out: it is logged out, and reads nothing that is said from then on
    #[command(
        after_help = "Examples:\n  causeway-client device remove Kf0D81FR…         # as `device list` shows it\n  causeway-client device remove Kf0D81FR… --yes"
    )]
    Remove(remove::Arguments),
}

pub(super) async fn run(command: Command, home: &Home, printer: Printer) -> Result<(), Failure> {
    match command {
        Command::Link(arguments) => link::run(arguments, home, printer).await,
        Command::Add(arguments) => add::run(arguments, home, printer).await,
        Command::List => list::run(home, printer).await,
        Command::Remove(arguments) => remove::run(arguments, home, printer).await,
    }
}

/// What people compare of a device: as an identity's, of the device's key.
fn fingerprint(device: &DeviceId) -> String {
    causeway_protocol::keys::fingerprint(&MemberId::new(*device.as_bytes()))
}

/// Lets pass what a person at the terminal says yes to, or the arguments did. Who gives a device an
/// account, or an account a device, says so: a script, too.
fn agrees(question: &str, yes: bool) -> Result<(), Failure> {
    if yes || (io::stdin().is_terminal() && ask::says_yes(question)) {
        return Ok(());
    }
    if io::stdin().is_terminal() {
        return Err(Failure::failed("you did not say yes").next("Nothing was changed."));
    }
    Err(unasked())
}

fn unasked() -> Failure {
    Failure::usage("there is no terminal to ask at")
        .next("Nothing was changed. Compare the fingerprint, then say --yes.")
}

/// Tells the account's groups which devices it has; whether all of them know.
async fn tell_groups(client: &Client, printer: Printer) -> Result<bool, Failure> {
    match client.bring_in().await {
        Ok(()) => Ok(true),
        Err(error) if error.is_transient() => {
            printer.note(&format!(
                "not all groups know of it yet ({error}); they hear of it before the next message, or \
                 with `causeway-client tail`"
            ));
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        let said = error.to_string();
        match error {
            DeviceError::OtherServer(..) => Self::failed(said)
                .next("Nothing was changed. `device link` is to be given this account's server."),
            DeviceError::Taken | DeviceError::Devices(DevicesError::OtherRecord) => {
                Self::failed(said).next(
                    "Nothing was changed: no device was let in. Run `device link` anew, and show its \
                     text to nobody.",
                )
            }
            DeviceError::Gone => Self::failed(said)
                .next("Nothing was changed. Run `device link` there, and this with its text."),
            DeviceError::Contended => Self::failed(said).next("Run the same command again."),
            DeviceError::Devices(DevicesError::NoIdentity) => Self::failed(said).next(
                "Run it where the account was registered. If that is lost, `causeway-client --home NEW \
                 recover ACCOUNT` with the recovery key makes a device that does.",
            ),
            DeviceError::Devices(DevicesError::Itself) => Self::failed(said).next(
                "Nothing was changed. `recover --old-devices remove` with the recovery key makes another \
                 device in its place.",
            ),
            DeviceError::Devices(DevicesError::Untrusted) => Self::failed(said)
                .next("Nothing was changed. Ask the server's operator what became of its database."),
            DeviceError::Devices(DevicesError::TooLong(_)) => {
                Self::failed(said).next("`causeway-client device remove` takes one out.")
            }
            DeviceError::Devices(DevicesError::Machine(error)) => SdkError::from(error).into(),
            DeviceError::Sdk(SdkError::Call(error)) => CallError::into(error),
            DeviceError::Sdk(error) => error.into(),
        }
    }
}

//! `message …`: one file for each of its commands.

mod status;

use clap::Subcommand;

use super::{exit::Failure, home::Home, print::Printer};

/// What can be done with messages that were sent.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show how far a message of yours came, device by device
    #[command(
        after_help = "queued: the server does not have it yet. sent: the server has it. relayed: the device's own server, another one, has it, and says after a few seconds whether the device does. delivered: the device has fetched it.\nno one-time key, wedged: it could not be sealed for that device, or not be opened there; `tail` gives it again.\n\nExamples:\n  causeway-client message status team            # your last one\n  causeway-client message status team '#12'\n  causeway-client --output json message status team 5rWc…    # an id that `send` printed"
    )]
    Status(status::Arguments),
}

pub(super) async fn run(command: Command, home: &Home, printer: Printer) -> Result<(), Failure> {
    match command {
        Command::Status(arguments) => status::run(arguments, home, printer).await,
    }
}

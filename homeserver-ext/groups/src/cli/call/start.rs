//! `call start`: a call begins, or one comes into the one that runs.

use clap::Args;

use super::{
    super::{exit::Failure, home::Home, names::Named, print::Printer},
    sound::Sound,
    talk::{self, How},
};

/// Arguments of `call start`, and of `call join`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    sound: Sound,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    talk::run(How::Start, &arguments.named.group, &arguments.sound, home, printer).await
}

pub(super) async fn join(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    talk::run(How::Join, &arguments.named.group, &arguments.sound, home, printer).await
}

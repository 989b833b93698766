//! `call react`: a sign of the moment, which all in the call are shown.

use causeway_protocol::api::SetCall;
use clap::Args;

use super::{
    super::{exit::Failure, home::Home, print::Printer},
    OfGroup, Running, the_one_it_is_in,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    of: OfGroup,
    /// One, of 32 bytes at most
    #[arg(value_name = "EMOJI")]
    emoji: String,
}

pub(super) async fn run(
    Arguments { of, emoji }: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let Running { client, group, call } = the_one_it_is_in(of, home).await?;
    let asked = SetCall { reaction: Some(emoji), ..SetCall::default() };
    let state = client.http().set_call((group, call.call), &asked).await?;
    printer.show("All who are in the call are shown it.", &state)
}

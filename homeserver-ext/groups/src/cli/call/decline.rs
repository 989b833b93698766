//! `call decline`: one does not come.

use clap::Args;

use super::{
    super::{
        exit::Failure,
        home::Home,
        names::{self, Named},
        print::Printer,
    },
    the_running,
};

/// Arguments of `call decline`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let group = names::group(&client, &arguments.named.group).await?;
    let call = the_running(&client, group).await?.call;
    let state = client.http().decline_call(group, call).await?;
    printer.show("Declined: none of your devices rings any more.", &state)
}

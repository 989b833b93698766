//! `call end`: a call is over for everybody.

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

/// Arguments of `call end`.
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
    let state = client.http().end_call(group, call).await?;
    printer.show("The call is over for everybody.", &state)
}

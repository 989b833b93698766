//! `call leave`: this device goes; a `call start` or `call join` of this home that runs ends with it.

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

/// Arguments of `call leave`.
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
    let call = the_running(&client, group).await?;
    let me = client.me().record.device_id;
    if !call.participants.iter().any(|it| it.device == me) {
        return Err(Failure::failed("this device is not in the call")
            .next("`causeway-client call list` shows who is."));
    }
    let state = client.http().leave_call(group, call.call).await?;
    printer.show("This device has left the call.", &state)
}

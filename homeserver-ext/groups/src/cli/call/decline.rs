//! `call decline`: one does not come.

use super::{
    super::{exit::Failure, home::Home, print::Printer},
    OfGroup, Running, the_running,
};

pub(super) async fn run(of: OfGroup, home: &Home, printer: Printer) -> Result<(), Failure> {
    let Running { client, group, call } = the_running(of, home).await?;
    let state = client.http().decline_call(group, call.call).await?;
    printer.show("Declined: none of your devices rings any more.", &state)
}

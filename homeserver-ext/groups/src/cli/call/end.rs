//! `call end`: a call is over for everybody.

use super::{
    super::{exit::Failure, home::Home, print::Printer},
    OfGroup, Running, the_running,
};

pub(super) async fn run(of: OfGroup, home: &Home, printer: Printer) -> Result<(), Failure> {
    let Running { client, group, call } = the_running(of, home).await?;
    let state = client.http().end_call(group, call.call).await?;
    printer.show("The call is over for everybody.", &state)
}

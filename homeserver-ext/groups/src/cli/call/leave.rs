//! `call leave`: this device goes; a `call start` or `call join` of this home that runs ends with it.

use super::{
    super::{exit::Failure, home::Home, print::Printer},
    OfGroup, Running, the_one_it_is_in,
};

pub(super) async fn run(of: OfGroup, home: &Home, printer: Printer) -> Result<(), Failure> {
    let Running { client, group, call } = the_one_it_is_in(of, home).await?;
    let state = client.http().leave_call(group, call.call).await?;
    printer.show("This device has left the call.", &state)
}

//! `call leave`: this device goes; a `call start` or `call join` of this home that runs ends with it.

use super::{
    super::{exit::Failure, home::Home, print::Printer},
    OfGroup, Running, the_running,
};

pub(super) async fn run(of: OfGroup, home: &Home, printer: Printer) -> Result<(), Failure> {
    let Running { client, group, call } = the_running(of, home).await?;
    let me = client.me().record.device_id;
    if !call.natives().any(|it| it.device == me) {
        return Err(Failure::failed("this device is not in the call")
            .next("`causeway-client call watch` shows who is."));
    }
    let state = client.http().leave_call(group, call.call).await?;
    printer.show("This device has left the call.", &state)
}

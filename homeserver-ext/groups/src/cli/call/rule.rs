//! `call kick` and `call mute`: what an admin of the group does about others in its call.

use causeway_protocol::api::{CallState, CallWhom};
use clap::Args;

use super::{
    super::{exit::Failure, home::Home, print::Printer},
    OfGroup, Running, the_running,
};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    of: OfGroup,
    /// Who: an account as bob:b.example, or a Matrix user as @mia:b.example; all devices of theirs
    #[arg(value_name = "WHO")]
    who: String,
}

pub(super) async fn kick(
    Arguments { of, who }: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let Running { client, group, mut call } = the_running(of, home).await?;
    for whom in in_it(&call, &who)? {
        call = client.http().kick_from_call((group, call.call), &whom).await?;
    }
    printer.show(&format!("{who} is out of the call."), &call)
}

pub(super) async fn mute(
    Arguments { of, who }: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let Running { client, group, mut call } = the_running(of, home).await?;
    for whom in in_it(&call, &who)? {
        call = client.http().mute_in_call((group, call.call), &whom).await?;
    }
    printer.show(&format!("{who} is muted, until he is not."), &call)
}

/// The devices by which somebody takes part.
fn in_it(call: &CallState, who: &str) -> Result<Vec<CallWhom>, Failure> {
    let natives = call.natives().filter(|it| it.account.to_string() == who);
    let natives = natives.map(|it| CallWhom::Native { device: it.device });
    let guests = call.guests().filter(|it| it.mirror == who);
    let guests =
        guests.map(|it| CallWhom::Matrix { mirror: it.mirror.clone(), device: it.device.clone() });
    let those: Vec<_> = natives.chain(guests).collect();
    if those.is_empty() {
        let why = format!("{who} is not in the call");
        let natives = call.natives().map(|it| it.account.to_string());
        let all: Vec<_> = natives.chain(call.guests().map(|it| it.mirror.clone())).collect();
        return Err(Failure::failed(why).next(format!("In it are: {}.", all.join(", "))));
    }
    Ok(those)
}

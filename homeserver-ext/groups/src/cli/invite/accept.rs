//! `invite accept`: asks to be let in, and waits until it is done.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{
    super::{exit::Failure, harmless::one_line, home::Home, names, print::Printer},
    link,
};
use crate::sdk::{CallError, SdkError};

/// Arguments of `invite accept`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The link, as `invite create` gave it
    link: String,
    /// Seconds to wait for a member's client to let you in
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    wait: u64,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let link = link::read(&arguments.link, client.now())?;
    let terms = &link.terms;
    printer.remark(&format!("{} invites you to `{}`.", terms.account, one_line(&terms.name)));
    client.ask_to_join(&link).await.map_err(|error| match error {
        SdkError::Call(CallError::Refused { status: 404, .. }) => {
            Failure::failed(format!("{} knows no such link", terms.server))
                .next("It is too old, or its group is not kept there: ask for another.")
        }
        error => error.into(),
    })?;
    if !client.wait_to_join(terms.group, Duration::from_secs(arguments.wait)).await? {
        let what = "you asked to be let in, and nobody's client has done it yet";
        let was_in = client.roster(terms.group).await.is_ok();
        return Err(Failure::pending(what).next(if was_in {
            "You have been in this group. If you were taken out of it, no link lets you in again: ask an \
             admin for `causeway-client member add`."
        } else {
            "It is done as soon as a client that may do it is running; then `group list` shows it."
        }));
    }
    let roster = names::roster(&client, &terms.group.to_string()).await?;
    let members = roster.members().len();
    let name = &roster.policy().name;
    let readers = names::confidentiality(&roster);
    printer.show(
        &format!("You are in `{}` ({readers}; {members} members).", one_line(name)),
        &json!({
            "group": terms.group, "name": name, "epoch": roster.epoch(), "members": members,
            "bridge": roster.bridge().map(|(_, bridge)| &bridge.account),
        }),
    )
}

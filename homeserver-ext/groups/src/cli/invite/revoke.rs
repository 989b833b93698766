//! `invite revoke`: takes an invite back.

use causeway_protocol::ids::{InviteKey, Timestamp};
use clap::Args;
use serde_json::json;

use super::{
    super::{exit::Failure, home::Home, names, print::Printer},
    link,
};
use crate::sdk::{CallError, SdkError};

/// Arguments of `invite revoke`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The group: its name, its id, or the first characters of its id
    #[arg(allow_hyphen_values = true)]
    group: String,
    /// The invite's key as `invite list` shows it, or the link
    #[arg(allow_hyphen_values = true)]
    invite: String,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let group = names::group(&client, &arguments.group).await?;
    let text = arguments.invite.trim();
    // Also one that has expired.
    let key = match link::read(text, Timestamp(0)) {
        Ok(link) => link.terms.secret.key(),
        Err(_) => text.parse::<InviteKey>().map_err(|_| {
            Failure::usage("this is neither an invite's key nor a link")
                .next("`causeway-client invite list` shows the keys.")
        })?,
    };
    // Who else is told goes by the newest roster; it is taken back here whether or not that came.
    if let Err(error) = client.sync_group(group).await {
        tracing::debug!(%error, "the group is not known as the server has it");
    }
    let told = client.revoke_invite(group, key).await;
    // Whatever the server says, who else holds the link hears of it; what fails is tried again.
    if let Err(error) = client.chores().await {
        tracing::debug!(%error, "other admins were not told yet");
    }
    told.map_err(|error| match error {
        SdkError::Call(CallError::Refused { status: 404, .. }) => {
            Failure::failed("this group has no such invite")
                .next("`causeway-client invite list` shows the keys.")
        }
        error => error.into(),
    })?;
    printer.show("Taken back.", &json!({"group": group, "key": key, "revoked": true}))
}

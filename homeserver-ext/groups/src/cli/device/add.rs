//! `device add`: a new device is let in by the text that it shows.

use causeway_protocol::device_link::DeviceLink;
use clap::Args;
use serde_json::json;

use super::{agrees, fingerprint, tell_groups};
use crate::cli::{exit::Failure, home::Home, print::Printer};

/// Arguments of `device add`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// What `device link` shows on the new device: `causeway://link/…`
    text: String,
    /// Let it in without asking: you have compared the fingerprint
    #[arg(long)]
    yes: bool,
}

pub(in crate::cli) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let link = DeviceLink::parse(&arguments.text)
        .map_err(|error| Failure::usage(error).next("Copy it whole from the new device."))?;
    client.may_link(&link).await?;
    let seen = fingerprint(&link.device);
    printer.remark(&format!(
        "Fingerprint of the new device: {seen}\n\nIt will read and write as {}, in all groups. A text \
         from anywhere but your own screen is somebody else's device.",
        client.me().account,
    ));
    agrees("Does the new device show this fingerprint, on your own screen?", arguments.yes)?;
    client.link_device(&link).await?;
    let told = tell_groups(&client, printer).await?;
    printer.show(
        &format!(
            "Device {} is one of {} now.\nFingerprint: {seen}\n`device remove` takes it out again.",
            link.device,
            client.me().account,
        ),
        &json!({
            "account": client.me().account, "device_id": link.device, "fingerprint": seen,
            "groups_told": told,
        }),
    )
}

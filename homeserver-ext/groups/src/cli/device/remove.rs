//! `device remove`: a device is taken out of the account.

use causeway_protocol::ids::DeviceId;
use clap::Args;
use serde_json::json;

use super::{fingerprint, tell_groups};
use crate::cli::{ask, exit::Failure, home::Home, print::Printer};

/// Arguments of `device remove`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Which: its id, or the first characters of it
    #[arg(allow_hyphen_values = true)]
    device: String,
    /// Without asking
    #[arg(long)]
    yes: bool,
}

pub(in crate::cli) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let newest = client.own_devices().await?;
    let device = one(&newest.list.devices, &arguments.device)?;
    let account = &client.me().account;
    ask::agree(&format!("Take device {device} out of {account}?"), arguments.yes)?;
    client.remove_device(&device).await?;
    let told = tell_groups(&client, printer).await?;
    printer.show(
        &format!(
            "Device {device} is out: it is logged out, and reads nothing that is said from now on.\n\
             What it has read it has."
        ),
        &json!({
            "account": account, "device_id": device, "fingerprint": fingerprint(&device),
            "groups_told": told,
        }),
    )
}

/// The one device that is meant.
fn one(devices: &[DeviceId], name: &str) -> Result<DeviceId, Failure> {
    let mut meant = devices.iter().filter(|device| device.to_string().starts_with(name));
    match (meant.next(), meant.next()) {
        (Some(device), None) if !name.is_empty() => Ok(*device),
        (Some(_), _) => {
            Err(Failure::usage(format!("`{name}` begins several of your devices' ids"))
                .next("Give more of it; `causeway-client device list` shows them."))
        }
        (None, _) => Err(Failure::usage(format!("this account has no device `{name}`"))
            .next("`causeway-client device list` shows those that it has.")),
    }
}

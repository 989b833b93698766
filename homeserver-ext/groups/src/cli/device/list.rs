//! `device list`: the account's devices.

use serde_json::json;

use super::fingerprint;
use crate::cli::{
    exit::Failure,
    home::Home,
    print::{self, Printer},
};

pub(in crate::cli) async fn run(home: &Home, printer: Printer) -> Result<(), Failure> {
    let client = home.client().await?;
    let newest = client.own_devices().await?;
    let signs = client.signs().await?;
    let mine = client.me().record.device_id;
    let rows = newest.list.devices.iter().map(|device| {
        let is = match (*device == mine, signs) {
            (true, true) => "this one; lets others in and out",
            (true, false) => "this one",
            (false, _) => "",
        };
        [device.to_string(), fingerprint(device), is.to_owned()]
    });
    let text = print::table(["device", "fingerprint", ""], rows);
    let shown = newest.list.devices.iter().map(|device| {
        json!({"device_id": device, "fingerprint": fingerprint(device), "this": *device == mine})
    });
    let shown: Vec<_> = shown.collect();
    printer.show(
        &text,
        &json!({
            "account": client.me().account, "version": newest.list.version, "signs": signs,
            "devices": shown,
        }),
    )
}

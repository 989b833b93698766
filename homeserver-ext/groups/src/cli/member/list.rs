//! `member list`: who is in a group.

use serde_json::json;

use super::super::{exit::Failure, group::Named, home::Home, names, print::Printer};

pub(super) async fn run(named: &Named, home: &Home, printer: Printer) -> Result<(), Failure> {
    let client = home.client().await?;
    let roster = names::current(&client, &named.group).await?;
    let members = super::as_json(&roster);
    printer.show(
        &super::as_table(&client, &roster),
        &json!({"group": roster.group(), "epoch": roster.epoch(), "members": members}),
    )
}

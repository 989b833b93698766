//! `member list`: who is in a group.

use serde_json::json;

use super::super::{
    exit::Failure,
    home::Home,
    names::{self, Named},
    print::Printer,
    roster::{as_json, as_table},
};

pub(super) async fn run(named: &Named, home: &Home, printer: Printer) -> Result<(), Failure> {
    let client = home.client().await?;
    let roster = names::current(&client, &named.group).await?;
    let trusts = client.trusts(&roster).await?;
    let members = as_json(&roster, &trusts);
    printer.show(
        &as_table(&client, &roster, &trusts),
        &json!({"group": roster.group(), "epoch": roster.epoch(), "members": members}),
    )
}

//! `group leave`: this account goes.

use serde_json::json;

use super::super::{
    exit::Failure,
    home::Home,
    names::{self, Named},
    print::Printer,
};

pub(super) async fn run(named: &Named, home: &Home, printer: Printer) -> Result<(), Failure> {
    let client = home.client().await?;
    let group = names::to_change(&client, &named.group).await?;
    let epoch = client.leave(group).await?;
    printer.show(&format!("Left [epoch {epoch}]."), &json!({"group": group, "epoch": epoch}))
}

//! `group close`: the end of a group, for everyone.

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
    let epoch = client.close_group(group).await?;
    printer.show(
        &format!("Closed for everyone [epoch {epoch}]."),
        &json!({"group": group, "epoch": epoch}),
    )
}

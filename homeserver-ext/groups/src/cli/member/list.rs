//! `member list`: who is in a group, and who reads it on Matrix.

use clap::Args;
use serde_json::json;

use super::super::{
    exit::Failure,
    home::Home,
    names::{self, Named},
    print::Printer,
    readers::Readers,
    roster::{as_json, as_table},
};

/// Arguments of `member list`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// Of those who read on Matrix, begin with this one: `next` of the page before
    #[arg(long, default_value = "", hide_default_value = true, value_name = "@USER:SERVER")]
    from: String,
    /// Show so many of those who read on Matrix
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000),
          value_name = "N")]
    limit: u32,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let roster = names::current_or_kept(&client, &arguments.named.group, printer).await?;
    let trusts = client.trusts(&roster).await?;
    let members = as_json(&roster, &trusts);
    let readers = Readers::of(&client, &roster, &arguments.from, arguments.limit).await?;
    let mut text = as_table(&client, &roster, &trusts);
    text.push_str(&readers.to_text());
    printer.show(
        &text,
        &json!({
            "group": roster.group(), "epoch": roster.epoch(), "members": members,
            "matrix": readers.to_json(),
        }),
    )
}

//! `group added-by`: who may add this account to groups without its word.

use clap::Args;
use serde_json::json;

use super::super::{exit::Failure, home::Home, print::Printer};
use crate::machine::AddedBy;

/// Arguments of `group added-by`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// From now on: `known`, `all` or `none`; without it, who may is shown
    #[arg(value_parser = parse)]
    who: Option<AddedBy>,
}

/// One of the three words.
pub(crate) fn parse(word: &str) -> Result<AddedBy, String> {
    AddedBy::from_name(word).ok_or_else(|| "one of known, all, none".to_owned())
}

pub(super) async fn run(
    arguments: &Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    if let Some(who) = arguments.who {
        client.set_added_by(who).await?;
    }
    let added_by = client.added_by().await?;
    let text = match added_by {
        AddedBy::Known => {
            "Those whom you have verified, or share a group with that you take part in, may add you \
             to groups. What others add you to is offered."
        }
        AddedBy::All => "Everybody may add you to groups.",
        AddedBy::Nobody => {
            "Nobody may add you to groups: each is offered, unless you have asked to be let in."
        }
    };
    printer.show(text, &json!({"added_by": added_by.name()}))
}

//! `pins`: which identity stands for which account here, a page at a time.

use std::fmt::Write as _;

use causeway_protocol::keys::fingerprint;
use clap::Args;
use serde_json::json;

use super::{
    exit::Failure,
    home::Home,
    print::{Printer, table},
};
use crate::machine::{Pin, Trust};

/// Arguments of `pins`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Begin with this account: `next` of the page before
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true,
        value_name = "ACCOUNT"
    )]
    from: String,
    /// Show so many
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
    let mut pins = client.pins(&arguments.from, arguments.limit + 1).await?;
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let next = pins.get(limit).map(|pin| pin.account.clone());
    pins.truncate(limit);
    let word = |pin: &Pin| if pin.verified { Trust::Verified } else { Trust::Pinned }.name();
    let mut text = if pins.is_empty() {
        "Nobody was met yet.".to_owned()
    } else {
        let rows = pins.iter().map(|pin| {
            [pin.account.to_string(), word(pin).to_owned(), fingerprint(&pin.member_id)]
        });
        table(["account", "identity", "fingerprint"], rows)
    };
    if let Some(next) = &next {
        let _ = write!(text, "\nMore: causeway-client pins --from {next}");
    }
    let pins = pins.iter().map(|pin| {
        json!({
            "account": pin.account, "member_id": pin.member_id, "identity": word(pin),
            "fingerprint": fingerprint(&pin.member_id), "since_ms": pin.since,
        })
    });
    printer.show(&text, &json!({"pins": pins.collect::<Vec<_>>(), "next": next}))
}

//! `invite create`: a link that lets people in.

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::super::{exit::Failure, home::Home, names, print::Printer};
use crate::schemes::legacy::{Suite, opus_v1};

const MS_OF_HOUR: u64 = 60 * 60 * 1_000;

/// Arguments of `invite create`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The group: its name, its id, or the first characters of its id
    #[arg(allow_hyphen_values = true)]
    group: String,
    /// How many may use it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..),
          value_name = "N")]
    uses: u32,
    /// Hours for which it is good
    #[arg(long, default_value_t = 7 * 24, value_parser = clap::value_parser!(u64).range(1..=8_760),
          value_name = "HOURS")]
    hours: u64,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let roster = names::to_change(&client, &arguments.group).await?;
    let group = roster.group();
    let expires = client.now().plus_ms(arguments.hours * MS_OF_HOUR);
    let link = client.create_invite(group, expires, arguments.uses).await?;
    // Other admins get the link too, so that they can let people in; what fails is tried again.
    if let Err(error) = client.chores().await {
        tracing::debug!(%error, "the link was not given to other admins yet");
    }
    let text = link.to_text();
    let is_opus = Suite::from_number(roster.effective_suite()) == Some(Suite::OpusV1);
    let legacy = is_opus.then(|| Zeroizing::new(opus_v1::Invite::from(&link).to_link()));
    printer.remark(
        "Whoever has this link may come in. Your client, or another admin's, must be running \
         (`causeway-client tail`) to let them.",
    );
    if legacy.is_some() {
        printer.remark("The second is the same invite, as clients of opus_v1 write one.");
    }
    let shown = [Some(&text), legacy.as_ref()].into_iter().flatten().map(|link| link.as_str());
    printer.show(
        &shown.collect::<Vec<_>>().join("\n"),
        &json!({
            "group": group, "link": text.as_str(), "key": link.terms.secret.key(),
            "legacy_link": legacy.as_ref().map(|link| link.as_str()),
            "uses": arguments.uses, "expires_ms": expires,
        }),
    )
}

//! `invite show`: what a link says, before it is followed.

use std::fmt::Write as _;

use causeway_protocol::invite::LinkRefused;
use clap::Args;
use serde_json::json;

use super::{
    super::{exit::Failure, harmless::one_line, home::Home, local_time::LocalTime, print::Printer},
    link,
};

/// Arguments of `invite show`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The link, as `invite create` gave it
    link: String,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let now = client.now();
    let link = link::read(&arguments.link, now)?;
    if !link.is_signed() {
        return Err(LinkRefused::BadSignature.into());
    }
    let terms = &link.terms;
    if now > terms.expires {
        return Err(LinkRefused::Expired.into());
    }
    let mut text = format!(
        "{}\n  id          {}\n  by          {}\n  good until  {}\n  lets in     {}\n",
        one_line(&terms.name),
        terms.group,
        terms.account,
        LocalTime::new(now).of(terms.expires),
        terms.uses,
    );
    if client.me().account.server() != terms.server {
        let _ = writeln!(text, "  !! it is of another server, {}", terms.server);
    }
    text.push_str("Its maker says so; `causeway-client invite accept` asks the server too.");
    printer.show(
        &text,
        &json!({
            "group": terms.group, "name": terms.name, "by": terms.account,
            "device": terms.inviter.device_id, "server": terms.server,
            "key": terms.secret.key(), "uses": terms.uses, "expires_ms": terms.expires,
        }),
    )
}

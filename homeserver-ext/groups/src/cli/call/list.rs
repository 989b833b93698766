//! `call list`: a group's calls.

use std::fmt::Write as _;

use causeway_protocol::{
    api::{CallState, CallTopology},
    ids::Seq,
};
use clap::Args;
use serde_json::json;

use super::super::{
    exit::Failure,
    home::Home,
    local_time::LocalTime,
    names::{self, Named},
    print::{Printer, table},
};

/// Arguments of `call list`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
    /// Begin with this one: `next` of the page before
    #[arg(long, value_name = "NUMBER")]
    from: Option<u64>,
    /// How many at most, 1 to 1,000
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
    let group = names::group(&client, &arguments.named.group).await?;
    let page = client.http().calls(group, arguments.from.map(Seq), arguments.limit).await?;
    let time = LocalTime::new(client.now());
    let rows = page.calls.iter().map(|call| row(call, &time));
    let mut text = if let (true, Some(from)) = (page.calls.is_empty(), arguments.from) {
        format!("No call from {from} on; without --from this begins with the newest.")
    } else if page.calls.is_empty() {
        "No call in the last 30 days.".to_owned()
    } else {
        table(["began", "by", "state", "who", "call"], rows)
    };
    if let Some(next) = page.next {
        let _ = write!(text, "\nMore with --from {next}");
    }
    printer.quote(&text, &json!({"group": group, "calls": page.calls, "next": page.next}))
}

fn row(call: &CallState, time: &LocalTime) -> [String; 5] {
    let ended = call.ended_ms.map(|at| time.of(at)).unwrap_or_default();
    let state = match (call.topology, call.reason.as_deref(), &call.ended_by) {
        (CallTopology::Ended, Some("by_hand"), Some(by)) => format!("ended {ended} by {by}"),
        (CallTopology::Ended, reason, _) => {
            format!("ended {ended}, {}", reason.unwrap_or("for a reason that is not known"))
        }
        _ => format!("runs, {} in it", call.participants.len()),
    };
    let who: Vec<_> = call.accounts.iter().map(ToString::to_string).collect();
    [
        time.of(call.started_ms),
        call.started_by.mirror.clone().unwrap_or_else(|| call.started_by.account.to_string()),
        state,
        who.join(", "),
        call.call.to_string(),
    ]
}

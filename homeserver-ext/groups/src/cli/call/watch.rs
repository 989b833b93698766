//! `call watch`: who comes and goes, as the server says it; it needs no mailbox, so it runs beside `tail`.

use std::time::Duration;

use clap::Args;

use super::{
    super::{
        exit::Failure,
        follow::stopped,
        home::Home,
        names::{self, Named},
        print::Printer,
    },
    heard::Heard,
};

/// How often the server is asked.
const POLL: Duration = Duration::from_secs(1);

/// Arguments of `call watch`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    named: Named,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let roster = names::roster(&client, &arguments.named.group).await?;
    let stop = stopped()
        .map_err(|e| Failure::failed(format!("signals cannot be heard: {e}")).next("Try again."))?;
    let mut stop = std::pin::pin!(stop);
    let mut due = tokio::time::interval(POLL);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut heard, mut is_first) = (Heard::default(), true);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            _ = due.tick() => {}
        }
        match client.http().calls(roster.group(), None, 1).await {
            Ok(page) => {
                for state in &page.calls {
                    // What ended before is no news.
                    let lines = heard.hear(state, &client.me().account);
                    if !(is_first && state.ended_ms.is_some()) {
                        for line in lines {
                            printer.quote(&line.to_text(&roster.policy().name), &line)?;
                        }
                    }
                }
                is_first = false;
            }
            Err(error) if error.is_transient() => printer.note(&format!("{error}; trying again")),
            Err(error) => return Err(error.into()),
        }
    }
}

//! `tail`: follows the mailbox, shows what comes in, and does this device's part of the key work.
//!
//! Kept first, shown second: one commit holds the opened message and the moved ratchet, then the
//! server may forget it, then it is written to stdout, then it is marked as shown. Killed between
//! the last two, the next `tail` writes that line again, with the same `row`; a reader that keeps
//! the last row it has read, and asks for what comes `--since` it, sees each line exactly once.

use std::time::Duration;

use causeway_protocol::{api::CallState, ids::GroupId};
use clap::Args;

use super::{
    call::Heard,
    exit::Failure,
    follow::{Audience, Follower, only_one, stopped},
    history,
    home::Home,
    local_time::LocalTime,
    names, outbox,
    print::Printer,
};
use crate::sdk::{CallError, Client, SdkError};

/// What `--once` waits for more.
const ONCE_IDLE: Duration = Duration::from_secs(1);

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Show this group only; everything is kept all the same
    #[arg(long, allow_hyphen_values = true, value_name = "GROUP")]
    group: Option<String>,
    /// Leave out what was said with this home itself
    #[arg(long)]
    others: bool,
    /// Show what came after this row again, then go on; else after what was shown last
    #[arg(long, value_name = "ROW")]
    since: Option<i64>,
    /// End when nothing more waits
    #[arg(long)]
    once: bool,
    /// End when nothing has come for so long
    #[arg(long, value_name = "SECONDS")]
    idle: Option<f64>,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let _only = only_one(home)?;
    let group = match &arguments.group {
        Some(name) => Some(names::group(&client, name).await?),
        None => None,
    };
    let idle = match arguments.idle {
        Some(seconds) => Some(Duration::try_from_secs_f64(seconds).map_err(|_| {
            Failure::usage(format!("`{seconds}` is no time to wait"))
                .next("--idle takes seconds, as in --idle 2.5.")
        })?),
        None => arguments.once.then_some(ONCE_IDLE),
    };
    let since = arguments.since;
    // Before anything is shown: who reads it may signal at once.
    let stop = stopped()
        .map_err(|e| Failure::failed(format!("signals cannot be heard: {e}")).next("Try again."))?;
    let (others, heard) = (arguments.others, Heard::default());
    let mut tail = Tail { client: &client, printer, group, others, heard, since };
    let mut tx = client.db().begin().await?;
    outbox::forget(&mut tx, client.now()).await?;
    tx.commit().await?;
    tail.kept().await?;
    let mut stream = client.stream();
    let done = Follower::new(&client, tail).follow(&mut stream, idle, stop).await;
    stream.close().await;
    done
}

struct Tail<'a> {
    client: &'a Client,
    printer: Printer,
    group: Option<GroupId>,
    /// Whether own messages are left out.
    others: bool,
    heard: Heard,
    /// The last row that the reader has, where it says so; else the marks say it.
    since: Option<i64>,
}

impl Audience for Tail<'_> {
    /// Shows what is kept and was not shown; says whether there was any.
    async fn kept(&mut self) -> Result<bool, Failure> {
        let (db, vault) = (self.client.db(), self.client.vault());
        let mut shown = false;
        loop {
            let lines = match self.since {
                Some(row) => history::after(db, vault, self.group, row).await?,
                None => history::unshown(db, vault, self.group).await?,
            };
            let Some(last) = lines.last() else { return Ok(shown) };
            let time = LocalTime::new(self.client.now());
            for line in lines.iter().filter(|line| !self.others || !line.is_own()) {
                shown = true;
                self.printer.quote(&line.to_text(&time, self.printer.called()), line)?;
            }
            if let Some(row) = &mut self.since {
                *row = last.row;
            }
            history::mark_shown(db, &lines).await?;
        }
    }

    /// Rings, and shows who comes and goes. No line of this is kept.
    async fn call(&mut self, state: &CallState) -> Result<(), Failure> {
        let me = &self.client.me().account;
        let lines = self.heard.hear(state, me);
        if self.group.is_some_and(|group| group != state.group) {
            return Ok(());
        }
        let name = match self.client.roster(state.group).await {
            Ok(roster) => roster.policy().name.clone(),
            Err(SdkError::UnknownGroup(group)) => group.to_string(),
            Err(error) => return Err(error.into()),
        };
        for line in lines {
            self.printer.quote(&line.to_text(&name), &line)?;
            if line.rings(me, self.client.now()) {
                self.printer.remark(&format!(
                    "It rings. If you do not come: causeway-client call decline {}",
                    state.group
                ));
            }
        }
        Ok(())
    }

    fn note(&mut self, text: &str) {
        self.printer.note(text);
    }

    fn connection(&mut self, lost: Option<&CallError>) {
        if let Some(error) = lost {
            self.note(&format!("{error}; trying again"));
        }
    }
}

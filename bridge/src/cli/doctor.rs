//! `causeway doctor`, as it is shown.

use std::io::{self, Write as _};

use anyhow::{Context as _, anyhow};
use causeway_bridge::doctor::{Check, Options, State, examine};
use serde_json::json;

use super::{ConfigArgs, Failure, Output};

/// What `doctor` is told.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Also makes a private room as for a group, has a ghost speak in it, and leaves nothing of it but
    /// the ghost's account.
    #[arg(long)]
    try_room: bool,
    /// The same as `--output json`
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let mut checks = Vec::new();
        let mut written = Ok(());
        let mut show = |check: Check| {
            if output == Output::Text && written.is_ok() {
                written = line(&check);
            }
            checks.push(check);
        };
        let overrides = self.config.overrides();
        let options = Options { try_room: self.try_room };
        examine(self.config.config.as_deref(), &overrides, options, &mut show)
            .context("nothing can be looked at")?;
        written.context("cannot write to standard output")?;
        let count = |state| checks.iter().filter(|check| check.state == state).count();
        let (failed, warnings) = (count(State::Failed), count(State::Warning));
        let text = format!("{} looked at: {failed} failed, {warnings} to look after", checks.len());
        output.show(&text, &json!({"checks": checks, "failed": failed, "warnings": warnings}))?;
        if failed > 0 {
            let them =
                if failed == 1 { "one thing is not as it" } else { "some things are not as they" };
            return Err(anyhow!("{them} should be").into());
        }
        Ok(())
    }
}

fn line(check: &Check) -> io::Result<()> {
    let state = match check.state {
        State::Ok => "ok",
        State::Warning => "look",
        State::Failed => "FAIL",
        State::Skipped => "-",
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{state:<5} {:<26} {}", check.name, check.found)?;
    if let Some(fix) = &check.fix {
        writeln!(out, "{:<32} fix: {fix}", "")?;
    }
    out.flush()
}

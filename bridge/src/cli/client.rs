//! `causeway client`: the native client, for whoever has just this binary.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Context as _;
use clap::Args;

use super::{Output, failure::Failure};

/// A command of the client, which alone knows what it means.
#[derive(Args)]
pub(super) struct Words {
    /// A command of the client and what belongs to it; `causeway client --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    words: Vec<OsString>,
}

impl Words {
    /// Runs it; it has said itself what went wrong.
    pub(super) fn run(self, output: Output) -> Result<ExitCode, Failure> {
        let form = match output {
            Output::Text => Vec::new(),
            Output::Json => vec!["--output".into(), "json".into()],
        };
        let words = form.into_iter().chain(self.words);
        let runtime = tokio::runtime::Runtime::new().context("cannot start a thread")?;
        Ok(runtime.block_on(causeway_groups::cli::run("causeway client", words)))
    }
}

//! `causeway-client`: native groups from a terminal.

use std::{
    io::{IsTerminal as _, stderr},
    process::ExitCode,
};

use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    causeway_store::write_for_the_owner_alone();
    // What goes wrong is said by the command, once; the log is for those who ask for it.
    let filter = EnvFilter::try_from_env("CAUSEWAY_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        .init();
    causeway_groups::cli::run().await
}

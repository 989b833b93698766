//! `causeway-client`: native groups from a terminal.

use std::process::ExitCode;

use causeway_groups::cli;

#[tokio::main]
async fn main() -> ExitCode {
    causeway_store::write_for_the_owner_alone();
    cli::run(cli::PROGRAM, std::env::args_os().skip(1)).await
}

//! `causeway`: the one server binary. Commands and exit codes; the work is in the library.

mod cli;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    causeway_store::write_for_the_owner_alone();
    cli::Cli::run_typed(&env::args_os().collect::<Vec<_>>())
}

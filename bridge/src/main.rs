//! `causeway`: the one server binary. Commands and exit codes; the work is in the library.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("causeway: {:#}", failure.error);
            ExitCode::from(failure.code)
        }
    }
}

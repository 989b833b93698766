//! `causeway`: the one server binary. Commands and exit codes; the work is in the library.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    causeway_store::write_for_the_owner_alone();
    cli::Cli::parse().run()
}

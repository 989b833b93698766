//! By which name a person calls this program, where it tells them what to type.

use clap::Command;

/// The program's own name, which all texts here are written with.
pub const PROGRAM: &str = "causeway-client";

/// Our own words, as they are for somebody who calls the program like this.
pub(super) fn in_words(text: &str, called: &str) -> String {
    // With what follows it: a path may have the name in it, too.
    text.replace(&format!("{PROGRAM} "), &format!("{called} "))
}

/// The help of a command and of all below it.
pub(super) fn in_help(command: Command, called: &'static str) -> Command {
    examples(command.bin_name(called).display_name(called), called)
}

fn examples(command: Command, called: &str) -> Command {
    let after = command.get_after_help().map(|help| in_words(&help.to_string(), called));
    let command = command.mut_subcommands(|below| examples(below, called));
    match after {
        Some(after) => command.after_help(after),
        None => command,
    }
}

//! What a person is asked before it is done, where there is a person.

use std::io::{self, IsTerminal as _, Write as _};

use super::exit::Failure;

/// Lets it be done that `question` is about: a person at the terminal says so, or `yes` was given;
/// scripts, which have no terminal, are not asked.
///
/// # Errors
/// The person did not say yes.
pub(super) fn agree(question: &str, yes: bool) -> Result<(), Failure> {
    if yes || !io::stdin().is_terminal() || says_yes(question) {
        return Ok(());
    }
    Err(Failure::failed("you did not say yes").next("Nothing was changed."))
}

/// Asks; no answer is a no.
pub(super) fn says_yes(question: &str) -> bool {
    let _ = write!(io::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

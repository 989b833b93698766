//! The demo: a real homeserver, real clients, and the story that they play.
//!
//! The end-to-end tests use the same homeserver and the same Matrix user; nothing in here is
//! used by `causeway run`.

pub mod causeway;
pub mod files;
pub mod matrix_user;
pub mod progress;
pub mod synapse;
pub mod venv;

use std::path::PathBuf;

/// What the demo is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Ends after the story: exit code 0, or 1 with the reason.
    #[arg(long)]
    once: bool,
    /// Messages in each direction.
    #[arg(long, default_value_t = 20)]
    messages: u32,
    /// Prints one JSON object on standard output, and nothing else there.
    #[arg(long)]
    json: bool,
    /// Uses a homeserver that runs, instead of one made for the demo.
    #[arg(long, requires_all = ["registration", "matrix_user", "matrix_password_file"])]
    homeserver: Option<String>,
    /// The registration that is installed there.
    #[arg(long, requires = "homeserver")]
    registration: Option<PathBuf>,
    /// A Matrix user there, who plays the Matrix side.
    #[arg(long, requires = "homeserver")]
    matrix_user: Option<String>,
    /// The file with that user's password.
    #[arg(long, requires = "homeserver")]
    matrix_password_file: Option<PathBuf>,
}

/// Why the demo did not end well.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Not built yet.
    #[error("not yet")]
    NotYet,
}

/// Plays the story.
///
/// # Errors
/// [`DemoError`]
pub fn run_until_signalled(_options: Options) -> Result<(), DemoError> {
    Err(DemoError::NotYet)
}

//! What the demo is about to do, on stderr: a line for each step, which stays; on a terminal a
//! line that moves below them.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    time::Duration,
};

use causeway_groups::cli::one_line;
use indicatif::{ProgressBar, ProgressStyle};

/// Says what goes on.
#[derive(Debug, Clone)]
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// On stderr.
    pub fn new() -> Self {
        if !stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:.dim} {msg:.dim}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(Some(bar))
    }

    /// A step has begun.
    pub fn say(&self, text: &str) {
        let text = one_line(text);
        match &self.0 {
            Some(bar) => {
                bar.println(text);
                bar.set_message("");
            }
            // Nobody is left to be told where this cannot be written.
            None => drop(writeln!(stderr(), "causeway: {text}")),
        }
    }

    /// A detail of the step, of interest only to who is looking.
    pub fn detail(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(one_line(text).chars().take(100).collect::<String>());
        }
    }

    /// Nothing goes on any more; the line that moves is taken away.
    pub fn done(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

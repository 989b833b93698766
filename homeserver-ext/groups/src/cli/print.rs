//! Where results go: stdout as text or as JSON lines; what went wrong goes to stderr.

use std::io::{self, Write as _};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::{Output, called::in_words, exit::Failure, harmless::one_line};

/// Writes results the way that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Printer {
    output: Output,
    called: &'static str,
}

impl Printer {
    /// Writes in this form, for somebody who calls the program like this.
    pub(super) fn new(output: Output, called: &'static str) -> Self {
        Self { output, called }
    }

    /// How a person calls this program.
    pub(super) fn called(self) -> &'static str {
        self.called
    }

    /// Whether people read it.
    pub(super) fn is_for_people(self) -> bool {
        self.output == Output::Text
    }

    /// Writes one result, `text` for people or `json` for programs, and has it out before it
    /// returns.
    ///
    /// # Errors
    /// The reader of stdout is gone, or its disk is full: the result was not shown.
    pub(super) fn show(self, text: &str, json: &impl Serialize) -> Result<(), Failure> {
        self.quote(&in_words(text, self.called), json)
    }

    /// The same where `text` is shown as it is: somebody said it.
    ///
    /// # Errors
    /// As above.
    pub(super) fn quote(self, text: &str, json: &impl Serialize) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = match self.output {
            Output::Text => out.write_all(text.as_bytes()),
            Output::Json => serde_json::to_writer(&mut out, json).map_err(io::Error::from),
        };
        written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).map_err(|e| {
            Failure::failed(format!("cannot write to stdout: {e}"))
                .next("What was done is done; it was not shown.")
        })
    }

    /// A remark for people beside the results; on stderr, so that it is never taken for one.
    pub(super) fn remark(self, text: &str) {
        if self.output == Output::Text {
            to_stderr(&in_words(text, self.called));
        }
    }

    /// Trouble that may pass by itself, while the command goes on.
    pub(super) fn note(self, text: &str) {
        let text = in_words(text, self.called);
        match self.output {
            Output::Text => to_stderr(&format!("note: {text}")),
            Output::Json => to_stderr(&serde_json::json!({"note": text}).to_string()),
        }
    }

    /// What went wrong.
    pub(super) fn failure(self, failure: &Failure) {
        let failure = failure.as_called(self.called);
        match self.output {
            Output::Text => to_stderr(&failure.to_string()),
            Output::Json => to_stderr(&failure.to_json().to_string()),
        }
    }
}

/// Rows under a header, without lines; whatever others have put into a cell, a row is one line.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| one_line(&cell)));
    }
    // Columns are padded on both sides; the first needs none.
    let lines = table.lines().map(|line| line.trim_end().trim_start_matches(' ').to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// There is nobody left to tell when stderr is gone.
fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

//! What is to be said, as it is given: words, all of stdin, or its lines.

use std::time::Duration;

use causeway_protocol::content::MAX_PLAINTEXT;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Split, Stdin, stdin},
    time::timeout,
};

use super::exit::Failure;

/// Lines taken together: one commit, one request. A lone line does not wait longer for company.
const MAX_LINES: usize = 64;
const GATHER: Duration = Duration::from_millis(10);
/// How much of a text that is too long is counted.
const COUNTED: u64 = 1 << 30;

/// The words of the command line, or all of stdin without its last line end.
pub(super) async fn text_of(words: &[String]) -> Result<String, Failure> {
    let mut text = words.join(" ");
    if words.is_empty() || words == ["-"] {
        text = from_stdin().await?;
    }
    if text.is_empty() { Err(empty(None)) } else { Ok(text) }
}

async fn from_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let mut input = stdin().take(COUNTED);
    // One more for the line end, and one that is too many.
    let mut most = (&mut input).take(MAX_PLAINTEXT as u64 + 2);
    most.read_to_end(&mut bytes).await.map_err(|e| unreadable(&e))?;
    if bytes.ends_with(b"\n") {
        bytes.pop();
    }
    // What is cut off may be cut in the middle of a character.
    if bytes.len() > MAX_PLAINTEXT {
        tokio::io::copy(&mut input, &mut tokio::io::sink()).await.map_err(|e| unreadable(&e))?;
        return Err(too_long(None, &format!("at least {}", COUNTED - input.limit())));
    }
    utf8(bytes, None)
}

/// Lines of stdin, as they come.
pub(super) struct Lines {
    input: Split<BufReader<Stdin>>,
    /// Those that were read.
    read: u64,
}

impl Lines {
    /// From the beginning.
    pub(super) fn of_stdin() -> Self {
        Self { input: BufReader::new(stdin()).split(b'\n'), read: 0 }
    }

    /// The next lines, the first and what comes right behind it, and whether there may be more.
    pub(super) async fn gather(&mut self) -> Result<(Vec<String>, bool), Failure> {
        let Some(first) = self.next().await? else { return Ok((Vec::new(), false)) };
        let mut lines = vec![first];
        while lines.len() < MAX_LINES {
            match timeout(GATHER, self.next()).await {
                Ok(Ok(Some(line))) => lines.push(line),
                Ok(Ok(None)) => return Ok((lines, false)),
                Ok(Err(failure)) => return Err(failure),
                Err(_) => break,
            }
        }
        Ok((lines, true))
    }

    /// Whoever stops waiting for it loses nothing.
    async fn next(&mut self) -> Result<Option<String>, Failure> {
        let line = self.input.next_segment().await.map_err(|e| unreadable(&e))?;
        let Some(mut line) = line else { return Ok(None) };
        self.read += 1;
        if line.ends_with(b"\r") {
            line.pop();
        }
        utf8(line, Some(self.read)).map(Some)
    }
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::failed(format!("stdin cannot be read: {error}")).next("Give the text as an argument.")
}

fn utf8(bytes: Vec<u8>, line: Option<u64>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let what = line.map_or_else(|| "stdin".to_owned(), |line| format!("line {line} of stdin"));
        let error = error.utf8_error();
        if error.error_len().is_none() {
            return Failure::usage(format!("{what} ends in the middle of a character"))
                .next("It was cut off: give it whole.");
        }
        Failure::usage(format!("{what} is not UTF-8 text: {error}"))
            .next("Convert it to UTF-8 first; `iconv` does.")
    })
}

/// A text that says nothing, which is not sent.
pub(super) fn empty(line: Option<u64>) -> Failure {
    match line {
        None => Failure::usage("there is nothing to send")
            .next("Give the text as an argument, or on stdin."),
        Some(line) => Failure::usage(format!("line {line} is empty: there is nothing to send"))
            .next("Leave empty lines out (`grep .`). Of the lines before it, those were sent whose ids are printed."),
    }
}

/// A text that takes so many bytes, more than fit.
pub(super) fn too_long(line: Option<u64>, takes: &str) -> Failure {
    let called = line.map_or_else(|| "the message".to_owned(), |line| format!("line {line}"));
    Failure::usage(format!(
        "{called} is too long: as it is sealed it takes {takes} bytes, and at most {MAX_PLAINTEXT} \
         fit; a quotation mark, a backslash or a line break takes 2, most other control characters 6"
    ))
    .next(match line {
        None => "Send it in parts; `--lines` makes each line of stdin a message.",
        Some(_) => {
            "Split that line. Of the lines before it, those were sent whose ids are printed."
        }
    })
}

//! A command that is waited for, and ends with whoever waits.

use std::{io, process::Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::unix::pipe::Receiver,
    process::{Child, Command},
};

/// Lines that are kept for the error.
const LAST: usize = 12;

/// Why a command did not end well.
#[derive(Debug)]
pub(super) enum ChildError {
    /// It could not be started or read.
    Io(io::Error),
    /// It ended with a code that is not 0.
    Failed(Output),
}

impl From<io::Error> for ChildError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a command said on stdout and stderr.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Everything.
    pub(super) all: String,
    /// The end of it.
    pub(super) last: String,
}

/// A process that leads a group of its own, so that what it started ends with it.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    async fn wait(&mut self) -> io::Result<bool> {
        let status = self.child.wait().await?;
        // Its number may be another's from now on.
        self.id = None;
        Ok(status.success())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // Nothing can be done about a failure here.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// Runs `command`, and hands on each line that it says. It, and what it started, is killed when
/// this is dropped before its end.
///
/// # Errors
/// [`ChildError`]
pub(super) async fn run(
    command: &mut Command,
    mut each_line: impl FnMut(&str),
) -> Result<(), ChildError> {
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
    let child = command.spawn()?;
    // The command holds two ends of the pipe, which would never close while it lives.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let mut group = Group { child, id };
    let mut said = BufReader::new(Receiver::from_owned_fd(reader.into())?);
    let (mut all, mut line) = (String::new(), Vec::new());
    while said.read_until(b'\n', &mut line).await? > 0 {
        let text = String::from_utf8_lossy(&line);
        each_line(text.trim());
        all.push_str(&text);
        line.clear();
    }
    if group.wait().await? {
        return Ok(());
    }
    let lines: Vec<_> = all.lines().collect();
    let last = lines.iter().skip(lines.len().saturating_sub(LAST));
    let last = last.copied().collect::<Vec<_>>().join("\n");
    Err(ChildError::Failed(Output { all, last }))
}

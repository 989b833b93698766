//! What ends the demo from outside: signals, and that nobody reads it any more.

use std::{fmt, io};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinHandle, spawn_blocking},
};

/// Why it is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A signal: its number and its name.
    Signal(u8, &'static str),
    /// Who read standard output is gone.
    NobodyReads,
}

impl Ending {
    /// 128 and the number of the signal, as shells have it; 1.
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Self::Signal(number, _) => 128 + number,
            Self::NobodyReads => 1,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(_, name) => write!(f, "{name} ended the demo before its story was over"),
            Self::NobodyReads => f.write_str(
                "nobody reads standard output any more (broken pipe), so the demo ended",
            ),
        }
    }
}

/// Hears of them.
pub(super) struct Endings {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    nobody_reads: JoinHandle<()>,
}

impl Endings {
    /// From now on.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            nobody_reads: spawn_blocking(nobody_reads),
        })
    }

    /// Waits for one.
    pub(super) async fn next(&mut self) -> Ending {
        tokio::select! {
            _ = self.interrupt.recv() => Ending::Signal(2, "SIGINT"),
            _ = self.terminate.recv() => Ending::Signal(15, "SIGTERM"),
            _ = self.hangup.recv() => Ending::Signal(1, "SIGHUP"),
            _ = &mut self.nobody_reads => Ending::NobodyReads,
        }
    }
}

/// Blocks its thread until that is so; for ever where standard output is a file.
fn nobody_reads() {
    let out = io::stdout();
    // Asked for nothing, it tells of errors alone.
    while poll(&mut [PollFd::new(&out, PollFlags::empty())], None) == Err(Errno::INTR) {}
}

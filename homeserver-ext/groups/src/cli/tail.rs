//! `tail`: follows the mailbox, shows what comes in, and does this device's part of the key work.
//!
//! Kept first, shown second: one commit holds the opened message and the moved ratchet, then the
//! server may forget it, then it is written to stdout, then it is marked as shown. Killed between
//! the last two, the next `tail` writes that line again, with the same `row`; a reader that keeps
//! the last row it has read, and asks for what comes `--since` it, sees each line exactly once.

use std::{collections::HashSet, fs, io::Write as _, time::Duration};

use causeway_protocol::{
    envelope::{Kind, Sender},
    ids::GroupId,
};
use clap::Args;
use tokio::time::{Instant, sleep_until};

use super::{exit::Failure, history, home::Home, names, outbox, print::Printer};
use crate::sdk::{CallError, Client, Stream};

/// How often the key work is looked at when nothing calls for it.
const CHORES_EVERY: Duration = Duration::from_secs(5);
/// Quiet times that are waited out because something was done for others in them.
const MAX_QUIET: usize = 5;
/// What `--once` waits for more.
const ONCE_IDLE: Duration = Duration::from_secs(1);

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Show this group only; everything is kept all the same
    #[arg(long, allow_hyphen_values = true, value_name = "GROUP")]
    group: Option<String>,
    /// Show what came after this row again, then go on; else after what was shown last
    #[arg(long, value_name = "ROW")]
    since: Option<i64>,
    /// End when nothing more waits
    #[arg(long)]
    once: bool,
    /// End when nothing has come for so long
    #[arg(long, value_name = "SECONDS")]
    idle: Option<f64>,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let _only = only_one(home)?;
    let group = match &arguments.group {
        Some(name) => Some(names::group(&client, name).await?),
        None => None,
    };
    let idle = match arguments.idle {
        Some(seconds) => Some(Duration::try_from_secs_f64(seconds).map_err(|_| {
            Failure::usage(format!("`{seconds}` is no time to wait"))
                .next("--idle takes seconds, as in --idle 2.5.")
        })?),
        None => arguments.once.then_some(ONCE_IDLE),
    };
    let since = arguments.since;
    // Before anything is shown: who reads it may signal at once.
    let stop = stopped()
        .map_err(|e| Failure::failed(format!("signals cannot be heard: {e}")).next("Try again."))?;
    let mut tail = Tail {
        client: &client,
        printer,
        group,
        since,
        is_lost: false,
        undecided: HashSet::new(),
        stalled: None,
    };
    let mut tx = client.db().begin().await?;
    outbox::forget(&mut tx, client.now()).await?;
    tx.commit().await?;
    tail.show_kept().await?;
    let mut stream = client.stream();
    let done = tail.follow(&mut stream, idle, stop).await;
    stream.close().await;
    done
}

struct Tail<'a> {
    client: &'a Client,
    printer: Printer,
    group: Option<GroupId>,
    /// The last row that the reader has, where it says so; else the marks say it.
    since: Option<i64>,
    is_lost: bool,
    /// Groups of which was said that what waits there waits for a person.
    undecided: HashSet<GroupId>,
    /// Whose messages hold the mailbox up.
    stalled: Option<Sender>,
}

impl Tail<'_> {
    async fn follow(
        &mut self,
        stream: &mut Stream,
        idle: Option<Duration>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let mut stop = std::pin::pin!(stop);
        let mut chores_at = Instant::now();
        let mut quiet = 0;
        let mut idle_at = idle.map(|idle| Instant::now() + idle);
        loop {
            let until_idle = async {
                match idle_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                rows = stream.next_rows() => match rows {
                    Ok(rows) => {
                        self.is_lost = false;
                        let taken = self.client.receive(&rows).await?;
                        stream.took(&taken).await;
                        let shown = self.show_kept().await?;
                        self.note_stall(stream, taken.no_room);
                        if shown || !stream.is_stuck() {
                            quiet = 0;
                            idle_at = idle.map(|idle| Instant::now() + idle);
                        }
                        // What is no plain message may call for an answer.
                        if rows.iter().any(|row| row.envelope.kind != Kind::Message) {
                            chores_at = Instant::now();
                        }
                    }
                    Err(error) => self.lost(error)?,
                },
                () = sleep_until(chores_at) => {
                    self.do_chores().await?;
                    chores_at = Instant::now() + CHORES_EVERY;
                }
                () = until_idle => {
                    match stream.connected_since() {
                        // Then the connection comes and goes, to see what is behind.
                        _ if self.stalled.is_some() => {}
                        None if self.is_lost => return Err(no_connection()),
                        // It is quiet from when there is somebody to be heard.
                        None => {
                            idle_at = idle.map(|idle| Instant::now() + idle);
                            continue;
                        }
                        Some(since) if idle.is_some_and(|idle| since.elapsed() < idle) => {
                            idle_at = idle.map(|idle| since + idle);
                            continue;
                        }
                        Some(_) => {}
                    }
                    // What was done for others may be answered; but not for ever.
                    quiet += 1;
                    let done = self.do_chores().await?;
                    match &self.stalled {
                        Some(by) if quiet > MAX_QUIET => return Err(stalled(by)),
                        None if !done || quiet > MAX_QUIET => return Ok(()),
                        Some(_) | None => {}
                    }
                    idle_at = idle.map(|idle| Instant::now() + idle);
                }
            }
        }
    }

    /// Shows what is kept and was not shown; says whether there was any.
    async fn show_kept(&mut self) -> Result<bool, Failure> {
        let (db, vault) = (self.client.db(), self.client.vault());
        let mut shown = false;
        loop {
            let lines = match self.since {
                Some(row) => history::after(db, vault, self.group, row).await?,
                None => history::unshown(db, vault, self.group).await?,
            };
            let Some(last) = lines.last() else { return Ok(shown) };
            shown = true;
            for line in &lines {
                self.printer.show(&line.to_text(), line)?;
            }
            if let Some(row) = &mut self.since {
                *row = last.row;
            }
            history::mark_shown(db, &lines).await?;
        }
    }

    /// Admits who may come in, acknowledges and answers keys, and sends what still waits; shows what
    /// came to light. Says whether anything was done. Trouble passes: the chores are due again.
    async fn do_chores(&mut self) -> Result<bool, Failure> {
        let done = async {
            // What the server refuses for now keeps nobody's messages.
            let done = self.client.chores().await;
            for group in outbox::waiting(self.client.db()).await? {
                match outbox::flush(self.client, group).await {
                    // Said once; other groups do not wait for a person's decision about this one.
                    Err(error) if error.waits_for_a_person() => {
                        if self.undecided.insert(group) {
                            self.printer.note(&Failure::from(error).to_text());
                        }
                    }
                    flushed => flushed?,
                }
            }
            Ok::<_, outbox::OutboxError>(done?)
        };
        let done = match done.await {
            Ok(done) => done,
            Err(error) if error.is_transient() => {
                tracing::debug!(%error, "chores wait");
                false
            }
            Err(error) => {
                self.printer.note(&error.to_string());
                false
            }
        };
        self.show_kept().await?;
        Ok(done)
    }

    fn lost(&mut self, error: CallError) -> Result<(), Failure> {
        if !error.is_transient() {
            return Err(error.into());
        }
        if !std::mem::replace(&mut self.is_lost, true) {
            self.printer.note(&format!("{error}; trying again"));
        }
        Ok(())
    }

    /// Says once that the mailbox stands still, and forgets it when it goes on.
    fn note_stall(&mut self, stream: &Stream, no_room: Option<Sender>) {
        if !stream.is_stuck() {
            self.stalled = None;
            if let Some(by) = no_room {
                self.printer.note(&format!(
                    "messages of {} that wait for a key stay at the server (device {})",
                    by.account, by.device
                ));
            }
        } else if let (None, Some(by)) = (&self.stalled, no_room) {
            self.printer.note(&stalled(&by).to_text());
            self.stalled = Some(by);
        }
    }
}

/// Too much of one device waits for a key. The key may come yet, and what waits too long is given up.
fn stalled(by: &Sender) -> Failure {
    Failure::failed(format!(
        "the mailbox stands still: no more messages of {} can be held that wait for a key \
         (device {})",
        by.account, by.device
    ))
    .next(
        "It goes on when the key comes: that device must be online to send it again. Messages that \
         wait longer than they were to live are given up, and shown as failed.",
    )
}

fn no_connection() -> Failure {
    CallError::Unreachable("the stream does not come about".to_owned()).into()
}

/// Ends with Ctrl-C or a polite kill; both are heard from the call on.
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// One mailbox has one reader. The lock goes with the process, however it ends.
fn only_one(home: &Home) -> Result<fs::File, Failure> {
    let path = home.dir().join("tail.lock");
    let unusable = |e: std::io::Error| {
        Failure::failed(format!("{}: {e}", path.display()))
            .next("Is the folder yours to write to, and is there room on its disk?")
    };
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(unusable)?;
            write!(file, "{}", std::process::id()).map_err(unusable)?;
            Ok(file)
        }
        Err(fs::TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            Err(Failure::failed(format!("process {holder} is following this home already"))
                .next("Stop it first; `send` works beside it."))
        }
        Err(fs::TryLockError::Error(e)) => Err(unusable(e)),
    }
}

//! Follows the mailbox: opens what comes in, does this device's part of the key work, and sends what
//! waits. `tail` and `chat` show what comes of it, each in its way; there is one of both for a home.

use std::{collections::HashSet, fs, io::Write as _, time::Duration};

use causeway_protocol::{
    api::CallState,
    envelope::{Kind, Sender},
    ids::GroupId,
};
use tokio::time::{Instant, sleep_until};

use super::{exit::Failure, home::Home, outbox};
use crate::sdk::{CallError, Client, Stream};

/// How often the key work is looked at when nothing calls for it.
const CHORES_EVERY: Duration = Duration::from_secs(5);
/// Quiet times that are waited out because something was done for others in them.
const MAX_QUIET: usize = 5;

/// Who is told what happens.
pub(super) trait Audience {
    /// Something may have been kept that was not shown. Says whether there was any.
    async fn kept(&mut self) -> Result<bool, Failure>;
    /// Trouble that may pass by itself.
    fn note(&mut self, text: &str);
    /// A call is other than it was.
    async fn call(&mut self, _state: &CallState) -> Result<(), Failure> {
        Ok(())
    }
    /// The server cannot be reached, and why; or can be again.
    fn connection(&mut self, lost: Option<&CallError>);
}

/// The mailbox, and who is told what comes of it.
pub(super) struct Follower<'a, A> {
    client: &'a Client,
    audience: A,
    is_lost: bool,
    /// Groups of which was said that what waits there waits for a person, or for a key.
    undecided: HashSet<GroupId>,
    /// Whose messages hold the mailbox up.
    stalled: Option<Sender>,
}

impl<'a, A: Audience> Follower<'a, A> {
    /// Nothing is followed yet.
    pub(super) fn new(client: &'a Client, audience: A) -> Self {
        Self { client, audience, is_lost: false, undecided: HashSet::new(), stalled: None }
    }

    /// Until `stop`, or until nothing has come for `idle`.
    pub(super) async fn follow(
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
                        if std::mem::take(&mut self.is_lost) {
                            self.audience.connection(None);
                        }
                        let taken = self.client.receive(&rows).await?;
                        stream.took(&taken).await;
                        let shown = self.audience.kept().await?;
                        for state in self.client.calls().take() {
                            self.audience.call(&state).await?;
                        }
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
                    // It may have come back, and there was nothing to fetch.
                    if self.is_lost && stream.connected_since().is_some() {
                        self.is_lost = false;
                        self.audience.connection(None);
                    }
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

    /// Admits who may come in, acknowledges and answers keys, and sends what still waits; shows what
    /// came to light. Says whether anything was done. Trouble passes: the chores are due again.
    async fn do_chores(&mut self) -> Result<bool, Failure> {
        let done = async {
            // What the server refuses for now keeps nobody's messages.
            let done = self.client.chores().await;
            outbox::seal_anew(self.client).await?;
            for group in outbox::waiting(self.client.db()).await? {
                match outbox::flush(self.client, group).await {
                    // Said once; other groups do not wait for what this one waits for.
                    Err(error) if error.is_of_the_group() => {
                        if self.undecided.insert(group) {
                            self.audience.note(&Failure::from(error).to_text());
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
                self.audience.note(&error.to_string());
                false
            }
        };
        self.audience.kept().await?;
        Ok(done)
    }

    fn lost(&mut self, error: CallError) -> Result<(), Failure> {
        if !error.is_transient() {
            return Err(error.into());
        }
        if !std::mem::replace(&mut self.is_lost, true) {
            self.audience.connection(Some(&error));
        }
        Ok(())
    }

    /// Says once that the mailbox stands still, and forgets it when it goes on.
    fn note_stall(&mut self, stream: &Stream, no_room: Option<Sender>) {
        if !stream.is_stuck() {
            self.stalled = None;
            if let Some(by) = no_room {
                self.audience.note(&format!(
                    "messages of {} that wait for a key stay at the server (device {})",
                    by.account, by.device
                ));
            }
        } else if let (None, Some(by)) = (&self.stalled, no_room) {
            self.audience.note(&stalled(&by).to_text());
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
///
/// # Errors
/// This process may not listen to signals.
pub fn stopped() -> std::io::Result<impl Future<Output = ()>> {
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
pub(super) fn only_one(home: &Home) -> Result<fs::File, Failure> {
    let path = home.dir().join("tail.lock");
    let unusable = |e: std::io::Error| Failure::failed(format!("{}: {e}", path.display()));
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

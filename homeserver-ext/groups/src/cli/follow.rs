//! Follows the mailbox: opens what comes in, does this device's part of the key work, and sends what
//! waits. `tail` and `chat` show what comes of it, each in its way; there is one of both for a home.

use std::{collections::HashSet, fs, io::Write as _, time::Duration};

use causeway_protocol::{
    api::CallState,
    envelope::{Kind, Sender},
    ids::GroupId,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

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
    /// Whose messages hold the mailbox up.
    stalled: Option<Sender>,
}

impl<'a, A: Audience> Follower<'a, A> {
    /// Nothing is followed yet.
    pub(super) fn new(client: &'a Client, audience: A) -> Self {
        Self { client, audience, is_lost: false, stalled: None }
    }

    /// Until `stop`, or until nothing has come for `idle`.
    pub(super) async fn follow(
        &mut self,
        stream: &mut Stream,
        idle: Option<Duration>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let (want, wanted) = mpsc::channel(1);
        let (tell, done) = mpsc::channel(1);
        let (client, chores) =
            (self.client, Chores { want, done, due: Some(Instant::now()), run: false });
        // Beside each other: chores wait for other servers, and what comes in does not.
        tokio::select! {
            ended = self.receive(stream, idle, stop, chores) => ended,
            never = Box::pin(work(client, wanted, tell)) => never,
        }
    }

    async fn receive(
        &mut self,
        stream: &mut Stream,
        idle: Option<Duration>,
        stop: impl Future<Output = ()>,
        mut chores: Chores,
    ) -> Result<(), Failure> {
        let mut stop = std::pin::pin!(stop);
        let mut quiet = 0;
        let mut idle_at = idle.map(|idle| Instant::now() + idle);
        // It was quiet, and ends if there was nothing to be done.
        let mut is_ending = false;
        loop {
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
                            (quiet, is_ending) = (0, false);
                            idle_at = idle.map(|idle| Instant::now() + idle);
                        }
                        // What is no plain message may call for an answer.
                        if rows.iter().any(|row| row.envelope.kind != Kind::Message) {
                            chores.due = Some(Instant::now());
                        }
                    }
                    Err(error) => self.lost(error)?,
                },
                Some(Done { anything, notes }) = chores.done.recv() => {
                    chores.run = false;
                    for note in notes {
                        self.audience.note(&note);
                    }
                    self.audience.kept().await?;
                    if is_ending && chores.due.is_some() {
                        // Something came for which they were too early.
                        chores.begin();
                        continue;
                    }
                    chores.due.get_or_insert(Instant::now() + CHORES_EVERY);
                    if std::mem::take(&mut is_ending) {
                        match &self.stalled {
                            Some(by) if quiet > MAX_QUIET => return Err(stalled(by)),
                            None if !anything || quiet > MAX_QUIET => return Ok(()),
                            Some(_) | None => {}
                        }
                        idle_at = idle.map(|idle| Instant::now() + idle);
                    }
                }
                () = at(chores.due), if !chores.run => {
                    // It may have come back, and there was nothing to fetch.
                    if self.is_lost && stream.connected_since().is_some() {
                        self.is_lost = false;
                        self.audience.connection(None);
                    }
                    chores.begin();
                }
                () = at(idle_at), if !is_ending => {
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
                    is_ending = true;
                    chores.begin();
                }
            }
        }
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

/// What is to be done beside what comes in.
struct Chores {
    want: mpsc::Sender<()>,
    done: mpsc::Receiver<Done>,
    /// When they are done next; with `run`, whether they were called for meanwhile.
    due: Option<Instant>,
    run: bool,
}

impl Chores {
    /// Has them done now, if they are not being done.
    fn begin(&mut self) {
        if !std::mem::replace(&mut self.run, true) {
            self.due = None;
            // There is room: nothing is wanted twice.
            self.want.try_send(()).ok();
        }
    }
}

/// What came of chores.
struct Done {
    anything: bool,
    notes: Vec<String>,
}

/// Does chores as often as they are wanted.
async fn work(client: &Client, mut wanted: mpsc::Receiver<()>, tell: mpsc::Sender<Done>) -> ! {
    let mut undecided = HashSet::new();
    while wanted.recv().await.is_some() {
        let done = do_chores(client, &mut undecided).await;
        tell.send(done).await.ok();
    }
    std::future::pending().await
}

/// Admits who may come in, acknowledges and answers keys, and sends what still waits. Trouble passes: the
/// chores are due again. `undecided` are groups of which was said that what waits there waits for a person, or
/// for a key.
async fn do_chores(client: &Client, undecided: &mut HashSet<GroupId>) -> Done {
    let mut notes = Vec::new();
    let done = async {
        // What the server refuses for now keeps nobody's messages.
        let done = client.chores().await;
        outbox::seal_anew(client).await?;
        for group in outbox::waiting(client.db()).await? {
            match outbox::flush(client, group).await {
                // Said once; other groups do not wait for what this one waits for.
                Err(error) if error.is_of_the_group() => {
                    if undecided.insert(group) {
                        notes.push(Failure::from(error).to_text());
                    }
                }
                flushed => flushed?,
            }
        }
        Ok::<_, outbox::OutboxError>(done?)
    };
    let anything = match done.await {
        Ok(done) => done,
        Err(error) if error.is_transient() => {
            tracing::debug!(%error, "chores wait");
            false
        }
        Err(error) => {
            notes.push(error.to_string());
            false
        }
    };
    Done { anything, notes }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
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

//! The one writer, and group commit.
//!
//! A task owns the writing connection and lends it to one [`Tx`] after the other, in the order in
//! which they asked. All who were waiting when a batch began share its outer transaction and so its
//! one fsync; each is a savepoint in it, so one that is dropped takes back only itself. Nobody's
//! [`Tx::commit`] returns before the `COMMIT` that covers it. Because the task alone opens and ends
//! transactions, a caller that is cancelled at any await leaves nothing half done.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::Connection as _;
use tokio::{
    sync::{Mutex, OwnedMutexGuard, mpsc, oneshot},
    time::Instant,
};

use crate::{engine::Conn, keeper::Keeper, lock::Held, wake::Topics};

/// A transaction that has the writer for longer keeps others waiting.
const LONG: Duration = Duration::from_millis(100);
/// Transactions that share one fsync at most; the last of them waits for the others' work.
const MAX_BATCH: usize = 64;

/// Why rows could not be read or changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The statement failed; the transaction may be dropped, others go on.
    #[error(transparent)]
    Sqlite(Arc<sqlx::Error>),
    /// Nothing of this transaction is kept; try again.
    #[error("the change could not be committed")]
    Commit(#[source] Arc<sqlx::Error>),
    /// There is no room on the disk for what would grow; nothing of it is kept. Deleting goes on.
    #[error("the disk is full: nothing new can be kept until there is room")]
    Full,
    /// It is committed, and the count beside the file does not say so: do not act on it, read it.
    #[error("the count beside the database cannot be written")]
    Count(#[source] Arc<std::io::Error>),
    /// Another process has been writing for longer than the busy timeout of 5 s; try again.
    #[error("the database is busy: another process has been writing to it for 5 s")]
    Busy,
    /// Others have been reading for so long that no connection became free; try again.
    #[error("every reading connection of the database has been in use for 30 s")]
    Readers,
    /// [`Db::close`](crate::Db::close) was called.
    #[error("the database is closed")]
    Closed,
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_busy(&error) {
            Self::Busy
        } else if is_full(&error) {
            Self::Full
        } else {
            Self::Sqlite(Arc::new(error))
        }
    }
}

impl Error {
    /// Whether a unique or primary-key constraint refused a row.
    pub fn is_unique_violation(&self) -> bool {
        match self {
            Self::Sqlite(error) => error
                .as_database_error()
                .is_some_and(sqlx::error::DatabaseError::is_unique_violation),
            Self::Commit(_)
            | Self::Full
            | Self::Count(_)
            | Self::Busy
            | Self::Readers
            | Self::Closed => false,
        }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    // SQLITE_BUSY, and SQLITE_BUSY_SNAPSHOT.
    has_code(error, &["5", "517"])
}

fn is_full(error: &sqlx::Error) -> bool {
    // SQLITE_FULL, and SQLITE_IOERR_SHMSIZE: the log's index could not be made larger.
    has_code(error, &["13", "4874"])
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| codes.contains(&&*code))
}

/// One atomic change of the file. Dropping it takes everything back and wakes nobody.
///
/// While it is alive nobody else can write: never hold it across the network, and never begin a
/// second one before the first has ended.
pub struct Tx {
    conn: OwnedMutexGuard<Conn>,
    topics: Vec<String>,
    then: Vec<Then>,
    counted: Option<u64>,
    end: oneshot::Sender<Member>,
}

impl Tx {
    /// The connection, inside this transaction.
    pub fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// Wakes the listeners of `topic` once this is committed; never if it is not.
    pub fn wake(&mut self, topic: impl Into<String>) {
        self.topics.push(topic.into());
    }

    /// Does `then` once this is committed, before anybody is woken or told, in the order of commits;
    /// never if it is not. The writer waits for it.
    pub fn once_committed(&mut self, then: impl FnOnce() + Send + 'static) {
        self.then.push(Box::new(then));
    }

    /// Notes in the file beside the database, once this is committed and before [`Tx::commit`]
    /// returns, that the database has counted up to `count`.
    pub fn counted(&mut self, count: u64) {
        self.counted = self.counted.max(Some(count));
    }

    /// Does `work` in a transaction inside this one: what it changed is kept if it ends well, and
    /// taken back if it does not. What it [woke](Tx::wake) stays woken; that costs a look.
    ///
    /// # Errors
    /// Outside, [`Error`]: this transaction is to be dropped. Inside, what `work` said.
    pub async fn nested<T, E>(
        &mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<Result<T, E>, Error> {
        sqlx::query("SAVEPOINT nested").execute(self.conn()).await?;
        let then = self.then.len();
        let result = work(self).await;
        if result.is_err() {
            self.then.truncate(then);
        }
        let end =
            if result.is_ok() { "RELEASE nested" } else { "ROLLBACK TO nested; RELEASE nested" };
        sqlx::query(end).execute(self.conn()).await?;
        Ok(result)
    }

    /// Ends the transaction, and returns when it is on disk.
    ///
    /// A caller cancelled here does not know what became of it; it may well be committed.
    ///
    /// # Errors
    /// [`Error::Commit`] and [`Error::Full`]: nothing of it is kept. [`Error::Count`]: it is.
    pub async fn commit(self) -> Result<(), Error> {
        let (reply, committed) = oneshot::channel();
        let Self { conn, topics, then, counted, end } = self;
        if end.send(Member { topics, then, counted, reply }).is_err() {
            return Err(Error::Closed);
        }
        drop(conn);
        committed.await.unwrap_or(Err(Error::Closed))
    }
}

/// What follows a commit.
type Then = Box<dyn FnOnce() + Send>;

/// A transaction that ended well and waits for the `COMMIT` that covers it.
struct Member {
    topics: Vec<String>,
    then: Vec<Then>,
    counted: Option<u64>,
    reply: oneshot::Sender<Result<(), Error>>,
}

/// Whoever waits for a turn to write.
type Asker = oneshot::Sender<Result<Tx, Error>>;

/// What is asked of the writer's task.
pub(crate) enum Ask {
    /// The connection, for one transaction.
    Begin(Asker),
    /// To stop; answered when the file is closed.
    Close(oneshot::Sender<()>),
}

/// Transactions and the commits that covered them, since the file was opened.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) transactions: AtomicU64,
    pub(crate) commits: AtomicU64,
    /// Those that had the writer for longer than [`LONG`], committed or not.
    pub(crate) long: AtomicU64,
}

/// Lends the writing connection until everybody who could ask is gone, or one asks it to close.
pub(crate) async fn write(
    conn: Conn,
    mut asks: mpsc::UnboundedReceiver<Ask>,
    topics: Arc<Topics>,
    tally: Arc<Tally>,
    lock: Held,
    mut keeper: Keeper,
) {
    let conn = Arc::new(Mutex::new(conn));
    let mut closed = None;
    while let Some(ask) = asks.recv().await {
        let first = match ask {
            Ask::Begin(first) => first,
            Ask::Close(reply) => {
                closed = Some(reply);
                break;
            }
        };
        if keeper.look() {
            shorten(&conn).await;
        }
        closed = batch(&conn, first, &mut asks, (&topics, &tally), &mut keeper).await;
        if closed.is_some() {
            break;
        }
    }
    drop(asks);
    if let Some(conn) = Arc::into_inner(conn)
        && let Err(error) = conn.into_inner().close().await
    {
        tracing::warn!(%error, "the database did not close in order");
    }
    lock.release();
    if let Some(reply) = closed {
        let _ = reply.send(());
    }
}

/// One outer transaction: `first`, and whoever asks before its turn is over. Returns who asked to
/// close meanwhile.
async fn batch(
    conn: &Arc<Mutex<Conn>>,
    first: Asker,
    asks: &mut mpsc::UnboundedReceiver<Ask>,
    (topics, tally): (&Topics, &Tally),
    keeper: &mut Keeper,
) -> Option<oneshot::Sender<()>> {
    if first.is_closed() {
        return None;
    }
    if let Err(error) = run(conn, "BEGIN IMMEDIATE; SAVEPOINT tx").await {
        roll_back(conn).await;
        if is_full(&error) {
            keeper.spend();
            shorten(conn).await;
        }
        // Whoever waits behind gets a try of its own.
        let _ = first.send(Err(error.into()));
        return None;
    }
    let mut closed = None;
    let mut members = Vec::new();
    let mut next = Some(first);
    let mut lent = 0;
    let mut failed = None;
    while let Some(asker) = next.take() {
        let began = Instant::now();
        let member = lend(conn, asker).await;
        if began.elapsed() > LONG {
            tally.long.fetch_add(1, Ordering::Relaxed);
        }
        lent += 1;
        if lent < MAX_BATCH && closed.is_none() {
            (next, closed) = waiting(asks);
        }
        // Ending one and beginning what comes after it are one errand to the connection's thread.
        let ended = run(
            conn,
            match (&member, &next) {
                (Some(_), Some(_)) => "RELEASE tx; SAVEPOINT tx",
                (Some(_), None) => keeper.commit(true),
                (None, Some(_)) => "ROLLBACK TO tx",
                (None, None) if members.is_empty() => "ROLLBACK",
                (None, None) => keeper.commit(false),
            },
        );
        failed = ended.await.err();
        members.extend(member);
        if failed.is_some() {
            roll_back(conn).await;
            break;
        }
    }
    // Whoever had been given the next turn did not get it.
    let answer = match failed {
        None => Ok(()),
        Some(error) if is_full(&error) => {
            keeper.spend();
            shorten(conn).await;
            Err(Error::Full)
        }
        Some(error) => Err(Error::Commit(Arc::new(error))),
    };
    if let (Some(asker), Err(error)) = (next, &answer) {
        let _ = asker.send(Err(error.clone()));
    }
    let mut noted = Ok(());
    if answer.is_ok() && !members.is_empty() {
        tally.commits.fetch_add(1, Ordering::Relaxed);
        tally.transactions.fetch_add(members.len() as u64, Ordering::Relaxed);
        let must = members.iter().filter_map(|member| member.counted).max();
        noted = keeper.note(must).await.map_err(|error| Error::Count(Arc::new(error)));
    }
    for Member { topics: touched, then, counted, reply } in members {
        if answer.is_ok() {
            for then in then {
                then();
            }
            topics.wake(&touched);
        }
        let told =
            if counted.is_some() { answer.clone().and(noted.clone()) } else { answer.clone() };
        let _ = reply.send(told);
    }
    closed
}

/// Who asks already: for a turn that he still wants, or to close.
fn waiting(
    asks: &mut mpsc::UnboundedReceiver<Ask>,
) -> (Option<Asker>, Option<oneshot::Sender<()>>) {
    loop {
        match asks.try_recv() {
            Ok(Ask::Begin(asker)) if asker.is_closed() => {}
            Ok(Ask::Begin(asker)) => return (Some(asker), None),
            Ok(Ask::Close(reply)) => return (None, Some(reply)),
            Err(_) => return (None, None),
        }
    }
}

/// Lends the connection for one transaction, the savepoint `tx`; `None` if it is to be taken back.
async fn lend(conn: &Arc<Mutex<Conn>>, asker: Asker) -> Option<Member> {
    let (end, ended) = oneshot::channel();
    let conn = Arc::clone(conn).lock_owned().await;
    let lent = Tx { conn, topics: Vec::new(), then: Vec::new(), counted: None, end };
    // If the asker has gone, its answer comes back here and is dropped: a transaction taken back.
    drop(asker.send(Ok(lent)));
    ended.await.ok()
}

/// Brings the log home and cuts it off, as far as there is room for that.
async fn shorten(conn: &Mutex<Conn>) {
    if let Err(error) = run(conn, "PRAGMA wal_checkpoint(TRUNCATE)").await {
        tracing::debug!(%error, "the log stays as long as it is");
    }
}

async fn roll_back(conn: &Mutex<Conn>) {
    // After some errors (disk full) SQLite has rolled back already, and says so.
    if let Err(error) = run(conn, "ROLLBACK").await {
        tracing::debug!(%error, "nothing was left to roll back");
    }
}

async fn run(conn: &Mutex<Conn>, sql: &'static str) -> Result<(), sqlx::Error> {
    // Prepared once, unlike what `raw_sql` takes.
    sqlx::query(sql).execute(&mut *conn.lock().await).await.map(|_| ())
}

//! The one writer, and group commit.
//!
//! A task owns the writing connection and lends it to one [`Tx`] after the other, in the order in
//! which they asked. All who were waiting when a batch began share its outer transaction and so its
//! one fsync; each is a savepoint in it, so one that is dropped takes back only itself. Nobody's
//! [`Tx::commit`] returns before the `COMMIT` that covers it. Because the task alone opens and ends
//! transactions, a caller that is cancelled at any await leaves nothing half done.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};

use crate::{lock::Held, wake::Topics};

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
    /// Another process has been writing for longer than the busy timeout of 5 s; try again.
    #[error("the database is busy: another process has been writing to it for 5 s")]
    Busy,
    /// [`Db::close`](crate::Db::close) was called.
    #[error("the database is closed")]
    Closed,
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_busy(&error) { Self::Busy } else { Self::Sqlite(Arc::new(error)) }
    }
}

impl Error {
    /// Whether a unique or primary-key constraint refused a row.
    pub fn is_unique_violation(&self) -> bool {
        match self {
            Self::Sqlite(error) => error
                .as_database_error()
                .is_some_and(sqlx::error::DatabaseError::is_unique_violation),
            Self::Commit(_) | Self::Busy | Self::Closed => false,
        }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    // SQLITE_BUSY, and SQLITE_BUSY_SNAPSHOT.
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code == "5" || code == "517")
}

/// One atomic change of the file. Dropping it takes everything back and wakes nobody.
///
/// While it is alive nobody else can write: never hold it across the network, and never begin a
/// second one before the first has ended.
pub struct Tx {
    conn: OwnedMutexGuard<SqliteConnection>,
    topics: Vec<String>,
    end: oneshot::Sender<Member>,
}

impl Tx {
    /// The connection, inside this transaction.
    pub fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.conn
    }

    /// Wakes the listeners of `topic` once this is committed; never if it is not.
    pub fn wake(&mut self, topic: impl Into<String>) {
        self.topics.push(topic.into());
    }

    /// Ends the transaction, and returns when it is on disk.
    ///
    /// A caller cancelled here does not know what became of it; it may well be committed.
    ///
    /// # Errors
    /// [`Error::Commit`]: nothing of it is kept.
    pub async fn commit(self) -> Result<(), Error> {
        let (reply, committed) = oneshot::channel();
        let Self { conn, topics, end } = self;
        if end.send(Member { topics, reply }).is_err() {
            return Err(Error::Closed);
        }
        drop(conn);
        committed.await.unwrap_or(Err(Error::Closed))
    }
}

/// A transaction that ended well and waits for the `COMMIT` that covers it.
struct Member {
    topics: Vec<String>,
    reply: oneshot::Sender<Result<(), Error>>,
}

/// What is asked of the writer's task.
pub(crate) enum Ask {
    /// The connection, for one transaction.
    Begin(oneshot::Sender<Result<Tx, Error>>),
    /// To stop; answered when the file is closed.
    Close(oneshot::Sender<()>),
}

/// Transactions and the commits that covered them, since the file was opened.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) transactions: AtomicU64,
    pub(crate) commits: AtomicU64,
}

/// Lends the writing connection until everybody who could ask is gone, or one asks it to close.
pub(crate) async fn write(
    conn: SqliteConnection,
    mut asks: mpsc::UnboundedReceiver<Ask>,
    topics: Arc<Topics>,
    tally: Arc<Tally>,
    lock: Held,
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
        closed = batch(&conn, first, &mut asks, &topics, &tally).await;
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
    conn: &Arc<Mutex<SqliteConnection>>,
    first: oneshot::Sender<Result<Tx, Error>>,
    asks: &mut mpsc::UnboundedReceiver<Ask>,
    topics: &Topics,
    tally: &Tally,
) -> Option<oneshot::Sender<()>> {
    let mut closed = None;
    let mut members = Vec::new();
    let mut next = Some(first);
    let mut lent = 0;
    let mut failed = run(conn, "BEGIN IMMEDIATE").await.err();
    if let Some(error) = failed.take() {
        // Whoever waits behind gets a try of its own.
        if let Some(first) = next.take() {
            let _ = first.send(Err(error.into()));
        }
        return None;
    }
    while let Some(asker) = next.take() {
        match lend(conn, asker).await {
            Ok(Some(member)) => members.push(member),
            Ok(None) => {}
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
        lent += 1;
        if lent < MAX_BATCH {
            match asks.try_recv() {
                Ok(Ask::Begin(asker)) => next = Some(asker),
                Ok(Ask::Close(reply)) => closed = Some(reply),
                Err(_) => {}
            }
        }
    }
    if failed.is_none() && !members.is_empty() {
        failed = run(conn, "COMMIT").await.err();
        tally.commits.fetch_add(1, Ordering::Relaxed);
        tally.transactions.fetch_add(members.len() as u64, Ordering::Relaxed);
    }
    if failed.is_some() || members.is_empty() {
        // After some errors (disk full) SQLite has rolled back already, and says so.
        if let Err(error) = run(conn, "ROLLBACK").await {
            tracing::debug!(%error, "nothing was left to roll back");
        }
    }
    let answer = match failed {
        None => Ok(()),
        Some(error) => Err(Error::Commit(Arc::new(error))),
    };
    for Member { topics: touched, reply } in members {
        if answer.is_ok() {
            topics.wake(&touched);
        }
        let _ = reply.send(answer.clone());
    }
    closed
}

/// Lends the connection for one transaction, a savepoint in the batch; `None` if it was taken back.
///
/// # Errors
/// The batch is lost: SQLite itself ended the outer transaction.
async fn lend(
    conn: &Arc<Mutex<SqliteConnection>>,
    asker: oneshot::Sender<Result<Tx, Error>>,
) -> Result<Option<Member>, sqlx::Error> {
    if asker.is_closed() {
        return Ok(None);
    }
    if let Err(error) = run(conn, "SAVEPOINT tx").await {
        let shared = Arc::new(error);
        let _ = asker.send(Err(Error::Sqlite(Arc::clone(&shared))));
        return Err(sqlx::Error::Protocol(shared.to_string()));
    }
    let (end, ended) = oneshot::channel();
    let lent = Tx { conn: Arc::clone(conn).lock_owned().await, topics: Vec::new(), end };
    // If the asker has gone, its answer comes back here and is dropped: a transaction taken back.
    drop(asker.send(Ok(lent)));
    match ended.await {
        Ok(member) => match run(conn, "RELEASE tx").await {
            Ok(()) => Ok(Some(member)),
            Err(error) => {
                let shared = Arc::new(error);
                let _ = member.reply.send(Err(Error::Commit(Arc::clone(&shared))));
                Err(sqlx::Error::Protocol(shared.to_string()))
            }
        },
        Err(_) => run(conn, "ROLLBACK TO tx; RELEASE tx").await.map(|()| None),
    }
}

async fn run(conn: &Mutex<SqliteConnection>, sql: &'static str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(sql).execute(&mut *conn.lock().await).await.map(|_| ())
}

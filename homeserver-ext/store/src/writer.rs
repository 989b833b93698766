//! The one writer, and group commit.
//!
//! A task owns the writing connection and lends it to one [`Tx`] after the other, in the order in
//! which they asked. All who were waiting when a batch began share its outer transaction and so its
//! one fsync; each is a savepoint in it, so one that is dropped takes back only itself. Nobody's
//! [`Tx::commit`] returns before the `COMMIT` that covers it. Because the task alone opens and ends
//! transactions, a caller that is cancelled at any await leaves nothing half done. What is asked
//! first and what is changed last goes with that to the connection's thread, as one errand.
//!
//! Who may wait ([`write_soon`](crate::Db::write_soon), [`begin_soon`](crate::Db::begin_soon)) shares
//! the commit of whoever comes next, and goes before him.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::Connection as _;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    engine::Conn,
    error::{Error, is_full},
    keeper::Keeper,
    lock::Held,
    script::{Broken, Rows},
    turn::Turns,
    tx::{Ask, Closer, Ended, Member, Turn, Tx, Way},
    wake::Topics,
};

/// A transaction that has the writer for longer keeps others waiting.
const LONG: Duration = Duration::from_millis(100);
/// Transactions that share one fsync at most; the last of them waits for the others' work.
const MAX_BATCH: usize = 64;

/// Longest that those wait who may, milliseconds: where more is coming, it comes sooner.
const SOON_MS: u64 = 25;
/// So many who wait are worth a commit of their own.
const MANY: usize = 32;

/// Opens the outer transaction, and the first one in it.
const BEGIN: &str = "BEGIN IMMEDIATE; SAVEPOINT tx";
/// Each by itself, where other processes wait in turns.
const BEGIN_ALONE: &str = "BEGIN IMMEDIATE";
const FIRST: &str = "SAVEPOINT tx";
/// Ends one transaction well, and opens the next.
const NEXT: &str = "RELEASE tx; SAVEPOINT tx";

/// Transactions and the commits that covered them, since the file was opened.
pub(crate) struct Tally {
    pub(crate) transactions: AtomicU64,
    pub(crate) commits: AtomicU64,
    /// Those that had the writer for longer than [`LONG`], committed or not.
    pub(crate) long: AtomicU64,
    /// What the table `commits` has counted, where it counts all; else 0.
    pub(crate) counted: AtomicU64,
    /// Longest that those wait who may, milliseconds.
    pub(crate) soon_ms: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            transactions: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            long: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            soon_ms: AtomicU64::new(SOON_MS),
        }
    }
}

/// What is asked, in its order.
struct Asks {
    asked: mpsc::UnboundedReceiver<Ask>,
    /// What was asked and is not begun, while those wait who may.
    held: VecDeque<Ask>,
    /// Until when they wait; `None` where nobody does, or not any more.
    until: Option<Instant>,
    tally: Arc<Tally>,
}

impl Asks {
    const fn new(asked: mpsc::UnboundedReceiver<Ask>, tally: Arc<Tally>) -> Self {
        Self { asked, held: VecDeque::new(), until: None, tally }
    }

    /// What is to be begun next; `None` when there is nobody any more who could ask.
    async fn next(&mut self) -> Option<Ask> {
        loop {
            if self.until.is_none()
                && let Some(first) = self.held.pop_front()
            {
                return Some(first);
            }
            let asked = if let Some(until) = self.until {
                let Ok(asked) = timeout_at(until, self.asked.recv()).await else {
                    self.until = None;
                    continue;
                };
                asked
            } else {
                self.asked.recv().await
            };
            match asked {
                Some(Ask::Soon(turn)) => {
                    self.held.push_back(Ask::Turn(turn));
                    let until = self.until.unwrap_or_else(|| {
                        let ms = self.tally.soon_ms.load(Ordering::Relaxed);
                        Instant::now() + Duration::from_millis(ms)
                    });
                    self.until = (self.held.len() < MANY).then_some(until);
                }
                other if self.held.is_empty() => return other,
                other => {
                    self.held.extend(other);
                    self.until = None;
                }
            }
        }
    }

    /// Who asks already: for a turn that he still wants, or to close.
    fn waiting(&mut self) -> (Option<Turn>, Option<Closer>) {
        loop {
            match self.held.pop_front().or_else(|| self.asked.try_recv().ok()) {
                Some(Ask::Turn(turn) | Ask::Soon(turn)) if turn.is_given_up() => {}
                Some(Ask::Turn(turn) | Ask::Soon(turn)) => return (Some(turn), None),
                Some(Ask::Close(reply)) => return (None, Some(reply)),
                None => return (None, None),
            }
        }
    }
}

/// Lends the writing connection until everybody who could ask is gone, or one asks it to close.
pub(crate) async fn write(
    conn: Conn,
    asked: mpsc::UnboundedReceiver<Ask>,
    topics: Arc<Topics>,
    tally: Arc<Tally>,
    lock: Held,
    mut keeper: Keeper,
) {
    let conn = Arc::new(Mutex::new(conn));
    let mut asks = Asks::new(asked, Arc::clone(&tally));
    let (mut next, mut closed) = (None, None);
    while closed.is_none() {
        let first = match next.take() {
            Some(first) => first,
            None => match asks.next().await {
                Some(Ask::Turn(first) | Ask::Soon(first)) if first.is_given_up() => continue,
                Some(Ask::Turn(first) | Ask::Soon(first)) => first,
                Some(Ask::Close(reply)) => {
                    closed = Some(reply);
                    break;
                }
                None => break,
            },
        };
        if keeper.look() {
            shorten(&conn).await;
        }
        let told = (&*topics, &*tally, lock.turns());
        (next, closed) = batch(&conn, first, &mut asks, told, &mut keeper).await;
    }
    if let Some(turn) = next {
        turn.refuse(Error::Closed);
    }
    drop(asks);
    keeper.settle().await;
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

/// Why a batch has come to nothing.
enum Failed {
    /// It did not even begin, for the one who was to be the first.
    Begin(Member, sqlx::Error),
    Commit(sqlx::Error),
}

/// One outer transaction: `first`, and whoever asks before its turn is over. Returns who is to be the
/// first of the next, and who asked to close, meanwhile.
async fn batch(
    conn: &Arc<Mutex<Conn>>,
    first: Turn,
    asks: &mut Asks,
    (topics, tally, turns): (&Topics, &Tally, Option<&Turns>),
    keeper: &mut Keeper,
) -> (Option<Turn>, Option<Closer>) {
    let mut before = BEGIN;
    if let Some(turns) = turns {
        let turn = turns.take().await;
        if let Err(error) = run(conn, BEGIN_ALONE).await {
            first.refuse(not_begun(conn, keeper, error).await);
            return (None, None);
        }
        drop(turn);
        before = FIRST;
    }
    let (mut next, mut closed) = (Some(first), None);
    let mut members = Vec::new();
    let mut lent = 0;
    let mut failed = None;
    while let Some(Turn { script, way }) = next.take() {
        let ended = match way {
            Way::Lend(asker) => {
                let begun = script.run_between(&mut *conn.lock().await, before, "").await;
                before = "";
                match begun {
                    Ok(rows) => lend(conn, asker, rows, tally).await,
                    Err(Broken::Within(error)) => {
                        let _ = asker.send(Err(error));
                        None
                    }
                    Err(Broken::Before(error) | Broken::After(error)) => {
                        let _ = asker.send(Err(not_begun(conn, keeper, error).await));
                        return (None, closed);
                    }
                }
            }
            Way::Whole(topics, then, reply) => {
                let member = Member { topics, then, counted: None, rows: Rows::default(), reply };
                Some(Ended { script, member })
            }
        };
        lent += 1;
        if lent < MAX_BATCH && closed.is_none() {
            (next, closed) = asks.waiting();
        }
        let around = (std::mem::take(&mut before), next.is_some());
        failed = end(conn, around, ended, &mut members, keeper).await.err();
        if failed.is_some() {
            break;
        }
    }
    let answer = match failed {
        None => Ok(()),
        Some(Failed::Begin(member, error)) => {
            let _ = member.reply.send(Err(not_begun(conn, keeper, error).await));
            // Whoever waits behind gets a try of its own.
            return (next, closed);
        }
        Some(Failed::Commit(error)) => {
            roll_back(conn).await;
            Err(if is_full(&error) {
                keeper.spend();
                shorten(conn).await;
                Error::Full
            } else {
                Error::Commit(Arc::new(error))
            })
        }
    };
    // Whoever had been given the next turn did not get it.
    if let (Some(turn), Err(error)) = (next, &answer) {
        turn.refuse(error.clone());
    }
    if answer.is_err() || members.is_empty() {
        for member in members {
            member.told(answer.clone());
        }
        return (None, closed);
    }
    tally.commits.fetch_add(1, Ordering::Relaxed);
    tally.transactions.fetch_add(members.len() as u64, Ordering::Relaxed);
    for member in &mut members {
        for then in member.then.drain(..) {
            then();
        }
        topics.wake(&member.topics);
    }
    let must = members.iter().filter_map(|member| member.counted).max();
    let (counted, others): (Vec<Member>, Vec<Member>) =
        members.into_iter().partition(|member| member.counted.is_some());
    keeper.note(must, move |noted| {
        let noted = noted.map_err(|error| Error::Count(Arc::new(error)));
        for member in counted {
            member.told(noted.clone());
        }
    });
    tally.counted.store(keeper.every().unwrap_or(0), Ordering::Relaxed);
    for member in others {
        member.told(Ok(()));
    }
    (None, closed)
}

/// Ends a turn, whose transaction began already or does so here, and opens the next one in the same
/// errand, or commits.
async fn end(
    conn: &Mutex<Conn>,
    (before, has_next): (&'static str, bool),
    ended: Option<Ended>,
    members: &mut Vec<Member>,
    keeper: &Keeper,
) -> Result<(), Failed> {
    if let Some(Ended { script, mut member }) = ended {
        let after = if has_next { NEXT } else { keeper.commit(true) };
        let done = script.run_between(&mut *conn.lock().await, before, after).await;
        match done {
            Ok(rows) => {
                member.rows = rows;
                members.push(member);
                return Ok(());
            }
            // It alone is taken back.
            Err(Broken::Within(error)) => drop(member.reply.send(Err(error))),
            Err(Broken::Before(error)) => return Err(Failed::Begin(member, error)),
            Err(Broken::After(error)) => {
                members.push(member);
                return Err(Failed::Commit(error));
            }
        }
    }
    let ended = run(
        conn,
        match (has_next, members.is_empty()) {
            (true, _) => "ROLLBACK TO tx",
            (false, true) => "ROLLBACK",
            (false, false) => keeper.commit(false),
        },
    );
    ended.await.map_err(Failed::Commit)
}

/// What whoever could not begin is told.
async fn not_begun(conn: &Mutex<Conn>, keeper: &Keeper, error: sqlx::Error) -> Error {
    roll_back(conn).await;
    if is_full(&error) {
        keeper.spend();
        shorten(conn).await;
    }
    error.into()
}

/// Lends the connection for one transaction, the savepoint `tx`; `None` if it is to be taken back.
async fn lend(
    conn: &Arc<Mutex<Conn>>,
    asker: oneshot::Sender<Result<(Tx, Rows), Error>>,
    rows: Rows,
    tally: &Tally,
) -> Option<Ended> {
    let began = Instant::now();
    let (end, ended) = oneshot::channel();
    let conn = Arc::clone(conn).lock_owned().await;
    let lent = Tx::new(conn, end);
    // If the asker has gone, its answer comes back here and is dropped: a transaction taken back.
    drop(asker.send(Ok((lent, rows))));
    let ended = ended.await.ok();
    if began.elapsed() > LONG {
        tally.long.fetch_add(1, Ordering::Relaxed);
    }
    ended
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

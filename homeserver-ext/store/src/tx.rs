//! One atomic change of the file, and what is asked of whoever writes.

use tokio::sync::{OwnedMutexGuard, oneshot};

use crate::{
    engine::Conn,
    error::Error,
    script::{Rows, Script},
};

/// One atomic change of the file. Dropping it takes everything back and wakes nobody.
///
/// While it is alive nobody else can write: never hold it across the network, and never begin a
/// second one before the first has ended.
pub struct Tx {
    conn: OwnedMutexGuard<Conn>,
    topics: Vec<String>,
    then: Vec<Then>,
    /// How many of `then` stood when the transaction inside this one was begun.
    marked: usize,
    counted: Option<u64>,
    later: Script,
    end: oneshot::Sender<Ended>,
}

impl Tx {
    pub(crate) fn new(conn: OwnedMutexGuard<Conn>, end: oneshot::Sender<Ended>) -> Self {
        Self {
            conn,
            topics: Vec::new(),
            then: Vec::new(),
            marked: 0,
            counted: None,
            later: Script::default(),
            end,
        }
    }

    /// The connection, inside this transaction.
    pub fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// Wakes the listeners of `topic` once this is committed; never if it is not.
    pub fn wake(&mut self, topic: impl Into<String>) {
        self.topics.push(topic.into());
    }

    /// Takes back one [wake](Tx::wake) of `topic`: whoever it was for has heard of it already.
    pub fn hush(&mut self, topic: &str) {
        if let Some(index) = self.topics.iter().rposition(|woken| woken == topic) {
            self.topics.remove(index);
        }
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

    /// Begins a transaction inside this one, which [`unmark`](Self::unmark) ends. What it [woke](Tx::wake)
    /// stays woken; that costs a look.
    ///
    /// # Errors
    /// [`Error`]: this transaction is to be dropped.
    pub async fn mark(&mut self) -> Result<(), Error> {
        sqlx::query("SAVEPOINT nested").execute(self.conn()).await?;
        self.marked = self.then.len();
        Ok(())
    }

    /// Ends it: what was changed since then is kept, or taken back.
    ///
    /// # Errors
    /// [`Error`]: this transaction is to be dropped.
    pub async fn unmark(&mut self, keeps: bool) -> Result<(), Error> {
        let end = if keeps { "RELEASE nested" } else { "ROLLBACK TO nested; RELEASE nested" };
        sqlx::query(end).execute(self.conn()).await?;
        if !keeps {
            self.then.truncate(self.marked);
        }
        Ok(())
    }

    /// Has what is more than 500 pages go to the log before the commit, in this process from now on: for a transaction that memory is not to hold. A disk that is full is then met by any of its
    /// statements.
    ///
    /// # Errors
    /// [`Error`]: this transaction is to be dropped.
    pub async fn spill(&mut self) -> Result<(), Error> {
        sqlx::query("PRAGMA cache_spill = 500").execute(self.conn()).await?;
        Ok(())
    }

    /// What is written when the transaction ends, or before something is [read](Tx::write_now) of it.
    pub const fn later(&mut self) -> &mut Script {
        &mut self.later
    }

    /// Writes what was left for [later](Tx::later).
    ///
    /// # Errors
    /// What that comes to.
    pub async fn write_now(&mut self) -> Result<(), Error> {
        std::mem::take(&mut self.later).run(&mut self.conn).await.map(drop)
    }

    /// Ends the transaction, and returns when it is on disk.
    ///
    /// A caller cancelled here does not know what became of it; it may well be committed.
    ///
    /// # Errors
    /// [`Error::Commit`] and [`Error::Full`]: nothing of it is kept. [`Error::Count`]: it is.
    pub async fn commit(mut self) -> Result<(), Error> {
        let script = std::mem::take(&mut self.later);
        self.commit_with(script).await.map(drop)
    }

    /// As [`Tx::commit`], after a script, in one errand; the rows that it returns.
    ///
    /// # Errors
    /// As of [`Tx::commit`], and what the script comes to: then nothing of the transaction is kept.
    pub async fn commit_with(mut self, script: Script) -> Result<Rows, Error> {
        self.write_now().await?;
        let (reply, committed) = oneshot::channel();
        let Self { conn, topics, then, counted, end, later: _, marked: _ } = self;
        let member = Member { topics, then, counted, rows: Rows::default(), reply };
        if end.send(Ended { script, member }).is_err() {
            return Err(Error::Closed);
        }
        drop(conn);
        committed.await.unwrap_or(Err(Error::Closed))
    }
}

/// What follows a commit.
pub(crate) type Then = Box<dyn FnOnce() + Send>;

/// How a transaction ends that is to be kept.
pub(crate) struct Ended {
    pub(crate) script: Script,
    pub(crate) member: Member,
}

/// A transaction that ended well and waits for the `COMMIT` that covers it.
pub(crate) struct Member {
    pub(crate) topics: Vec<String>,
    pub(crate) then: Vec<Then>,
    pub(crate) counted: Option<u64>,
    pub(crate) rows: Rows,
    pub(crate) reply: oneshot::Sender<Result<Rows, Error>>,
}

impl Member {
    pub(crate) fn told(self, answer: Result<(), Error>) {
        let _ = self.reply.send(answer.map(|()| self.rows));
    }
}

/// A turn to write, which somebody waits for.
pub(crate) struct Turn {
    /// What it begins with.
    pub(crate) script: Script,
    pub(crate) way: Way,
}

/// How a turn goes on after its script.
pub(crate) enum Way {
    /// The connection is lent.
    Lend(oneshot::Sender<Result<(Tx, Rows), Error>>),
    /// It is committed; then that is done, and these are woken.
    Whole(Vec<String>, Vec<Then>, oneshot::Sender<Result<Rows, Error>>),
}

impl Turn {
    pub(crate) fn is_given_up(&self) -> bool {
        match &self.way {
            Way::Lend(asker) => asker.is_closed(),
            Way::Whole(_, _, asker) => asker.is_closed(),
        }
    }

    pub(crate) fn refuse(self, error: Error) {
        match self.way {
            Way::Lend(asker) => drop(asker.send(Err(error))),
            Way::Whole(_, _, asker) => drop(asker.send(Err(error))),
        }
    }
}

/// Whoever waits until the file is closed.
pub(crate) type Closer = oneshot::Sender<()>;

/// What is asked of the writer's task.
pub(crate) enum Ask {
    /// A turn.
    Turn(Turn),
    /// A turn that may wait for the next one, a moment at most.
    Soon(Turn),
    /// To stop; answered when the file is closed.
    Close(Closer),
}

//! Opening the file: pragmas, version of SQLite, lock, migrations, the two kinds of connection.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use log::LevelFilter;
use sqlx::{
    ConnectOptions as _, Connection as _,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    backup,
    count::{self, Beside, Count},
    engine::Conn,
    error::Error,
    keeper::Keeper,
    lock::{self, Held, Lock, Taken},
    migrate::{self, Schema},
    open_error::{OpenCause, OpenError},
    readers::{Read, Readers},
    room::{self, Room},
    script::{Rows, Script},
    turn::OTHERS,
    tx::{Ask, Turn, Tx, Way},
    wake::{Listener, Topics},
    writer::{self, Tally},
};

/// Before this one, several connections on one WAL file could corrupt it (`SQLite` 3.51.3 notes).
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];

/// Bytes of the log at which it is brought home, where the disk is large.
const LOG_BYTES: u64 = 16_384_000;
/// Bytes of a page, where the file is made here; it keeps what it was made with. A commit writes every
/// page whole in which it changes a row or an entry of an index, and most lie apart.
const PAGE_BYTES: u32 = 1_024;
/// Statements that a connection keeps prepared.
const PREPARED: usize = 256;

/// How to open a database.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// The file; made with mode 0600 if it is not there. Its folder must be.
    pub path: PathBuf,
    /// Who else may have it open.
    pub lock: Lock,
    /// What is kept in it; applied in this order.
    pub schemas: &'a [Schema<'a>],
}

/// One SQLite file. A clone is another handle of the same.
#[derive(Clone)]
pub struct Db {
    asks: mpsc::UnboundedSender<Ask>,
    readers: Readers,
    topics: Arc<Topics>,
    tally: Arc<Tally>,
    room: Option<Arc<Room>>,
    path: Arc<Path>,
}

/// What the writer keeps, and what every handle looks at.
type Kept = (Keeper, Option<Arc<Room>>);

/// Bytes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The database file.
    pub db_bytes: u64,
    /// Its write-ahead log, which a checkpoint brings home.
    pub wal_bytes: u64,
}

/// What was committed since the file was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Transactions.
    pub transactions: u64,
    /// Commits (fsyncs) that covered them.
    pub commits: u64,
    /// Transactions that had the writer for longer than 100 ms, committed or not.
    pub long: u64,
}

impl Db {
    /// Opens the file, takes its lock, and brings its tables up to date.
    ///
    /// # Errors
    /// See [`OpenCause`]. A held lock and a newer schema are noticed before any write.
    pub async fn open(options: Options<'_>) -> Result<Self, OpenError> {
        let path = options.path.clone();
        Self::opened(options).await.map_err(|cause| OpenError { path, cause })
    }

    async fn opened(options: Options<'_>) -> Result<Self, OpenCause> {
        assert_version().await?;
        let mut lock = match lock::take(&options.path, options.lock)? {
            Taken::Ours(held) => held,
            Taken::Theirs(holder) => return Err(OpenCause::Held(holder)),
        };
        let exclusive = options.lock == Lock::Exclusive;
        if exclusive {
            room::make_way(&options.path);
        }
        lock.name()?;
        backup::is_whole(&options.path)?;
        let is_new = !options.path.exists();
        if is_new && count::read(&options.path)?.is_some_and(|beside| beside.committed > 0) {
            return Err(OpenCause::Missing(count::path_of(&options.path)));
        }
        let is_behind = look(&options).await?;
        create(&options.path)?;
        let room = exclusive.then(|| Arc::new(Room::beside(&options.path)));
        let mut writer = connect_to_write(&options.path, room.as_deref()).await?;
        if lock.after_crash() {
            check(&mut writer).await?;
        }
        if is_behind {
            migrate::run(&mut writer, options.schemas, &options.path).await?;
        }
        let counted = if options.schemas.iter().any(|schema| schema.is_counted) {
            let n: i64 = sqlx::query_scalar("SELECT n FROM commits").fetch_one(&mut writer).await?;
            Some(u64::try_from(n).unwrap_or(0))
        } else {
            None
        };
        let keeper = Keeper::new(Count::beside(&options.path), counted, room.clone());
        Ok(Self::start(&options.path, writer, lock, (keeper, room)))
    }

    fn start(path: &Path, writer: Conn, lock: Held, (keeper, room): Kept) -> Self {
        let readers = Readers::new(connect_options(path).read_only(true));
        let topics = Arc::new(Topics::default());
        let tally = Arc::new(Tally::default());
        tally.counted.store(keeper.every().unwrap_or(0), Ordering::Relaxed);
        let (asks, asked) = mpsc::unbounded_channel();
        let task =
            writer::write(writer, asked, Arc::clone(&topics), Arc::clone(&tally), lock, keeper);
        #[expect(
            clippy::disallowed_methods,
            reason = "the writer's task ends with the last handle of its Db; `close` awaits it"
        )]
        drop(tokio::spawn(task));
        Self { asks, readers, topics, tally, room, path: path.into() }
    }

    /// Waits for its turn to write. Turns are given in the order in which they were asked for.
    ///
    /// # Errors
    /// [`Error::Busy`] if another process keeps writing; [`Error::Closed`].
    pub async fn begin(&self) -> Result<Tx, Error> {
        self.begin_with(Script::default()).await.map(|(tx, _)| tx)
    }

    /// As [`Db::begin`], with a script that is run first, in one errand; and the rows that it returns.
    ///
    /// # Errors
    /// As of [`Db::begin`], and what the script comes to.
    pub async fn begin_with(&self, script: Script) -> Result<(Tx, Rows), Error> {
        let (reply, turn) = oneshot::channel();
        let ask = Ask::Turn(Turn { script, way: Way::Lend(reply) });
        self.asks.send(ask).map_err(|_| Error::Closed)?;
        turn.await.unwrap_or(Err(Error::Closed))
    }

    /// As [`Db::begin`], for who may wait: his turn comes with that of whoever asks next, and before it,
    /// or after 25 ms; both are committed together.
    ///
    /// # Errors
    /// As of [`Db::begin`].
    pub async fn begin_soon(&self) -> Result<Tx, Error> {
        let (reply, turn) = oneshot::channel();
        let ask = Ask::Soon(Turn { script: Script::default(), way: Way::Lend(reply) });
        self.asks.send(ask).map_err(|_| Error::Closed)?;
        turn.await.unwrap_or(Err(Error::Closed)).map(|(tx, _)| tx)
    }

    /// Runs a script as a transaction of its own, in one errand, and wakes the listeners of `topics` once
    /// it is committed; the rows that it returns.
    ///
    /// A caller cancelled here does not know what became of it; it may well be committed.
    ///
    /// # Errors
    /// As of [`Db::begin`] and [`Tx::commit`], and what the script comes to: nothing of it is kept.
    pub async fn write(&self, script: Script, topics: Vec<String>) -> Result<Rows, Error> {
        let (reply, committed) = oneshot::channel();
        let ask = Ask::Turn(Turn { script, way: Way::Whole(topics, Vec::new(), reply) });
        self.asks.send(ask).map_err(|_| Error::Closed)?;
        committed.await.unwrap_or(Err(Error::Closed))
    }

    /// As [`Db::write`], for what a crash may undo: it is asked for at once, and committed with the next
    /// transaction of anybody, before it, or by itself after 25 ms. Then `then` is done, before anybody is
    /// woken or told.
    ///
    /// Where the future is dropped before, it may not come to that.
    pub fn write_soon(
        &self,
        script: Script,
        then: Box<dyn FnOnce() + Send>,
    ) -> impl Future<Output = Result<Rows, Error>> + Send + use<> {
        let (reply, committed) = oneshot::channel();
        let way = Way::Whole(Vec::new(), vec![then], reply);
        let ask = Ask::Soon(Turn { script, way });
        let asked = self.asks.send(ask).map_err(|_| Error::Closed);
        async move {
            asked?;
            committed.await.unwrap_or(Err(Error::Closed))
        }
    }

    /// How long who may wait waits for others at most, from now on, instead of 25 ms.
    pub fn soon_is(&self, longest: Duration) {
        let ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        self.tally.soon_ms.store(ms, Ordering::Relaxed);
    }

    /// As [`Db::write`], for what makes the file grow: refused as by [`Db::begin_growing`].
    ///
    /// # Errors
    /// As of [`Db::write`] and [`Db::begin_growing`].
    pub async fn write_growing(&self, script: Script, topics: Vec<String>) -> Result<Rows, Error> {
        if self.room.as_ref().is_none_or(|room| room.regain()) {
            return self.write(script, topics).await;
        }
        let mut tx = self.begin_growing().await?;
        for topic in topics {
            tx.wake(topic);
        }
        tx.commit_with(script).await
    }

    /// As [`Db::begin`], for what makes the file grow: refused while nearly nothing is left on the
    /// disk, unless as much has become free in the file itself.
    ///
    /// # Errors
    /// [`Error::Full`]; as of [`Db::begin`].
    pub async fn begin_growing(&self) -> Result<Tx, Error> {
        self.begin_growing_with(Script::default()).await.map(|(tx, _)| tx)
    }

    /// As [`Db::begin_with`], refused as by [`Db::begin_growing`].
    ///
    /// # Errors
    /// As of both.
    pub async fn begin_growing_with(&self, script: Script) -> Result<(Tx, Rows), Error> {
        let has_room = self.room.as_ref().is_none_or(|room| room.regain());
        let (mut tx, rows) = self.begin_with(script).await?;
        if has_room {
            return Ok((tx, rows));
        }
        let free: i64 = sqlx::query_scalar(
            "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size",
        )
        .fetch_one(tx.conn())
        .await?;
        let bytes = u64::try_from(free).unwrap_or(0);
        let is_enough = self.room.as_ref().is_none_or(|room| bytes >= room.bytes());
        if is_enough { Ok((tx, rows)) } else { Err(Error::Full) }
    }

    /// What the count beside the file says; `None` if there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn beside(&self) -> io::Result<Option<Beside>> {
        count::read(&self.path)
    }

    /// Writes a page that says what it said before: whether anything can be committed now.
    ///
    /// # Errors
    /// [`Error::Full`]: nothing that would grow; as of [`Db::begin`] and [`Tx::commit`].
    pub async fn probe(&self) -> Result<(), Error> {
        if self.room.as_ref().is_some_and(|room| !room.regain()) {
            return Err(Error::Full);
        }
        let mut tx = self.begin().await?;
        let is: i32 = sqlx::query_scalar("PRAGMA user_version").fetch_one(tx.conn()).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA user_version = {is}")))
            .execute(tx.conn())
            .await?;
        tx.commit().await
    }

    /// A connection that can only read.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Readers`], or the engine's.
    pub async fn read(&self) -> Result<Read, Error> {
        self.readers.read().await
    }

    /// Hears of commits of this `Db` that [woke](Tx::wake) `topic`, from now on.
    pub fn listen(&self, topic: &str) -> Listener {
        self.listen_to([topic.to_owned()])
    }

    /// As [`Db::listen`], to several topics at once: which of them was touched is not told.
    pub fn listen_to(&self, topics: impl IntoIterator<Item = String>) -> Listener {
        self.topics.listen(topics.into_iter().collect())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How much room it takes.
    pub fn sizes(&self) -> Sizes {
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let mut wal = self.path.as_os_str().to_owned();
        wal.push("-wal");
        Sizes { db_bytes: bytes(&self.path), wal_bytes: bytes(Path::new(&wal)) }
    }

    /// How much was committed.
    pub fn counts(&self) -> Counts {
        Counts {
            transactions: self.tally.transactions.load(Ordering::Relaxed),
            commits: self.tally.commits.load(Ordering::Relaxed),
            long: self.tally.long.load(Ordering::Relaxed),
        }
    }

    /// What the table `commits` has counted, as of the last commit, where every one is counted in a file
    /// that this process alone has open.
    pub fn counted(&self) -> Option<u64> {
        Some(self.tally.counted.load(Ordering::Relaxed)).filter(|count| *count > 0)
    }

    /// Closes the file for all handles and returns when its lock is free. Open transactions end
    /// first; whoever asks afterwards gets [`Error::Closed`].
    pub async fn close(&self) {
        self.readers.close().await;
        let (reply, closed) = oneshot::channel();
        if self.asks.send(Ask::Close(reply)).is_ok() {
            let _ = closed.await;
        }
    }
}

fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .page_size(PAGE_BYTES)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(OTHERS)
        .foreign_keys(true)
        .statement_cache_capacity(PREPARED)
        .pragma("journal_size_limit", "67108864")
        .pragma("temp_store", "memory")
        // What each statement is, never its values; `tests/counts` of the bridge counts them.
        .log_statements(LevelFilter::Trace)
        .log_slow_statements(LevelFilter::Off, Duration::MAX)
        .thread_name(named(path, "read"))
}

/// What a connection's thread is called: by its file, so that profiles tell them apart.
fn named(path: &Path, does: &'static str) -> impl Fn(u64) -> String + Send + Sync + use<> {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    move |_| format!("{file} {does}")
}

/// The log may not outgrow what is kept free for it, and nothing is written before the commit: then
/// a disk that is full is met there, by the one who knows what to do.
async fn connect_to_write(path: &Path, room: Option<&Room>) -> Result<Conn, sqlx::Error> {
    // Not `OFF`, which nothing changes within a transaction: see `Tx::spill`.
    let options = connect_options(path).pragma("cache_spill", "2147483647");
    let mut writer = options.thread_name(named(path, "write")).connect().await?;
    let page: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut writer).await?;
    let most = room.map_or(LOG_BYTES, |room| room.bytes() / 2).min(LOG_BYTES);
    let pages = most / u64::try_from(page).unwrap_or(1).max(1);
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA wal_autocheckpoint = {pages}")))
        .execute(&mut writer)
        .await?;
    Ok(writer)
}

/// Looks at an existing file without writing to it; returns whether migrations are to be applied.
async fn look(options: &Options<'_>) -> Result<bool, OpenCause> {
    let is_new = std::fs::metadata(&options.path).map_or(true, |file| file.len() == 0);
    if is_new {
        return Ok(true);
    }
    let read_only = SqliteConnectOptions::new()
        .filename(&options.path)
        .read_only(true)
        .busy_timeout(OTHERS)
        .disable_statement_logging();
    let mut conn = read_only.connect().await?;
    let is_behind = migrate::pending(&mut conn, options.schemas).await;
    conn.close().await?;
    is_behind
}

fn create(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    Ok(())
}

async fn check(conn: &mut Conn) -> Result<(), OpenCause> {
    tracing::info!("the last process did not stop in order; checking the database");
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(conn).await?;
    if found == "ok" { Ok(()) } else { Err(OpenCause::Damaged(found)) }
}

async fn assert_version() -> Result<(), OpenCause> {
    let mut conn = SqliteConnectOptions::new().in_memory(true).connect().await?;
    let version: String =
        sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut conn).await?;
    conn.close().await?;
    if is_sound(&version) { Ok(()) } else { Err(OpenCause::OldSqlite(version)) }
}

fn is_sound(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found: [u32; 3] = std::array::from_fn(|_| parts.next().unwrap_or(0));
    // 3.52.0 was withdrawn for the same fault.
    found >= OLDEST_SQLITE && found != [3, 52, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_the_wal_reset_bug_are_refused() {
        for bad in ["3.50.2", "3.51.2", "3.9.9", "3.52.0", "2.99.0", "", "x"] {
            assert!(!is_sound(bad), "{bad}");
        }
        for good in ["3.51.3", "3.51.10", "3.53.0", "4.0.0"] {
            assert!(is_sound(good), "{good}");
        }
    }

    /// A database beside which there is room that no disk has.
    async fn on_a_full_disk(dir: &Path) -> Db {
        let path = dir.join("t.db");
        create(&path).unwrap();
        let room = Arc::new(Room::of(&path, u64::MAX >> 2));
        let mut writer = connect_to_write(&path, None).await.unwrap();
        sqlx::raw_sql("CREATE TABLE t (x)").execute(&mut writer).await.unwrap();
        let Taken::Ours(lock) = lock::take(&path, Lock::Exclusive).unwrap() else { panic!("held") };
        let keeper = Keeper::new(Count::beside(&path), None, Some(Arc::clone(&room)));
        Db::start(&path, writer, lock, (keeper, Some(room)))
    }

    #[tokio::test]
    async fn on_a_full_disk_what_would_grow_is_refused_and_all_else_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let db = on_a_full_disk(dir.path()).await;
        assert!(matches!(db.begin_growing().await, Err(Error::Full)));
        assert!(matches!(db.probe().await, Err(Error::Full)));
        let mut tx = db.begin().await.unwrap();
        sqlx::query("DELETE FROM t").execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        assert!(!dir.path().join("t.db.reserve").exists());
        db.close().await;
    }

    #[tokio::test]
    async fn the_reserve_goes_when_sqlite_finds_no_room_and_comes_back_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let schemas = [];
        let options =
            Options { path: dir.path().join("t.db"), lock: Lock::Exclusive, schemas: &schemas };
        let db = Db::open(options).await.unwrap();
        let reserve = dir.path().join("t.db.reserve");
        assert!(reserve.metadata().unwrap().len() >= 1 << 20);
        db.room.as_ref().unwrap().spend();
        assert!(!reserve.exists());
        // There is room on the disk of whoever runs this.
        drop(db.begin_growing().await.unwrap());
        assert!(reserve.exists());
        let mut tx = db.begin().await.unwrap();
        sqlx::raw_sql("PRAGMA max_page_count = 20; CREATE TABLE t (x)")
            .execute(tx.conn())
            .await
            .unwrap();
        let full = sqlx::query("INSERT INTO t VALUES (zeroblob(1000000))").execute(tx.conn()).await;
        assert!(matches!(full.map_err(Error::from), Err(Error::Full)));
        drop(tx);
        db.close().await;
    }
}

//! Copying by SQLite itself: `VACUUM INTO`, which reads as of one moment and waits for nobody.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{At, BackupError, Step, Watch, place};
use crate::{
    engine::Conn,
    migrate::{self, Schema},
    open_error::OpenCause,
    turn::OTHERS,
};

/// Between looks at how far the copies are.
const LOOK: Duration = Duration::from_millis(10);
/// Longest that the first database is waited for: its process writes without a pause.
const PATIENCE: Duration = Duration::from_mins(1);

/// `SQLITE_BUSY`.
const BUSY: &str = "5";
/// `SQLITE_FULL`.
const FULL: &str = "13";

impl<T> At<T> for Result<T, sqlx::Error> {
    fn at(self, path: &Path) -> Result<T, BackupError> {
        self.map_err(OpenCause::from).at(path)
    }
}

/// Copies the databases of these names from one folder to the other, all as of the moment at which
/// nobody could write to the first.
pub(super) async fn all(
    names: &[&str],
    from: &Path,
    to: &Path,
    watch: Watch<'_>,
) -> Result<(), BackupError> {
    let mut whole = Vec::new();
    for name in names {
        let path = from.join(name);
        whole.push(size(&path).await?);
        place::make_file(&to.join(name)).at(&to.join(name))?;
    }
    place::has_room(to, whole.iter().sum())?;
    let first = names.first().map(|name| from.join(name)).filter(|_| names.len() > 1);
    let mut held = match first {
        Some(first) => Some(hold(&first).await?),
        None => None,
    };
    let mut copies = FuturesUnordered::new();
    let mut begun = 0;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while begun < names.len() || !copies.is_empty() {
        tokio::select! {
            Some(done) = copies.next() => done?,
            _ = look.tick() => {
                let lengths = names.iter().map(|name| place::length(&to.join(name)));
                let lengths: Vec<u64> = lengths.collect();
                for ((name, done), whole) in names.iter().zip(&lengths).zip(&whole) {
                    watch(Step { doing: "copying", name, done: *done.min(whole), whole: *whole });
                }
                // Nothing is in a copy before SQLite has begun to read what it is of.
                if lengths.iter().take(begun).all(|bytes| *bytes > 0) {
                    if let Some(name) = names.get(begun) {
                        copies.push(copy(from.join(name), to.join(name)));
                        begun += 1;
                    } else if let Some(held) = held.take() {
                        held.close().await.at(from)?;
                    }
                }
            }
        }
    }
    match held {
        Some(held) => held.close().await.at(from),
        None => Ok(()),
    }
}

async fn copy(from: PathBuf, to: PathBuf) -> Result<(), BackupError> {
    let mut conn = read_only(&from).await.at(&from)?;
    let vacuum = sqlx::query("VACUUM INTO $1").bind(to.to_string_lossy());
    match vacuum.execute(&mut conn).await {
        Ok(_) => conn.close().await.at(&from),
        Err(error) if has_code(&error, FULL) => {
            Err(BackupError::Full(place::folder_of(&to).to_owned(), place::length(&from)))
        }
        Err(error) => Err(error).at(&from),
    }
}

/// Lets nobody write to this database until the connection is closed.
async fn hold(path: &Path) -> Result<Conn, BackupError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::ZERO)
        .disable_statement_logging();
    let mut conn = options.connect().await.at(path)?;
    let began = Instant::now();
    loop {
        match sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut conn).await {
            Ok(_) => return Ok(conn),
            // Its process writes. SQLite's own waiting is longer than the pauses between commits.
            Err(error) if has_code(&error, BUSY) && began.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(1)).await;
            }
            Err(error) => return Err(error).at(path),
        }
    }
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    let is = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    is.is_some_and(|is| is == code)
}

/// What a copy says of itself.
pub(super) struct Found {
    pub(super) schemas: BTreeMap<String, i64>,
    pub(super) commits: Option<u64>,
}

/// Looks whether a copy is of nothing that is not known here.
pub(super) async fn look(path: &Path, schemas: &[Schema<'_>]) -> Result<Found, BackupError> {
    let mut conn = read_only(path).await.at(path)?;
    migrate::pending(&mut conn, schemas).await.at(path)?;
    let found = found(&mut conn).await.at(path)?;
    conn.close().await.at(path)?;
    Ok(found)
}

async fn found(conn: &mut Conn) -> Result<Found, sqlx::Error> {
    let schemas = migrate::versions(conn).await?;
    let counts = sqlx::query("SELECT 1 FROM sqlite_schema WHERE name = 'commits'");
    let commits: Option<i64> = match counts.fetch_optional(&mut *conn).await? {
        Some(_) => Some(sqlx::query_scalar("SELECT n FROM commits").fetch_one(conn).await?),
        None => None,
    };
    Ok(Found { schemas, commits: commits.and_then(|n| u64::try_from(n).ok()) })
}

/// Reads a whole copy, every row and every index.
pub(super) async fn check(path: &Path) -> Result<(), BackupError> {
    let mut conn = read_only(path).await.at(path)?;
    let found: Result<String, _> =
        sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut conn).await;
    let found = found.at(path)?;
    conn.close().await.at(path)?;
    if found == "ok" { Ok(()) } else { Err(BackupError::Damaged(path.to_owned(), found)) }
}

/// Bytes of a database, with what stands in its log.
async fn size(path: &Path) -> Result<u64, BackupError> {
    let mut conn = read_only(path).await.at(path)?;
    let pages = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut conn).await;
    let bytes = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut conn).await;
    let (pages, bytes): (i64, i64) = pages.and_then(|pages| Ok((pages, bytes?))).at(path)?;
    conn.close().await.at(path)?;
    Ok(u64::try_from(pages.saturating_mul(bytes)).unwrap_or(0))
}

async fn read_only(path: &Path) -> Result<Conn, OpenCause> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(OTHERS)
        .disable_statement_logging();
    Ok(options.connect().await?)
}

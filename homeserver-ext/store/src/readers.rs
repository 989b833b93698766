//! Connections that can only read, a few of them, opened when they are first wanted.
//!
//! Not sqlx's own pool: that asks each connection whether it is well when it comes back, which is an
//! errand to its thread and costs as much as the statement that it was lent for. Whoever drops a
//! statement half read leaves nothing behind: the engine resets it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::{engine::Conn, error::Error};

const READERS: u32 = 4;
/// How long somebody waits for one of them.
const PATIENCE: Duration = Duration::from_secs(30);

/// The connections of one file. A clone is another handle of the same.
#[derive(Clone)]
pub(crate) struct Readers(Arc<Inner>);

struct Inner {
    options: SqliteConnectOptions,
    free: Mutex<Vec<Lent>>,
    turns: Arc<Semaphore>,
}

/// A connection that whoever reads holds locked, so that it is given back whatever happens.
type Lent = Arc<tokio::sync::Mutex<Conn>>;

/// A read-only connection; each statement sees the newest commit before it.
///
/// Give it back before waiting for the network: an old snapshot keeps the log from being shortened.
pub struct Read {
    // In this order: who has the next turn finds it unlocked.
    conn: OwnedMutexGuard<Conn>,
    readers: Arc<Inner>,
    _turn: OwnedSemaphorePermit,
}

impl Read {
    /// The connection.
    pub fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        let conn = Arc::clone(OwnedMutexGuard::mutex(&self.conn));
        self.readers.free.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
    }
}

impl Readers {
    pub(crate) fn new(options: SqliteConnectOptions) -> Self {
        let turns = Arc::new(Semaphore::new(READERS as usize));
        Self(Arc::new(Inner { options, free: Mutex::default(), turns }))
    }

    /// One of them, in the order in which they were asked for.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Readers`], or the engine's.
    pub(crate) async fn read(&self) -> Result<Read, Error> {
        let turn = Arc::clone(&self.0.turns).acquire_owned();
        let turn = tokio::time::timeout(PATIENCE, turn).await.map_err(|_| Error::Readers)?;
        let turn = turn.map_err(|_| Error::Closed)?;
        let free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match free {
            Some(conn) => conn,
            None => Arc::new(tokio::sync::Mutex::new(self.0.options.connect().await?)),
        };
        let readers = Arc::clone(&self.0);
        Ok(Read { conn: conn.lock_owned().await, readers, _turn: turn })
    }

    /// Waits until all have come back, and closes them.
    pub(crate) async fn close(&self) {
        // Refused where somebody has closed them already.
        let Ok(all) = self.0.turns.acquire_many(READERS).await else { return };
        self.0.turns.close();
        drop(all);
        let free = std::mem::take(&mut *self.0.free.lock().unwrap_or_else(PoisonError::into_inner));
        for conn in free.into_iter().filter_map(Arc::into_inner) {
            if let Err(error) = conn.into_inner().close().await {
                tracing::debug!(%error, "a reading connection did not close in order");
            }
        }
    }
}

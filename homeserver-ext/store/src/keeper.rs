//! What the writer keeps beside the file: the count of commits, and room.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::task::JoinHandle;

use crate::{count::Count, room::Room};

/// What stands beside one file.
pub(crate) struct Keeper {
    noted: Arc<Noted>,
    /// How many commits the table `commits` has counted, where every one is.
    every: Option<u64>,
    room: Option<Arc<Room>>,
    /// Those who bring the count to disk.
    syncing: Vec<JoinHandle<()>>,
}

/// The count beside the file, and how far it is to be.
struct Noted {
    count: Mutex<Count>,
    newest: AtomicU64,
}

impl Noted {
    /// Has the file say how far it is, on disk when this returns.
    fn sync(&self) -> io::Result<()> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waited meanwhile is served by this, too.
        count.raise(self.newest.load(Ordering::Acquire), true)
    }

    /// Has the file say how far it is, unless it is just being done: then whoever does it looks again.
    fn write(&self) {
        let Ok(mut count) = self.count.try_lock() else { return };
        if let Err(error) = count.raise(self.newest.load(Ordering::Acquire), false) {
            tracing::warn!(%error, "the count beside the database stays behind");
        }
    }
}

impl Keeper {
    /// Of a file that has counted `every` commit so far, if it does.
    pub(crate) fn new(count: Count, every: Option<u64>, room: Option<Arc<Room>>) -> Self {
        let noted = Noted { count: Mutex::new(count), newest: AtomicU64::new(0) };
        Self { noted: Arc::new(noted), every, room, syncing: Vec::new() }
    }

    /// How many commits there have been, where every one is counted.
    pub(crate) const fn every(&self) -> Option<u64> {
        self.every
    }

    /// What ends the outer transaction; `keeps_last`: with what was done in it last.
    pub(crate) const fn commit(&self, keeps_last: bool) -> &'static str {
        match (keeps_last, self.every.is_some()) {
            (true, false) => "RELEASE tx; COMMIT",
            (true, true) => "RELEASE tx; UPDATE commits SET n = n + 1; COMMIT",
            (false, false) => "ROLLBACK TO tx; RELEASE tx; COMMIT",
            (false, true) => "ROLLBACK TO tx; RELEASE tx; UPDATE commits SET n = n + 1; COMMIT",
        }
    }

    /// After a commit: says beside the file how far it has counted. Where somebody `must` have counted so
    /// far, `told` is called once that is on disk, or cannot be, while others write on; else it is only
    /// written.
    pub(crate) fn note(
        &mut self,
        must: Option<u64>,
        told: impl FnOnce(io::Result<()>) + Send + 'static,
    ) {
        if let Some(every) = &mut self.every {
            *every = must.unwrap_or(0).max(*every).saturating_add(1);
        }
        let Some(count) = self.every.max(must) else { return };
        self.noted.newest.fetch_max(count, Ordering::AcqRel);
        if must.is_none() {
            self.noted.write();
            return;
        }
        let noted = Arc::clone(&self.noted);
        self.syncing.retain(|syncing| !syncing.is_finished());
        self.syncing.push(tokio::task::spawn_blocking(move || {
            told(noted.sync());
            noted.write();
        }));
    }

    /// Waits until everybody is told.
    pub(crate) async fn settle(&mut self) {
        for syncing in self.syncing.drain(..) {
            if let Err(error) = syncing.await {
                tracing::warn!(%error, "the count beside the database stays behind");
            }
        }
    }

    /// Gives the reserve away if the disk is nearly full; says whether it did so now.
    pub(crate) fn look(&self) -> bool {
        self.room.as_ref().is_some_and(|room| room.look())
    }

    /// The disk is full: gives the reserve away.
    pub(crate) fn spend(&self) {
        if let Some(room) = &self.room {
            room.spend();
        }
    }
}

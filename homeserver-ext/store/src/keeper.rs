//! What the writer keeps beside the file: the count of commits, and room.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{count::Count, room::Room};

/// What stands beside one file.
pub(crate) struct Keeper {
    count: Arc<Mutex<Count>>,
    /// How many commits the table `commits` has counted, where every one is.
    every: Option<u64>,
    room: Option<Arc<Room>>,
}

impl Keeper {
    /// Of a file that has counted `every` commit so far, if it does.
    pub(crate) fn new(count: Count, every: Option<u64>, room: Option<Arc<Room>>) -> Self {
        Self { count: Arc::new(Mutex::new(count)), every, room }
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

    /// After a commit: says beside the file how far it has counted. That is on disk when this
    /// returns where somebody `must` have counted so far; else it is only written.
    ///
    /// # Errors
    /// What must be known is not written.
    pub(crate) async fn note(&mut self, must: Option<u64>) -> io::Result<()> {
        if let Some(every) = &mut self.every {
            *every = must.unwrap_or(0).max(*every).saturating_add(1);
        }
        let Some(count) = self.every.max(must) else { return Ok(()) };
        let file = Arc::clone(&self.count);
        let raise =
            move |synced| file.lock().unwrap_or_else(PoisonError::into_inner).raise(count, synced);
        if must.is_some() {
            let raised = tokio::task::spawn_blocking(move || raise(true)).await;
            return raised.unwrap_or_else(|error| Err(io::Error::other(error)));
        }
        if let Err(error) = raise(false) {
            tracing::warn!(%error, "the count beside the database stays behind");
        }
        Ok(())
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

//! Tasks for the life of the process: begun here, watched here, ended here.
//!
//! One that panics or returns is logged and begun again; whatever it does is safe to be cut off at
//! any await, since a kill may do the same at any time.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use causeway_store::Db;
use futures_util::FutureExt as _;
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Longest that closing a database takes.
const CLOSING: Duration = Duration::from_secs(2);
/// Between the end of a task and its next beginning.
const AGAIN: Duration = Duration::from_secs(1);

/// The tasks of a process.
#[derive(Clone, Default)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    databases: Arc<Mutex<Vec<Db>>>,
}

impl Tasks {
    /// Keeps a task running: whenever it ends, however it ends, `begin` makes it anew.
    pub(super) fn keep<F>(&self, name: &'static str, begin: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            loop {
                let ended = tokio::select! {
                    () = stop.cancelled() => return,
                    ended = AssertUnwindSafe(begin()).catch_unwind() => ended,
                };
                // A panic's own text may quote what it worked on: not for logs.
                if ended.is_err() {
                    tracing::error!(task = name, "panicked; it begins again");
                } else {
                    tracing::warn!(task = name, "ended; it begins again");
                }
                metrics::counter!("causeway_task_restarts_total", "task" => name).increment(1);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(AGAIN) => {}
                }
            }
        });
    }

    /// Runs a task that heeds [`Tasks::token`] itself.
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Cancelled when the process is to end.
    pub(super) fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Closes a database when all have ended, however far the start has come.
    pub(super) fn close_at_end(&self, db: &Db) {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner).push(db.clone());
    }

    /// Tells all to end and waits for them, at most for `longest`, then closes the databases;
    /// whether all have ended.
    pub(super) async fn end(&self, longest: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        let mut is_ended = timeout(longest, self.tracker.wait()).await.is_ok();
        let databases =
            std::mem::take(&mut *self.databases.lock().unwrap_or_else(PoisonError::into_inner));
        for db in databases {
            // Whoever still writes is cut off, as by a kill.
            is_ended &= timeout(CLOSING, db.close()).await.is_ok();
        }
        is_ended
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        time::Duration,
    };

    use super::Tasks;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_begins_again() {
        let tasks = Tasks::default();
        let begun = Arc::new(AtomicU32::new(0));
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let count = Arc::clone(&begun);
        tasks.keep("test", move || {
            let nth = count.fetch_add(1, Ordering::Relaxed);
            let tell = tell.clone();
            async move {
                assert_ne!(nth, 0, "the first one panics");
                if nth == 2 {
                    tell.send(()).unwrap();
                    std::future::pending::<()>().await;
                }
            }
        });
        told.recv().await.unwrap();
        assert_eq!(begun.load(Ordering::Relaxed), 3);
        assert!(tasks.end(Duration::from_secs(1)).await);
    }
}

//! Whose turn it is to write, among processes that share a database.
//!
//! SQLite asks now and then whether it may write, more seldom the longer it has waited: beside one that commits
//! without a pause that takes seconds, and may never come to anything. So whoever wants to write takes the turn
//! first, a lock on `<db>.turn`, and gives it back once its transaction has begun: who has just written waits
//! behind who waits already. It decides nothing but that; what is written stays SQLite's to guard.

use std::{
    fs::{File, OpenOptions},
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use rustix::fs::{FlockOperation, OFlags, flock};
use tokio::time::{Instant, sleep};

/// How long another process is waited for that does not go on.
pub(crate) const OTHERS: Duration = Duration::from_secs(30);
/// How long the turn is waited for: who has it waits for SQLite alone.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between looks whether it is free: at first, and at most.
const SOON: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_millis(10);

/// The turn beside a database.
pub(crate) struct Turns {
    file: File,
    /// Who had it did not go on when it was waited for last.
    is_held: AtomicBool,
}

/// The turn, until dropped.
pub(crate) struct Turn<'a>(&'a File);

impl Turns {
    /// None where there can be no such file: then it is as SQLite has it.
    pub(crate) fn beside(db: &Path) -> Option<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut path = db.as_os_str().to_owned();
        path.push(".turn");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        match options.open(path) {
            Ok(file) => Some(Self { file, is_held: AtomicBool::new(false) }),
            Err(error) => {
                tracing::debug!(%error, "other processes may be waited for longer than has to be");
                None
            }
        }
    }

    /// Waits for it for a while. None: somebody has it who does not go on, as one that was stopped, and is waited
    /// for no more until he does.
    pub(crate) async fn take(&self) -> Option<Turn<'_>> {
        let patience = if self.is_held.load(Relaxed) { Duration::ZERO } else { PATIENCE };
        let (until, mut pause) = (Instant::now() + patience, SOON);
        while flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= until {
                self.is_held.store(true, Relaxed);
                return None;
            }
            sleep(pause).await;
            pause = (2 * pause).min(LATER);
        }
        self.is_held.store(false, Relaxed);
        Some(Turn(&self.file))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Err(error) = flock(self.0, FlockOperation::Unlock) {
            tracing::debug!(%error, "the turn is given back by closing its file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_has_the_turn_and_does_not_go_on_is_waited_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("t.db");
        let (stopped, other) = (Turns::beside(&db).unwrap(), Turns::beside(&db).unwrap());
        let held = stopped.take().await.unwrap();
        let began = Instant::now();
        assert!(other.take().await.is_none());
        assert!((PATIENCE..2 * PATIENCE).contains(&began.elapsed()));
        let began = Instant::now();
        assert!(other.take().await.is_none());
        assert_eq!(began.elapsed(), Duration::ZERO);
        drop(held);
        let taken = other.take().await.unwrap();
        let began = Instant::now();
        assert!(stopped.take().await.is_none());
        assert!(began.elapsed() >= PATIENCE);
        drop(taken);
    }
}

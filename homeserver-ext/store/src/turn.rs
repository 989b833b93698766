//! Whose turn it is to write, among processes that share a database.
//!
//! SQLite asks now and then whether it may write, more seldom the longer it has waited: beside one that commits
//! without a pause that takes seconds, and may never come to anything. So whoever wants to write takes the turn
//! first, a lock on `<db>.turn`, and gives it back once its transaction has begun: who has just written waits
//! behind who waits already. It decides nothing but that; what is written stays SQLite's to guard.

use std::{
    fs::{File, OpenOptions},
    path::Path,
    time::Duration,
};

use rustix::fs::{FlockOperation, OFlags, flock};
use tokio::time::{Instant, sleep};

/// How long another process is waited for that does not go on.
pub(crate) const OTHERS: Duration = Duration::from_secs(30);
/// Between looks whether it is free: at first, and at most.
const SOON: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_millis(10);

/// The turn beside a database.
pub(crate) struct Turns(File);

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
            Ok(file) => Some(Self(file)),
            Err(error) => {
                tracing::debug!(%error, "other processes may be waited for longer than has to be");
                None
            }
        }
    }

    /// Waits for it as long as for another process at all. None: somebody has it who does not go on.
    pub(crate) async fn take(&self) -> Option<Turn<'_>> {
        let (until, mut pause) = (Instant::now() + OTHERS, SOON);
        while flock(&self.0, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= until {
                return None;
            }
            sleep(pause).await;
            pause = (2 * pause).min(LATER);
        }
        Some(Turn(&self.0))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Err(error) = flock(self.0, FlockOperation::Unlock) {
            tracing::debug!(%error, "the turn is given back by closing its file");
        }
    }
}

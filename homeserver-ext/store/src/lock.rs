//! The process lock: who may have the database open.
//!
//! `<db>.lock` beside the database is locked with `flock` for the life of the [`Db`](crate::Db) and
//! says who holds it. The kernel lets go of it however the process ends, so it is never stale. What
//! is left in it tells the next holder that the last one did not stop in order.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::turn::Turns;

/// Who else may open the database while this process has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Nobody: servers, which keep leases and wake-ups in memory.
    Exclusive,
    /// Other processes that also share it: people's clients.
    Shared,
}

/// The process that has the database open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id; 0 if it left no word.
    pub pid: u32,
    /// Its program's file name.
    pub program: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => write!(f, "another process"),
            pid => write!(f, "{} (process {pid})", self.program),
        }
    }
}

impl Holder {
    fn this_process() -> Self {
        let program = std::env::current_exe()
            .ok()
            .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
        Self { pid: std::process::id(), program: program.unwrap_or_default() }
    }

    fn parse(text: &str) -> Option<Self> {
        let (pid, program) = text.trim_end().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, program: program.to_owned() })
    }
}

/// A lock that is held; dropping it lets go at once.
pub(crate) struct Held {
    file: File,
    mode: Lock,
    after_crash: bool,
    turns: Option<Turns>,
}

/// What came of asking for the lock.
pub(crate) enum Taken {
    /// It is ours.
    Ours(Held),
    /// Somebody else's.
    Theirs(Holder),
}

/// Takes the lock beside `db`, without waiting. [`Held::name`] then says whose it is.
pub(crate) fn take(db: &Path, mode: Lock) -> io::Result<Taken> {
    let path = path_of(db);
    let mut file = {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        // Root may restore into a folder of somebody who laid a link there.
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?
    };
    let operation = match mode {
        Lock::Exclusive => FlockOperation::NonBlockingLockExclusive,
        Lock::Shared => FlockOperation::NonBlockingLockShared,
    };
    let locked = flock(&file, operation);
    let mut said = String::new();
    file.read_to_string(&mut said)?;
    match locked {
        Ok(()) => {
            let after_crash = mode == Lock::Exclusive && !said.is_empty();
            let turns = if mode == Lock::Shared { Turns::beside(db) } else { None };
            Ok(Taken::Ours(Held { file, mode, after_crash, turns }))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Taken::Theirs(
            Holder::parse(&said).unwrap_or(Holder { pid: 0, program: String::new() }),
        )),
        Err(errno) => Err(errno.into()),
    }
}

fn path_of(db: &Path) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

impl Held {
    /// Whether the last exclusive holder did not stop in order.
    pub(crate) fn after_crash(&self) -> bool {
        self.after_crash
    }

    /// Whose turn it is to write, where others share the database.
    pub(crate) const fn turns(&self) -> Option<&Turns> {
        self.turns.as_ref()
    }

    /// Notes that this process has it.
    pub(crate) fn name(&mut self) -> io::Result<()> {
        let me = Holder::this_process();
        self.say(&format!("{} {}\n", me.pid, me.program))
    }

    /// Notes that this process stops in order, and lets go.
    pub(crate) fn release(mut self) {
        if self.mode == Lock::Exclusive
            && let Err(error) = self.say("")
        {
            tracing::warn!(%error, "the lock file keeps our name; the next start will check the database");
        }
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Closing lets go only with the last copy of the descriptor, and a child that another
        // thread starts just now has one until it runs its program.
        if let Err(error) = flock(&self.file, FlockOperation::Unlock) {
            tracing::debug!(%error, "the lock is let go of by closing its file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lock, Taken, take};

    #[test]
    fn a_lock_is_free_at_once_although_a_child_still_has_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("t.db");
        for is_released in [true, false, true] {
            let Taken::Ours(held) = take(&db, Lock::Exclusive).unwrap() else { panic!("held") };
            // What a child has between its fork and its exec.
            let inherited = held.file.try_clone().unwrap();
            if is_released {
                held.release();
            } else {
                drop(held);
            }
            assert!(matches!(take(&db, Lock::Exclusive).unwrap(), Taken::Ours(_)));
            drop(inherited);
        }
    }
}

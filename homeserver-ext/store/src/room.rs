//! Room that is kept free beside a database, so that a full disk stops only what would fill it.
//!
//! Deleting needs room as well: each change goes to the log before its pages are free. `<db>.reserve`
//! holds some, and is deleted when nearly nothing else is left on the disk, whoever has filled it.
//! From then on what makes the file grow is refused, and all else goes on, until there is room for
//! the reserve again.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Bytes of the reserve, where the disk is at least sixteen times as large.
const MOST: u64 = 32 << 20;
const LEAST: u64 = 1 << 20;

/// The room beside one database.
pub(crate) struct Room {
    folder: PathBuf,
    reserve: PathBuf,
    bytes: u64,
    is_spent: AtomicBool,
}

impl Room {
    /// Keeps room beside `db`, as much as there is.
    pub(crate) fn beside(db: &Path) -> Self {
        Self::of(db, bytes_beside(db))
    }

    /// As many bytes of room, if there are.
    pub(crate) fn of(db: &Path, bytes: u64) -> Self {
        let room = Self::unfilled(db, bytes);
        if room.is_scarce() || room.fill().is_err() {
            room.spend();
        }
        room
    }

    fn unfilled(db: &Path, bytes: u64) -> Self {
        let mut name = db.as_os_str().to_owned();
        name.push(".reserve");
        let is_spent = AtomicBool::new(false);
        Self { folder: folder_of(db).to_owned(), reserve: name.into(), bytes, is_spent }
    }

    /// Bytes that are kept, and that the log may have.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the reserve is in use.
    pub(crate) fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Relaxed)
    }

    /// Gives the reserve away if nearly nothing is left; says whether it did so now.
    pub(crate) fn look(&self) -> bool {
        !self.is_spent() && self.is_scarce() && self.spend()
    }

    /// Gives the reserve away; `false` if that had been done.
    pub(crate) fn spend(&self) -> bool {
        if self.is_spent.swap(true, Ordering::Relaxed) {
            return false;
        }
        if let Err(error) = fs::remove_file(&self.reserve)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the reserve cannot be given away");
        }
        tracing::error!(
            folder = %self.folder.display(),
            "the disk is full: nothing new is taken in until there is room; what is acknowledged \
             and deleted still goes"
        );
        true
    }

    /// Whether the reserve is there; makes it again if there is room for it and much more: what
    /// another database in the folder gave away is no room.
    pub(crate) fn regain(&self) -> bool {
        if !self.is_spent() {
            return true;
        }
        if self.available().is_none_or(|bytes| bytes < self.bytes.saturating_mul(3)) {
            return false;
        }
        if self.fill().is_err() {
            return false;
        }
        if self.is_spent.swap(false, Ordering::Relaxed) {
            tracing::info!(folder = %self.folder.display(), "there is room on the disk again");
        }
        true
    }

    fn is_scarce(&self) -> bool {
        self.available().is_some_and(|bytes| bytes < self.scarce())
    }

    const fn scarce(&self) -> u64 {
        self.bytes / 4
    }

    /// Bytes that this user may still write; `None` where nobody says.
    fn available(&self) -> Option<u64> {
        let disk = statvfs(&self.folder).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Makes the reserve. A file system that keeps no room has none to give; there, only what the
    /// disk says counts.
    fn fill(&self) -> io::Result<()> {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).open(&self.reserve)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => {
                let _ = fs::remove_file(&self.reserve);
                Err(errno.into())
            }
        }
    }
}

/// Gives away what a process before kept beside `db`, if nearly nothing else is left: to open a
/// database takes room as well. Only for whom nobody else has it open.
pub(crate) fn make_way(db: &Path) {
    make_way_in(db, bytes_beside(db));
}

fn make_way_in(db: &Path, bytes: u64) {
    let room = Room::unfilled(db, bytes);
    if room.reserve.exists() {
        room.look();
    }
}

fn bytes_beside(db: &Path) -> u64 {
    let disk = statvfs(folder_of(db));
    let whole = disk.map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize));
    (whole / 16).clamp(LEAST, MOST)
}

fn folder_of(db: &Path) -> &Path {
    db.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::make_way_in;

    #[test]
    fn what_was_kept_is_given_away_before_a_full_disk_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (db, kept) = (folder.path().join("t.db"), folder.path().join("t.db.reserve"));
        fs::write(&kept, [0; 9]).unwrap();
        make_way_in(&db, 0);
        assert!(kept.exists(), "there is room");
        make_way_in(&db, u64::MAX);
        assert!(!kept.exists());
    }
}

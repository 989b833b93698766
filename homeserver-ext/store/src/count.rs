//! The count beside a database: how a database learns that it is an older copy of itself.
//!
//! `<db>.generation` holds `committed n`, written and synced after the commit that counted up to n
//! and before anybody hears of it: what leaves the process can only be of a commit that the file
//! knows. So a database that counts less than the file was put back, and a process that is killed
//! in between leaves a file that is behind, which means nothing. A note before the commit would say
//! no more than the database itself.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, OFlags, flock};

const WORD: &str = "committed ";

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// As many commits were counted at least.
    pub committed: u64,
    /// Written by an older version, before a commit that may never have been.
    pub is_early: bool,
}

impl Beside {
    /// Whether a database that counts `here` is older than the file.
    pub const fn is_ahead_of(self, here: u64) -> bool {
        let slack = if self.is_early { 1 } else { 0 };
        self.committed > here.saturating_add(slack)
    }
}

/// The file beside `db`.
pub(crate) fn path_of(db: &Path) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push(".generation");
    name.into()
}

/// What the file beside `db` says; `None` if there is none, or it says nothing.
///
/// # Errors
/// It is there and cannot be read.
pub(crate) fn read(db: &Path) -> io::Result<Option<Beside>> {
    match fs::read(path_of(db)) {
        // What a disk has made of it says nothing.
        Ok(bytes) => Ok(parse(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> Option<Beside> {
    let text = text.trim_end();
    let late = text.strip_prefix(WORD);
    let committed = late.unwrap_or(text).parse().ok()?;
    Some(Beside { committed, is_early: late.is_none() })
}

/// The file, as the writer has it.
pub(crate) struct Count {
    path: PathBuf,
    file: Option<File>,
    /// What is on disk of it at least.
    synced: u64,
}

impl Count {
    pub(crate) fn beside(db: &Path) -> Self {
        Self { path: path_of(db), file: None, synced: 0 }
    }

    /// Notes that commits up to the `count`-th are on disk; never less than the file says already.
    ///
    /// `synced`: when this returns, that is on disk itself. Without, only the death of the whole
    /// machine loses it, and a file that is not there is not made.
    pub(crate) fn raise(&mut self, count: u64, synced: bool) -> io::Result<()> {
        if self.synced >= count {
            return Ok(());
        }
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(synced).truncate(false).mode(0o600);
            options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
            match options.open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !synced => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let Some(file) = &self.file else { return Ok(()) };
        // Another process may share the database, and have counted on.
        flock(file, FlockOperation::LockExclusive)?;
        let known = write(file, count);
        flock(file, FlockOperation::Unlock)?;
        let known = known?;
        if synced {
            // Also where it says so already: another may only have written it.
            file.sync_data()?;
            self.synced = known;
        }
        Ok(())
    }
}

/// In place and always as wide, so that no moment has less in it than a whole number; what it says then.
fn write(file: &File, count: u64) -> io::Result<u64> {
    let mut text = [0; 64];
    let length = file.read_at(&mut text, 0)?;
    let known = text.get(..length).and_then(|text| std::str::from_utf8(text).ok()).and_then(parse);
    if let Some(known) = known.filter(|known| !known.is_early && known.committed >= count) {
        return Ok(known.committed);
    }
    file.write_all_at(format!("{WORD}{count:020}\n").as_bytes(), 0)?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::{Beside, Count, parse, path_of, read};

    #[test]
    fn what_an_older_version_wrote_may_be_ahead_by_the_one_that_was_cut_off() {
        let early = parse("00000000000000000012\n").unwrap();
        assert_eq!(early, Beside { committed: 12, is_early: true });
        assert!(early.is_ahead_of(10) && !early.is_ahead_of(11) && !early.is_ahead_of(12));
        let now = parse("committed 00000000000000000012\n").unwrap();
        assert!(now.is_ahead_of(11) && !now.is_ahead_of(12) && !now.is_ahead_of(13));
        for nothing in ["", "\0\0\0", "committed", "committed x", "-1"] {
            assert_eq!(parse(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn the_count_only_goes_up_and_is_made_by_what_must_be_known() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("t.db");
        let mut one = Count::beside(&db);
        one.raise(3, false).unwrap();
        assert_eq!(read(&db).unwrap(), None);
        one.raise(3, true).unwrap();
        let mut other = Count::beside(&db);
        other.raise(5, false).unwrap();
        one.raise(4, true).unwrap();
        assert_eq!(read(&db).unwrap(), Some(Beside { committed: 5, is_early: false }));
        // An older version's file is longer lived than its form.
        std::fs::write(path_of(&db), format!("{:020}\n", 9)).unwrap();
        Count::beside(&db).raise(9, true).unwrap();
        assert_eq!(read(&db).unwrap(), Some(Beside { committed: 9, is_early: false }));
    }
}

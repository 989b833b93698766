//! Notices a database that was put back: a count of ratchet moves, also kept outside it.
//!
//! Every transaction that seals, for a group or over Olm, counts one up in the database and writes
//! the same number to `<database>.generation`. A database whose number is below the file's is an
//! older copy, and one without the file is a copy somewhere else: its own chains and sessions may
//! have been used beyond what it knows, so nothing more is sealed with them. A transaction that was
//! taken back after the file was written looks the same, and costs new ones.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

fn file_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".generation");
    name.into()
}

/// The number in the file; `None` if there is none.
pub(super) fn read(database: &Path) -> io::Result<Option<u64>> {
    match fs::read_to_string(file_of(database)) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the number in place, as wide as any: not synced, because only the death of the whole
/// machine could lose it, and the database with it.
pub(super) fn write(database: &Path, generation: u64) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(false).open(file_of(database))?;
    file.write_all(format!("{generation:020}\n").as_bytes())
}

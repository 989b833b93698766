//! Where the demo keeps what it makes, and the locks that keep two of them apart.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::progress::Progress;

/// The ignored folder `.causeway`: beside the nearest `Cargo.lock` upwards of the working
/// directory, so that tests and demo share one; else in the working directory.
///
/// # Errors
/// There is no working directory, or the folder cannot be made.
pub fn folder() -> io::Result<PathBuf> {
    let here = std::env::current_dir()?;
    let root = here.ancestors().find(|dir| dir.join("Cargo.lock").is_file()).unwrap_or(&here);
    let folder = root.join(".causeway");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A lock between processes, free again when dropped or when the process ends.
#[derive(Debug)]
pub struct FileLock(fs::File);

impl FileLock {
    /// Waits until `path` is ours; blocks the thread. Says `what` it waits for, if it has to.
    ///
    /// # Errors
    /// The file cannot be made or locked.
    pub fn take(path: &Path, progress: &Progress, what: &str) -> io::Result<Self> {
        let file = fs::File::options().create(true).truncate(false).write(true).open(path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            progress.say(&format!("waiting for another process: {what}"));
            flock(&file, FlockOperation::LockExclusive)?;
        }
        Ok(Self(file))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing frees it only when no child that was just forked has a copy of the descriptor;
        // and it does so soon enough where this fails.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// `n` random bytes in hex, for names that must be unique.
///
/// # Errors
/// The system has no randomness to give.
pub fn random_name(n: usize) -> io::Result<String> {
    let mut bytes = vec![0_u8; n];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(hex::encode(bytes))
}

/// The last 2,000 characters of a file.
pub(crate) fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let skip = text.chars().count().saturating_sub(2_000);
    text.chars().skip(skip).collect()
}

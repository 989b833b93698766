//! Where the demo keeps what it makes, and the locks that keep two of them apart.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{Access, FlockOperation, access, flock};

use super::progress::Progress;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is no working directory, so no place to look from.
    #[error("the working directory is not there any more: {0}. Go to another one")]
    Nowhere(io::Error),
    /// Not ours to write, a full disk, or a file of that name.
    #[error(
        "the folder {0} cannot be made or written to: {1}. The demo keeps in there what it makes: \
         run it in a folder that you may write to"
    )]
    Unwritable(PathBuf, io::Error),
    /// The native clients of another demo are in there.
    #[error(
        "{0} holds what an earlier demo made, which cannot be gone on with: name another folder \
         with --dir, or delete that one"
    )]
    Used(PathBuf),
}

/// The ignored folder `.causeway`: beside the nearest `Cargo.lock` upwards of the working
/// directory, so that tests and demo share one; else in the working directory.
///
/// # Errors
/// [`FolderError`]: there is no working directory, or the folder cannot be made.
pub fn folder() -> Result<PathBuf, FolderError> {
    let here = std::env::current_dir().map_err(FolderError::Nowhere)?;
    let root = here.ancestors().find(|dir| dir.join("Cargo.lock").is_file()).unwrap_or(&here);
    let folder = root.join(".causeway");
    make(&folder)?;
    Ok(folder)
}

/// The folder that a person named, made and empty of other demos; its path from the root.
///
/// # Errors
/// [`FolderError`]
pub(super) fn kept_folder(named: &Path) -> Result<PathBuf, FolderError> {
    let folder = std::path::absolute(named).map_err(FolderError::Nowhere)?;
    make(&folder)?;
    // They belong to a homeserver of another name, or have an Ann already.
    let used = ["causeway.yaml", "ann.db"].iter().any(|file| folder.join(file).exists());
    if used { Err(FolderError::Used(folder)) } else { Ok(folder) }
}

fn make(folder: &Path) -> Result<(), FolderError> {
    fs::create_dir_all(folder)
        .and_then(|()| Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?))
        .map_err(|error| FolderError::Unwritable(folder.to_path_buf(), error))
}

/// How often it is looked whether one of several locks is free.
const LOOK: Duration = Duration::from_millis(100);

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

    /// Waits until one of these is ours, and says which, by its place. Says `what` it waits for, if it has to.
    pub(super) async fn wait_for_one(
        paths: &[PathBuf],
        progress: &Progress,
        what: &str,
    ) -> io::Result<(usize, Self)> {
        let mut is_said = false;
        loop {
            for (nth, path) in paths.iter().enumerate() {
                let file =
                    fs::File::options().create(true).truncate(false).write(true).open(path)?;
                if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    return Ok((nth, Self(file)));
                }
            }
            if !std::mem::replace(&mut is_said, true) {
                progress.say(&format!("waiting for another process: {what}"));
            }
            tokio::time::sleep(LOOK).await;
        }
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

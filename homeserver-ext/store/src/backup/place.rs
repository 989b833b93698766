//! Files and folders: private from the first byte, on disk before they have their name.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, lchown},
    path::{Path, PathBuf},
};

use rustix::fs::statvfs;

use super::{At as _, BackupError, Step, Watch};
use crate::count;

/// Bytes that are copied at once.
const CHUNK: usize = 1 << 20;

/// A database's file name, and its bytes.
pub(super) type Measured<'a> = (&'a str, u64);

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// A folder for its owner alone, if it is not there.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A new file for its owner alone.
pub(super) fn make_file(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

pub(super) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// Has on disk what a file or folder is.
pub(super) fn sync(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|file| file.sync_all()).at(path)
}

/// Whether the disk says that as many bytes fit.
pub(super) fn has_room(folder: &Path, bytes: u64) -> Result<(), BackupError> {
    let free = statvfs(folder).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    if free.is_ok_and(|free| free < bytes) {
        return Err(BackupError::Full(folder.to_owned(), bytes));
    }
    Ok(())
}

/// Databases, and their logs, that stand where these are to be.
pub(super) fn in_the_way(folder: &Path, files: &[Measured<'_>]) -> Vec<PathBuf> {
    let suffixes = ["", "-wal", "-shm", "-journal"];
    let files = files.iter().map(|(name, _)| folder.join(name));
    let all = files.flat_map(|path| suffixes.map(|suffix| beside(&path, suffix)));
    all.filter(|path| path.exists()).collect()
}

/// The copy that is to be the database at `path`, until it is.
pub(super) fn part(path: &Path) -> PathBuf {
    beside(path, ".restoring")
}

/// A copy that is whole beside the place of what it is to be.
pub(super) struct Ready(Vec<(PathBuf, PathBuf)>);

/// Copies a backup's databases beside their places, for whom the folder belongs to: where they
/// cannot be given to him, nothing has been moved yet.
pub(super) fn bring(
    from: &Path,
    folder: &Path,
    files: &[Measured<'_>],
    watch: Watch<'_>,
) -> Result<Ready, BackupError> {
    has_room(folder, files.iter().map(|(_, bytes)| bytes).sum())?;
    let owner = fs::metadata(folder).at(folder)?;
    let pair = |(name, _): &Measured<'_>| {
        let path = folder.join(name);
        (part(&path), path)
    };
    let ready = Ready(files.iter().map(pair).collect());
    let copied = files.iter().zip(&ready.0).try_for_each(|(file, (part, _))| {
        if part.exists() {
            // Of a restore that was cut off.
            fs::remove_file(part).at(part)?;
        }
        copy(&from.join(file.0), part, *file, watch)?;
        give(part, &owner).at(part)
    });
    if let Err(error) = copied {
        for (part, _) in &ready.0 {
            let _ = fs::remove_file(part);
        }
        return Err(error);
    }
    Ok(ready)
}

fn copy(
    from: &Path,
    to: &Path,
    (name, whole): Measured<'_>,
    watch: Watch<'_>,
) -> Result<(), BackupError> {
    let mut read = File::open(from).at(from)?;
    let mut write = make_file(to).at(to)?;
    let (mut done, mut chunk) = (0_u64, vec![0; CHUNK]);
    loop {
        let length = read.read(&mut chunk).at(from)?;
        if length == 0 {
            break;
        }
        write.write_all(chunk.get(..length).unwrap_or_default()).at(to)?;
        done = done.saturating_add(u64::try_from(length).unwrap_or(0));
        watch(Step { doing: "putting back", name, done, whole });
    }
    write.sync_all().at(to)
}

/// Moves these files into a new folder.
pub(super) fn move_aside(files: &[PathBuf], folder: &Path) -> Result<(), BackupError> {
    if folder.exists() {
        return Err(BackupError::There(folder.to_owned()));
    }
    make_folder(folder).at(folder)?;
    for file in files {
        let Some(name) = file.file_name() else { continue };
        fs::rename(file, folder.join(name)).at(file)?;
    }
    sync(folder)
}

/// Gives the copies their names, and all that is new to whom the folder belongs.
pub(super) fn put(ready: &Ready, folder: &Path) -> Result<(), BackupError> {
    let owner = fs::metadata(folder).at(folder)?;
    for (part, path) in &ready.0 {
        fs::rename(part, path).at(path)?;
    }
    for (_, path) in &ready.0 {
        for file in [beside(path, ".lock"), count::path_of(path)] {
            give(&file, &owner).at(&file)?;
        }
    }
    sync(folder)
}

/// A link is not followed: whoever owns the folder may have laid it there.
fn give(file: &Path, owner: &fs::Metadata) -> io::Result<()> {
    match fs::symlink_metadata(file) {
        Ok(is) if (is.uid(), is.gid()) != (owner.uid(), owner.gid()) => {
            lchown(file, Some(owner.uid()), Some(owner.gid()))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

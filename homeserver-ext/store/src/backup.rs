//! Backups: databases copied as of one moment while they are in use, looked at, and put back.
//!
//! A backup is a folder: a copy of each database, whole in one file, and `manifest.json`, which says
//! what they are. Sealed rows stay sealed, and the storage key is neither read nor copied. The
//! manifest shows damage, not malice: whoever can change the copies can change it as well.
//!
//! Of several databases the first is held still for the moment in which all copying begins. Who
//! writes to it acknowledges to the others only what it has, and forgets only what they have; so the
//! copies are what would be there had its process died at that moment, and that it outlives.
//! A database after the other would not do, in either order: what passes between them meanwhile is
//! in the first no longer and in the second not yet.
//!
//! Nothing here is for a server: it waits for the disk where it stands.

mod copy;
mod manifest;
mod place;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use manifest::{Manifest, Stored};

use crate::{
    count,
    lock::{self, Held, Lock, Taken},
    migrate::Schema,
    open_error::OpenCause,
};

/// A database, by its file's name in its folder, and what this program knows of it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The file's name.
    pub name: &'a str,
    /// What is kept in it.
    pub schemas: &'a [Schema<'a>],
}

/// Who makes a backup, or has made it: of another's nothing is put back.
#[derive(Debug, Clone, Copy)]
pub struct Maker<'a> {
    /// The program.
    pub program: &'a str,
    /// Its version, for people.
    pub version: &'a str,
    /// The databases that it may have; the one whose process speaks to the others first.
    pub sources: &'a [Source<'a>],
}

/// How far something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// What is done, in a word.
    pub doing: &'static str,
    /// The database that it is done to.
    pub name: &'a str,
    /// Bytes done; 0 where nobody counts.
    pub done: u64,
    /// Bytes in all.
    pub whole: u64,
}

/// Hears how far something is, several times in a second.
pub type Watch<'a> = &'a mut dyn FnMut(Step<'_>);

/// Why there is no backup, or nothing was put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Name another place; what is there was not touched.
    #[error("{0} is there already")]
    There(PathBuf),
    /// As [`Self::There`], of a database whose place a backup was to take: or have it moved aside.
    #[error("{0} is there already")]
    InTheWay(PathBuf),
    /// Name the folder that the databases are in.
    #[error("there is no database in {0}")]
    Nothing(PathBuf),
    /// Name the folder that a backup was made in.
    #[error("{0} is not a backup: {1}")]
    NotOne(PathBuf, String),
    /// Use the program that made it: backup, its maker, this program.
    #[error("{0} is a backup of {1}, and this is {2}")]
    Others(PathBuf, String, String),
    /// Take an older backup: the file, what is wrong with it.
    #[error("{0} is damaged: {1}")]
    Damaged(PathBuf, String),
    /// Use the newer program, or wait for whoever has it open: the file, why.
    #[error("{0}: {1}")]
    Database(PathBuf, #[source] OpenCause),
    /// Make room in this folder, for as many bytes.
    #[error("there is no room in {0}: {1} bytes are needed")]
    Full(PathBuf, u64),
    /// The operating system's: the file, why.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
}

/// Names the file that an error is about.
trait At<T> {
    fn at(self, path: &Path) -> Result<T, BackupError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, BackupError> {
        self.map_err(|error| BackupError::Io(path.to_owned(), error))
    }
}

impl<T> At<T> for Result<T, OpenCause> {
    fn at(self, path: &Path) -> Result<T, BackupError> {
        self.map_err(|error| match error {
            OpenCause::Damaged(what) => BackupError::Damaged(path.to_owned(), what),
            OpenCause::Io(error) => BackupError::Io(path.to_owned(), error),
            error => BackupError::Database(path.to_owned(), error),
        })
    }
}

/// Copies those databases of `maker` that are in `folder` to the new folder `to`, which is there
/// whole or not at all. Whoever has them open goes on.
///
/// # Errors
/// [`BackupError`]; nothing is left of it.
pub async fn create(
    maker: Maker<'_>,
    folder: &Path,
    to: &Path,
    made_ms: u64,
    watch: Watch<'_>,
) -> Result<Manifest, BackupError> {
    let there = maker.sources.iter().filter(|source| folder.join(source.name).exists());
    let sources: Vec<Source<'_>> = there.copied().collect();
    if sources.is_empty() {
        return Err(BackupError::Nothing(folder.to_owned()));
    }
    // Without a slash at its end: what is beside the folder is not in it.
    let to = &*to.components().collect::<PathBuf>();
    let part = place::beside(to, ".part");
    for taken in [to, &part] {
        if taken.exists() {
            return Err(BackupError::There(taken.to_owned()));
        }
    }
    place::make_folder(&part).at(&part)?;
    let made = fill(maker, &sources, folder, &part, made_ms, watch).await;
    let named = made.and_then(|manifest| {
        place::sync(&part)?;
        fs::rename(&part, to).at(to)?;
        place::sync(place::folder_of(to))?;
        Ok(manifest)
    });
    if named.is_err() {
        // What cannot be removed is named by the next try.
        let _ = fs::remove_dir_all(&part);
    }
    named
}

async fn fill(
    maker: Maker<'_>,
    sources: &[Source<'_>],
    folder: &Path,
    part: &Path,
    made_ms: u64,
    watch: Watch<'_>,
) -> Result<Manifest, BackupError> {
    let names: Vec<&str> = sources.iter().map(|source| source.name).collect();
    copy::all(&names, folder, part, watch).await?;
    let mut files = Vec::new();
    for source in sources {
        let path = part.join(source.name);
        place::sync(&path)?;
        let found = copy::look(&path, source.schemas).await?;
        let (bytes, sha256) = manifest::hash(&path, source.name, watch)?;
        let name = source.name.to_owned();
        files.push(Stored { name, bytes, sha256, schemas: found.schemas, commits: found.commits });
    }
    let manifest = Manifest::new(maker.program, maker.version, made_ms, files);
    manifest.write(part)?;
    Ok(manifest)
}

/// Looks whether the backup `from` is whole, and of nothing that `maker` does not know.
///
/// # Errors
/// [`BackupError`]; nothing was written.
pub async fn verify(
    maker: Maker<'_>,
    from: &Path,
    watch: Watch<'_>,
) -> Result<Manifest, BackupError> {
    let manifest = Manifest::read(from, maker.program)?;
    for stored in &manifest.files {
        let source = maker.sources.iter().find(|source| source.name == stored.name);
        let source = source.ok_or_else(|| {
            BackupError::NotOne(from.to_owned(), format!("`{}` is no database's name", stored.name))
        })?;
        let path = from.join(&stored.name);
        let (bytes, sha256) = manifest::hash(&path, source.name, watch)?;
        if (bytes, &sha256) != (stored.bytes, &stored.sha256) {
            let what = "it is not what the backup's manifest says";
            return Err(BackupError::Damaged(path, what.to_owned()));
        }
        watch(Step { doing: "checking", name: source.name, done: 0, whole: bytes });
        copy::check(&path).await?;
        let found = copy::look(&path, source.schemas).await?;
        if found.commits != stored.commits {
            let what = "it has not counted the commits that the backup's manifest says";
            return Err(BackupError::Damaged(path, what.to_owned()));
        }
    }
    Ok(manifest)
}

/// Reads a whole database, every row and every index, as another process may have it open.
///
/// # Errors
/// [`BackupError`]: it cannot be read, or is damaged.
pub async fn check(path: &Path) -> Result<(), BackupError> {
    copy::check(path).await
}

/// What was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The backup, without what was not wanted of it.
    pub manifest: Manifest,
    /// The folder in which stands what was there before, where something was.
    pub aside: Option<PathBuf>,
}

/// Puts the databases of the backup `from`, or the one of them that is wanted, into `folder`, where
/// no process may have them open. With `aside`, what is there is moved to a folder in it.
///
/// The next process that opens one that counts its commits finds it older than its count.
///
/// # Errors
/// [`BackupError`]; nothing was changed, unless the disk failed at the very end.
pub async fn restore(
    maker: Maker<'_>,
    from: &Path,
    folder: &Path,
    only: Option<&str>,
    aside: Option<&str>,
    watch: Watch<'_>,
) -> Result<Restored, BackupError> {
    let mut manifest = verify(maker, from, watch).await?;
    manifest.files.retain(|stored| only.is_none_or(|name| name == stored.name));
    if manifest.files.is_empty() {
        return Err(BackupError::NotOne(from.to_owned(), "what was asked for is not in it".into()));
    }
    place::make_folder(folder).at(folder)?;
    let held: Vec<Held> = manifest
        .files
        .iter()
        .map(|stored| hold(&folder.join(&stored.name)))
        .collect::<Result<_, _>>()?;
    let files: Vec<_> = manifest.files.iter().map(|stored| (&*stored.name, stored.bytes)).collect();
    let in_the_way = place::in_the_way(folder, &files);
    let aside = match (&in_the_way[..], aside) {
        ([], _) => None,
        ([first, ..], None) => return Err(BackupError::InTheWay(first.clone())),
        (_, Some(name)) => Some(folder.join(name)),
    };
    let ready = place::bring(from, folder, &files, watch)?;
    if let Some(aside) = &aside {
        place::move_aside(&in_the_way, aside)?;
    }
    for stored in &manifest.files {
        let path = folder.join(&stored.name);
        if let Some(commits) = stored.commits {
            let beside = count::read(&path).at(&path)?.map_or(0, |beside| beside.committed);
            let count = beside.max(commits).saturating_add(1);
            count::Count::beside(&path).raise(count, true).at(&path)?;
        }
    }
    place::put(&ready, folder)?;
    held.into_iter().for_each(Held::release);
    Ok(Restored { manifest, aside })
}

/// Whether no copy stands beside the place of the database at `path`, on its way there: a restore ends
/// with none.
pub(crate) fn is_whole(path: &Path) -> Result<(), OpenCause> {
    let part = place::part(path);
    if part.symlink_metadata().is_ok() { Err(OpenCause::Restoring(part)) } else { Ok(()) }
}

fn hold(path: &Path) -> Result<Held, BackupError> {
    match lock::take(path, Lock::Exclusive).at(path)? {
        Taken::Ours(mut held) => {
            held.name().at(path)?;
            Ok(held)
        }
        Taken::Theirs(holder) => {
            Err(BackupError::Database(path.to_owned(), OpenCause::Held(holder)))
        }
    }
}

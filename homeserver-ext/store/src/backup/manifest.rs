//! `manifest.json`: what a backup is, and what its files must be.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{At as _, BackupError, Step, Watch, place};
use crate::small_file::{self, ReadError};

const FILE: &str = "manifest.json";
const FORMAT: u32 = 1;
/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// What a backup is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this file: 1.
    pub format: u32,
    /// Who made it.
    pub program: String,
    /// The version of who made it.
    pub version: String,
    /// When, Unix milliseconds.
    pub made_ms: u64,
    /// The databases.
    pub files: Vec<Stored>,
}

/// One database of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its file's name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// The version of each of its schemas.
    pub schemas: BTreeMap<String, i64>,
    /// How many commits it had counted, if it counts them.
    pub commits: Option<u64>,
}

impl Manifest {
    pub(super) fn new(program: &str, version: &str, made_ms: u64, files: Vec<Stored>) -> Self {
        let (program, version) = (program.to_owned(), version.to_owned());
        Self { format: FORMAT, program, version, made_ms, files }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), BackupError> {
        let path = folder.join(FILE);
        let json = serde_json::to_vec_pretty(self).map_err(io::Error::from).at(&path)?;
        let mut file = place::make_file(&path).at(&path)?;
        file.write_all(&json).and_then(|()| file.write_all(b"\n")).at(&path)?;
        file.sync_all().at(&path)
    }

    pub(super) fn read(folder: &Path, program: &str) -> Result<Self, BackupError> {
        let none = |why: String| BackupError::NotOne(folder.to_owned(), why);
        let path = folder.join(FILE);
        let text = small_file::read(&path).map_err(|error| match error {
            ReadError::Missing | ReadError::InFile => none(format!("there is no {FILE} in it")),
            ReadError::Denied => {
                BackupError::Io(path.clone(), io::ErrorKind::PermissionDenied.into())
            }
            ReadError::Io(error) => BackupError::Io(path.clone(), error),
            error => none(format!("of its {FILE}: {error}")),
        })?;
        // First of all the number: what else a later form says is not known here.
        let json: serde_json::Value = serde_json::from_slice(&text)
            .map_err(|error| none(format!("its {FILE} cannot be read: {error}")))?;
        let format = json.get("format").and_then(serde_json::Value::as_u64);
        if format.is_none() {
            return Err(none(format!("its {FILE} does not say of which form it is")));
        }
        if format != Some(FORMAT.into()) {
            return Err(none(format!(
                "its {FILE} is not of form {FORMAT}, but of a newer program"
            )));
        }
        let manifest: Self = serde_json::from_value(json)
            .map_err(|error| none(format!("its {FILE} cannot be read: {error}")))?;
        if manifest.program != program {
            let made_by = manifest.program;
            return Err(BackupError::Others(folder.to_owned(), made_by, program.to_owned()));
        }
        Ok(manifest)
    }
}

/// Size and SHA-256 of a file.
pub(super) fn hash(
    path: &PathBuf,
    name: &str,
    watch: Watch<'_>,
) -> Result<(u64, String), BackupError> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::Damaged(path.clone(), "it is missing".to_owned()));
        }
        opened => opened.at(path)?,
    };
    let whole = file.metadata().at(path)?.len();
    let (mut sha256, mut bytes, mut chunk) = (Sha256::new(), 0_u64, vec![0; CHUNK]);
    loop {
        let length = file.read(&mut chunk).at(path)?;
        if length == 0 {
            break;
        }
        sha256.update(chunk.get(..length).unwrap_or_default());
        bytes = bytes.saturating_add(u64::try_from(length).unwrap_or(0));
        watch(Step { doing: "reading", name, done: bytes, whole });
    }
    Ok((bytes, format!("{:x}", sha256.finalize())))
}

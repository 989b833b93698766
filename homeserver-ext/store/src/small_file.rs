//! A small file that somebody else wrote: a configuration, a registration, a key, a token.
//!
//! Only a regular file is read, and only so much of it: a pipe would be waited for, and a device has
//! no end.

use std::{
    fs::{self, File, FileType},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Most that one holds, bytes.
pub const MAX_BYTES: u64 = 1024 * 1024;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Whoever asked knows where it comes from.
    #[error("there is no such file")]
    Missing,
    /// A file, where a folder belongs.
    #[error("what it is to be in is no folder")]
    InFile,
    /// Somebody else's, or in a folder of somebody else.
    #[error("Permission denied")]
    Denied,
    /// A folder, where a file belongs.
    #[error("it is a folder")]
    Folder,
    /// What else it is.
    #[error("it is {0}, and no regular file")]
    Special(&'static str),
    /// Longer than [`MAX_BYTES`].
    #[error("it is longer than {} KiB", MAX_BYTES >> 10)]
    TooLong,
    /// The line in which it is no text.
    #[error("line {0} is not UTF-8 text")]
    NotText(usize),
    /// What else the system says.
    #[error(transparent)]
    Io(io::Error),
}

impl ReadError {
    /// What to do about it; where the file is missing, only whoever asked for it knows.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Missing => None,
            Self::InFile => Some("move that away, or name another folder"),
            Self::Denied => Some("run this as the user that Causeway runs as"),
            Self::Folder | Self::Special(_) | Self::TooLong => Some("put the right file there"),
            Self::NotText(_) => Some("save it as UTF-8"),
            Self::Io(_) => Some("see to it that the system can read it"),
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::NotADirectory => Self::InFile,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Io(error),
        }
    }
}

/// Reads all of it.
///
/// # Errors
/// [`ReadError`]; never [`ReadError::NotText`].
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    // Before it is opened, too: opening a device may do something.
    regular(fs::metadata(path)?.file_type())?;
    // What has become a pipe since is not waited for.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    regular(meta.file_type())?;
    if meta.len() > MAX_BYTES {
        return Err(ReadError::TooLong);
    }
    // Room for all of it: what grows leaves copies behind.
    let room = usize::try_from(meta.len()).unwrap_or(0).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    // A file of `/proc` has no length, and more than that may be there by now.
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_BYTES) {
        return Err(ReadError::TooLong);
    }
    Ok(bytes)
}

/// Reads all of it, as text.
///
/// # Errors
/// [`ReadError`]
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, ReadError> {
    let mut bytes = read(path)?;
    String::from_utf8(std::mem::take(&mut *bytes)).map(Zeroizing::new).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let bytes = Zeroizing::new(error.into_bytes());
        let lines = bytes.iter().take(valid).filter(|byte| **byte == b'\n').count();
        ReadError::NotText(lines + 1)
    })
}

fn regular(kind: FileType) -> Result<(), ReadError> {
    if kind.is_file() {
        Ok(())
    } else if kind.is_dir() {
        Err(ReadError::Folder)
    } else if kind.is_fifo() {
        Err(ReadError::Special("a pipe"))
    } else if kind.is_socket() {
        Err(ReadError::Special("a socket"))
    } else {
        Err(ReadError::Special("a device"))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{MAX_BYTES, ReadError, read, read_text};

    fn why<T: std::fmt::Debug>(read: Result<T, ReadError>) -> String {
        read.unwrap_err().to_string()
    }

    #[test]
    fn a_regular_file_is_read_whole_if_it_is_small() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let most = usize::try_from(MAX_BYTES).unwrap();
        for length in [0, 1, 32, most] {
            fs::write(&path, vec![7; length]).unwrap();
            assert_eq!(read(&path).unwrap().len(), length);
        }
        fs::write(&path, vec![7; most + 1]).unwrap();
        assert_eq!(why(read(&path)), "it is longer than 1024 KiB");
        fs::write(&path, "é\n").unwrap();
        assert_eq!(*read_text(&path).unwrap(), "é\n");
        fs::write(&path, b"a\nb\n\xff\n").unwrap();
        assert_eq!(why(read_text(&path)), "line 3 is not UTF-8 text");
    }

    #[test]
    fn what_is_no_file_is_called_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (file, pipe) = (folder.path().join("file"), folder.path().join("pipe"));
        fs::write(&file, "x").unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let socket = folder.path().join("socket");
        let _listens = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, said) in [
            (&*folder.path().join("nowhere"), "there is no such file"),
            (&*file.join("below"), "what it is to be in is no folder"),
            (folder.path(), "it is a folder"),
            (&*pipe, "it is a pipe, and no regular file"),
            (&*socket, "it is a socket, and no regular file"),
            (Path::new("/dev/zero"), "it is a device, and no regular file"),
        ] {
            assert_eq!(why(read(path)), said, "{}", path.display());
        }
    }
}

//! First set-up: the configuration, the registration, and the keys and tokens in files of their
//! own. What is there already stays as it is, so running it twice changes nothing.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use causeway_store::small_file::{self, ReadError};

use crate::{
    config::Config,
    registration::{Registration, RegistrationError, Tokens},
    secret::Secret,
};

/// Seals what is kept in the databases; 32 bytes.
pub const STORAGE_KEY: &str = "storage.key";
/// Opens the admin API.
pub const ADMIN_TOKEN: &str = "admin.token";
/// Lets people register native accounts.
pub const REGISTRATION_TOKEN: &str = "registration.token";
/// Lets the bridge register its own native account, and nobody any other.
pub const BRIDGE_TOKEN: &str = "bridge-registration.token";

/// Opens the native server's door between servers, to the Matrix side alone.
pub const RELAY_TOKEN: &str = "relay.token";

/// Why something was not made, or not read.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// It cannot be made: the file, and what the system says.
    #[error("{0} cannot be made: {1}")]
    File(PathBuf, io::Error),
    /// A pipe, a folder or a device where a file belongs.
    #[error("{} cannot be kept: {}; move it away and run `causeway init` again", .0.display(), .1)]
    NotKept(PathBuf, ReadError),
    /// A file where the folder of keys, tokens and databases belongs.
    #[error(
        "{} is no folder, and data_dir belongs in one: move that file away, or name another folder \
         (`causeway init --data-dir FOLDER`, or `data_dir` in the configuration)",
        .0.display()
    )]
    NoFolder(PathBuf),
    /// It cannot be read: likewise.
    #[error("{} cannot be read: {}; {}", .0.display(), .1, remedy(.1))]
    Unread(PathBuf, ReadError),
    /// Nothing to make keys from.
    #[error("no randomness: {0}")]
    Entropy(#[from] getrandom::Error),
    /// The registration cannot be written.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// A value that YAML cannot hold.
    #[error("the configuration cannot be written: {0}")]
    Config(String),
    /// The storage key is not one; its bytes.
    #[error("{0} has {1} bytes; a storage key has 32. Put the right one back")]
    NoKey(PathBuf, usize),
    /// The token file is empty, or what is in it is not one line.
    #[error("{0} holds no token, on one line; remove it and run `causeway init` again")]
    NoToken(PathBuf),
}

/// What to do about a key or a token that cannot be read.
fn remedy(error: &ReadError) -> &'static str {
    error.remedy().unwrap_or(
        "put it back from where you keep it; where there never was one, `causeway init` makes it",
    )
}

/// A file, and whether it was made now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Which.
    pub path: PathBuf,
    /// False: it was there, and stays.
    pub made: bool,
}

/// Writes what is missing. Paths in `config` are as the file at `config_file` has them.
///
/// # Errors
/// [`InitError`]; what was written before stays, and running it again goes on.
pub fn init(config_file: &Path, config: &Config) -> Result<Vec<Written>, InitError> {
    let folder = config_file.parent().unwrap_or(Path::new(""));
    let data_dir = folder.join(&config.data_dir.0);
    make_private_folder(&data_dir)?;
    let text = format!(
        "# Every key, with its default: `causeway config schema`; what is in force: `causeway \
         config dump`.\n{}",
        serde_saphyr::to_string(config).map_err(|error| InitError::Config(error.to_string()))?
    );
    let registration = Registration::new(
        &config.homeserver.server_name,
        &config.appservice.address,
        Tokens::random()?,
    );
    let mut key = zeroize::Zeroizing::new([0_u8; 32]);
    getrandom::fill(key.as_mut_slice())?;
    let mut written = vec![
        write_new(config_file, 0o600, text.as_bytes())?,
        write_new(
            &folder.join(&config.appservice.registration),
            0o600,
            registration.to_yaml()?.as_bytes(),
        )?,
        write_new(&data_dir.join(STORAGE_KEY), 0o600, key.as_slice())?,
    ];
    for name in [ADMIN_TOKEN, REGISTRATION_TOKEN, BRIDGE_TOKEN, RELAY_TOKEN] {
        let token = zeroize::Zeroizing::new(format!("{}\n", Secret::random()?.expose()));
        written.push(write_new(&data_dir.join(name), 0o600, token.as_bytes())?);
    }
    Ok(written)
}

/// Reads a token that [`init`] wrote.
///
/// # Errors
/// [`InitError::Unread`], [`InitError::NoToken`].
pub fn read_token(path: &Path) -> Result<Secret, InitError> {
    let text = small_file::read_text(path).map_err(|error| match error {
        // A token is never saved as anything else: whatever it is, it is none.
        ReadError::NotText(_) => InitError::NoToken(path.to_path_buf()),
        error => InitError::Unread(path.to_path_buf(), error),
    })?;
    match text.trim() {
        "" => Err(InitError::NoToken(path.to_path_buf())),
        // Nobody types the second line, nor what some editors write before the first.
        token if token.contains(|c: char| c.is_control() || c == '\u{feff}') => {
            Err(InitError::NoToken(path.to_path_buf()))
        }
        token => Ok(Secret::new(token)),
    }
}

/// Looks whether the key and the tokens that [`init`] wrote are there, and can be read.
///
/// # Errors
/// [`InitError`], for the first that is not.
pub fn check_files(config: &Config) -> Result<(), InitError> {
    check_key(&config.data_file(STORAGE_KEY))?;
    for name in [ADMIN_TOKEN, REGISTRATION_TOKEN, BRIDGE_TOKEN] {
        read_token(&config.data_file(name))?;
    }
    Ok(())
}

/// Looks whether a storage key can be read, and is one.
///
/// # Errors
/// [`InitError::Unread`], [`InitError::NoKey`].
pub fn check_key(path: &Path) -> Result<(), InitError> {
    let key =
        small_file::read(path).map_err(|error| InitError::Unread(path.to_path_buf(), error))?;
    match key.len() {
        32 => Ok(()),
        other => Err(InitError::NoKey(path.to_path_buf(), other)),
    }
}

/// A folder that only its owner may enter.
fn make_private_folder(path: &Path) -> Result<(), InitError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                InitError::NoFolder(path.to_path_buf())
            }
            _ => InitError::File(path.to_path_buf(), error),
        }
    })
}

/// Writes a file that was not there; whole or not at all, also when the machine stops meanwhile.
fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<Written, InitError> {
    if path.exists() {
        // Not what it says: a file that nobody may read is kept as well.
        if let Err(error @ (ReadError::Folder | ReadError::Special(_))) = small_file::read(path) {
            return Err(InitError::NotKept(path.to_path_buf(), error));
        }
        return Ok(Written { path: path.to_path_buf(), made: false });
    }
    write(path, mode, bytes)?;
    Ok(Written { path: path.to_path_buf(), made: true })
}

/// Writes a file that only its owner may read, in place of the one that was there.
///
/// # Errors
/// [`InitError::File`]; the former one is still there.
pub fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), InitError> {
    write(path, 0o600, bytes)
}

fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), InitError> {
    let failed = |error| InitError::File(path.to_path_buf(), error);
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // What a killed process left may have another mode.
    if new.exists() {
        fs::remove_file(&new).map_err(failed)?;
    }
    let mut file =
        File::options().write(true).create_new(true).mode(mode).open(&new).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path};

    use super::{ADMIN_TOKEN, BRIDGE_TOKEN, REGISTRATION_TOKEN, STORAGE_KEY, init, read_token};
    use crate::{config, config::Config, registration::Registration};

    #[test]
    fn init_writes_private_files_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("causeway.yaml");
        let mut config = Config::default();
        config.homeserver.server_name = "example.org".to_owned();
        let first = init(&file, &config).unwrap();
        assert!(first.iter().all(|written| written.made), "{first:?}");
        let contents = || {
            first.iter().map(|written| fs::read(&written.path).unwrap()).collect::<BTreeSet<_>>()
        };
        let before = contents();
        assert_eq!(before.len(), 7, "each secret is its own");
        let second = init(&file, &config).unwrap();
        assert!(second.iter().all(|written| !written.made), "{second:?}");
        assert_eq!(contents(), before);

        let loaded = config::load(&file, &[]).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for name in [STORAGE_KEY, ADMIN_TOKEN, REGISTRATION_TOKEN, BRIDGE_TOKEN] {
            assert_eq!(mode(&loaded.data_file(name)), 0o600, "{name}");
        }
        assert_eq!(mode(&loaded.appservice.registration), 0o600);
        assert_eq!(mode(&loaded.data_dir.0), 0o700);
        assert_eq!(read_token(&loaded.data_file(ADMIN_TOKEN)).unwrap().expose().len(), 64);
        let registration = fs::read_to_string(&loaded.appservice.registration).unwrap();
        Registration::from_yaml(&registration).unwrap();
        loaded.registration().unwrap();

        let token = dir.path().join("data").join(ADMIN_TOKEN);
        let right = fs::read(&token).unwrap();
        fs::write(&token, [0xff, 0xfe, 7]).unwrap();
        let error = read_token(&token).unwrap_err().to_string();
        assert!(
            error.ends_with("holds no token, on one line; remove it and run `causeway init` again")
        );
        fs::remove_file(&token).unwrap();
        fs::create_dir(&token).unwrap();
        let error = init(&file, &config).unwrap_err().to_string();
        assert!(error.contains("admin.token cannot be kept: it is a folder; move it"), "{error}");
        fs::remove_dir(&token).unwrap();
        fs::write(&token, right).unwrap();
        config.data_dir.0 = "causeway.yaml".into();
        let error = init(&file, &config).unwrap_err().to_string();
        assert!(error.contains("causeway.yaml is no folder, and data_dir belongs"), "{error}");
    }
}

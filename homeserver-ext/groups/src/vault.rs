//! What is secret at rest: one storage key, a data key for each class, every row sealed.
//!
//! The storage key is a file of 32 bytes beside the database, never in it; it wraps the data keys
//! of table `data_keys`. A record is bound to its place, so rows cannot be swapped:
//! ```text
//! record = version 1 │ key_id 4 │ nonce 24 │ ciphertext │ tag 16      XChaCha20-Poly1305
//! AAD    = version │ str8 table │ str8 column │ be16 len │ primary key │ key_id
//! ```
//! Metadata (who is in which group, sizes, times) stays readable: `docs/security.md`.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use causeway_store::small_file::{self, ReadError};
use chacha20poly1305::{
    XChaCha20Poly1305,
    aead::{AeadInPlace, KeyInit},
};
use zeroize::Zeroizing;

use crate::entropy::{self, NoEntropy};

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// Key id of the storage key itself.
const STORAGE_KEY: u32 = 0;

/// What a sealed row holds; each class has its own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Private halves that sign.
    Signing,
    /// Ratchets and sessions.
    Ratchet,
    /// Text that waits to be sent, shown or bridged.
    Content,
}

const CLASSES: [Class; 3] = [Class::Signing, Class::Ratchet, Class::Content];

impl Class {
    const fn number(self) -> u8 {
        match self {
            Self::Signing => 1,
            Self::Ratchet => 2,
            Self::Content => 3,
        }
    }
}

/// Why the vault stays shut, or a record does.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The database was sealed under a storage key that is not there; nothing was written.
    #[error("the storage key {0} is missing; without it this database cannot be read")]
    MissingKey(PathBuf),
    /// The database was sealed under another storage key; nothing was written.
    #[error("{0} is not the storage key of this database")]
    WrongKey(PathBuf),
    /// Path, and bytes in it.
    #[error("the storage key {0} must be 32 bytes, it has {1}")]
    KeyLength(PathBuf, usize),
    /// The key file cannot be read or made.
    #[error("the storage key {0} cannot be read or made: {1}")]
    KeyFile(PathBuf, ReadError),
    /// Table and column of a record that is damaged, or not from this place.
    #[error("a sealed record of {0}.{1} does not open")]
    Altered(&'static str, &'static str),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The database's.
    #[error(transparent)]
    Store(#[from] causeway_store::Error),
}

/// A data key as the storage key has wrapped it: one row.
pub(crate) struct WrappedKey {
    pub(crate) id: u32,
    pub(crate) class: u8,
    pub(crate) wrapped: Vec<u8>,
}

struct DataKey {
    id: u32,
    class: u8,
    key: Zeroizing<[u8; 32]>,
}

/// The open vault; cloning shares it.
#[derive(Clone)]
pub struct Vault(Arc<Open>);

struct Open {
    keys: Vec<DataKey>,
}

impl Vault {
    /// The vault whose keys the storage key in `key_file` has wrapped.
    ///
    /// # Errors
    /// [`VaultError::MissingKey`], [`VaultError::WrongKey`], [`VaultError::KeyLength`],
    /// [`VaultError::KeyFile`].
    pub(crate) fn unlock(wrapped: Vec<WrappedKey>, key_file: &Path) -> Result<Self, VaultError> {
        let storage_key = read_key(key_file)?;
        let keys = wrapped.into_iter().map(|WrappedKey { id, class, wrapped }| {
            let key = open_record(&storage_key, &wrapped_aad(id, class), &wrapped)
                .and_then(|key| <[u8; 32]>::try_from(key.as_slice()).ok())
                .ok_or_else(|| VaultError::WrongKey(key_file.to_owned()))?;
            Ok(DataKey { id, class, key: Zeroizing::new(key) })
        });
        let keys = keys.collect::<Result<_, VaultError>>()?;
        Ok(Self(Arc::new(Open { keys })))
    }

    /// A new vault, and its keys as they are to be kept; makes the key file unless it is there.
    ///
    /// # Errors
    /// [`VaultError::KeyLength`], [`VaultError::KeyFile`], [`VaultError::Entropy`].
    pub(crate) fn make(key_file: &Path) -> Result<(Self, Vec<WrappedKey>), VaultError> {
        let storage_key = match read_key(key_file) {
            Err(VaultError::MissingKey(_)) => make_key(key_file)?,
            found => found?,
        };
        let (mut keys, mut rows) = (Vec::new(), Vec::new());
        for (id, class) in (1..).zip(CLASSES) {
            let (key, class) = (entropy::secret()?, class.number());
            let wrapped = seal_record(&storage_key, STORAGE_KEY, &wrapped_aad(id, class), &*key)?
                .ok_or(VaultError::Altered("data_keys", "wrapped"))?;
            rows.push(WrappedKey { id, class, wrapped });
            keys.push(DataKey { id, class, key });
        }
        Ok((Self(Arc::new(Open { keys })), rows))
    }

    /// Seals `bytes` for one place: 45 bytes more, of which the nonce is random.
    ///
    /// # Errors
    /// [`VaultError::Entropy`].
    pub fn seal(
        &self,
        class: Class,
        table: &'static str,
        column: &'static str,
        primary_key: &[u8],
        bytes: &[u8],
    ) -> Result<Vec<u8>, VaultError> {
        let altered = || VaultError::Altered(table, column);
        // The newest key of the class seals; older ones only open.
        let key = self.0.keys.iter().rev().find(|key| key.class == class.number());
        let key = key.ok_or_else(altered)?;
        let aad = aad(table, column, primary_key, key.id);
        seal_record(&key.key, key.id, &aad, bytes)?.ok_or_else(altered)
    }

    /// Opens a record of [`Self::seal`] at its place.
    ///
    /// # Errors
    /// [`VaultError::Altered`] if it was made for another place, or is damaged.
    pub fn unseal(
        &self,
        class: Class,
        table: &'static str,
        column: &'static str,
        primary_key: &[u8],
        record: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let open = || {
            let (_, rest) = record.split_first()?;
            let id = u32::from_be_bytes(*rest.first_chunk()?);
            let key = self.0.keys.iter().find(|key| key.id == id && key.class == class.number())?;
            open_record(&key.key, &aad(table, column, primary_key, id), record)
        };
        open().ok_or(VaultError::Altered(table, column))
    }
}

fn wrapped_aad(id: u32, class: u8) -> Vec<u8> {
    aad("data_keys", "wrapped", &[&id.to_be_bytes()[..], &[class]].concat(), STORAGE_KEY)
}

fn aad(table: &str, column: &str, primary_key: &[u8], key_id: u32) -> Vec<u8> {
    let mut aad = Vec::with_capacity(9 + table.len() + column.len() + primary_key.len());
    aad.push(VERSION);
    for name in [table, column] {
        // Names in our own code are short.
        aad.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        aad.extend_from_slice(name.as_bytes());
    }
    aad.extend_from_slice(&u16::try_from(primary_key.len()).unwrap_or(u16::MAX).to_be_bytes());
    aad.extend_from_slice(primary_key);
    aad.extend_from_slice(&key_id.to_be_bytes());
    aad
}

fn seal_record(
    key: &[u8; 32],
    key_id: u32,
    aad: &[u8],
    bytes: &[u8],
) -> Result<Option<Vec<u8>>, NoEntropy> {
    let nonce = entropy::bytes::<NONCE_BYTES>()?;
    let mut record = Vec::with_capacity(1 + 4 + NONCE_BYTES + bytes.len() + TAG_BYTES);
    record.push(VERSION);
    record.extend_from_slice(&key_id.to_be_bytes());
    record.extend_from_slice(&nonce);
    let header = record.len();
    record.extend_from_slice(bytes);
    let (_, text) = record.split_at_mut(header);
    let cipher = XChaCha20Poly1305::new(key.into());
    let Ok(tag) = cipher.encrypt_in_place_detached(&nonce.into(), aad, text) else {
        return Ok(None);
    };
    record.extend_from_slice(&tag);
    Ok(Some(record))
}

fn open_record(key: &[u8; 32], aad: &[u8], record: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (&[VERSION, _, _, _, _], rest) = record.split_first_chunk()? else { return None };
    let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>()?;
    let (text, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
    let mut text = Zeroizing::new(text.to_vec());
    XChaCha20Poly1305::new(key.into())
        .decrypt_in_place_detached(nonce.into(), aad, &mut text, tag.into())
        .ok()?;
    Some(text)
}

fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, VaultError> {
    let bytes = small_file::read(path).map_err(|error| match error {
        ReadError::Missing => VaultError::MissingKey(path.to_owned()),
        error => VaultError::KeyFile(path.to_owned(), error),
    })?;
    <[u8; 32]>::try_from(bytes.as_slice())
        .map(Zeroizing::new)
        .map_err(|_| VaultError::KeyLength(path.to_owned(), bytes.len()))
}

/// Writes a new key, on disk before it is used: under another name first, so that a kill never
/// leaves a half-written one.
fn make_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, VaultError> {
    let key = entropy::secret()?;
    let write = || {
        let draft = path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(key.as_slice())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error: io::Error| VaultError::KeyFile(path.to_owned(), error.into()))?;
    tracing::warn!(path = %path.display(), "made a new storage key; keep a copy, apart from the database");
    Ok(key)
}

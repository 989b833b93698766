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
    fs, io,
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use causeway_store::{Conn, Db, Row, Tx};
use chacha20poly1305::{
    XChaCha20Poly1305,
    aead::{AeadInPlace, KeyInit},
};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, sqlite::SqliteConnectOptions};
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
    #[error("the storage key {0}")]
    KeyFile(PathBuf, #[source] io::Error),
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
    database: PathBuf,
}

impl Vault {
    /// Opens the vault of `db`, whose schema is [`crate::SCHEMA`].
    ///
    /// The first start makes the key file (mode 0600) unless it is there, and the data keys.
    ///
    /// # Errors
    /// See [`VaultError`]; with a missing or wrong key nothing was written.
    pub async fn open(db: &Db, key_file: &Path) -> Result<Self, VaultError> {
        let rows = data_keys(db.read().await?.conn()).await?;
        if !rows.is_empty() {
            return Self::unwrap_all(rows, key_file, db);
        }
        let mut tx = db.begin().await?;
        let rows = data_keys(tx.conn()).await?;
        if !rows.is_empty() {
            // Another process was quicker.
            drop(tx);
            return Self::unwrap_all(rows, key_file, db);
        }
        let storage_key = match read_key(key_file) {
            Err(VaultError::MissingKey(_)) => make_key(key_file)?,
            found => found?,
        };
        let mut keys = Vec::new();
        for (id, class) in (1..).zip(CLASSES) {
            let key = entropy::secret()?;
            insert_data_key(&mut tx, &storage_key, id, class, &key).await?;
            keys.push(DataKey { id, class: class.number(), key });
        }
        tx.commit().await?;
        Ok(Self(Arc::new(Open { keys, database: db.path().to_owned() })))
    }

    /// Whether `key_file` opens the vault of this database, if it has one yet: to be asked before
    /// the database is opened, which may bring its tables up to date. Writes nothing.
    ///
    /// # Errors
    /// [`VaultError::MissingKey`], [`VaultError::WrongKey`], [`VaultError::KeyLength`],
    /// [`VaultError::KeyFile`].
    pub async fn check(database: &Path, key_file: &Path) -> Result<(), VaultError> {
        if fs::metadata(database).map_or(true, |file| file.len() == 0) {
            return Ok(());
        }
        let options = SqliteConnectOptions::new().filename(database).read_only(true);
        let rows = async {
            let store = causeway_store::Error::from;
            let mut conn = options.disable_statement_logging().connect().await.map_err(store)?;
            let rows = data_keys(&mut conn).await;
            conn.close().await.map_err(store)?;
            rows
        };
        match rows.await {
            Ok(rows) if !rows.is_empty() => unwrap_keys(rows, key_file).map(drop),
            // There is nothing to open yet; or what is wrong is said when the database is opened.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn unwrap_all(rows: Vec<WrappedKey>, key_file: &Path, db: &Db) -> Result<Self, VaultError> {
        let keys = unwrap_keys(rows, key_file)?;
        Ok(Self(Arc::new(Open { keys, database: db.path().to_owned() })))
    }

    /// The database that this is the vault of.
    pub(crate) fn database(&self) -> &Path {
        &self.0.database
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

fn unwrap_keys(rows: Vec<WrappedKey>, key_file: &Path) -> Result<Vec<DataKey>, VaultError> {
    let storage_key = read_key(key_file)?;
    let keys = rows.into_iter().map(|WrappedKey { id, class, wrapped }| {
        let place = [&id.to_be_bytes()[..], &[class]].concat();
        let aad = aad("data_keys", "wrapped", &place, STORAGE_KEY);
        let key = open_record(&storage_key, &aad, &wrapped)
            .and_then(|key| <[u8; 32]>::try_from(key.as_slice()).ok())
            .ok_or_else(|| VaultError::WrongKey(key_file.to_owned()))?;
        Ok(DataKey { id, class, key: Zeroizing::new(key) })
    });
    keys.collect()
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
    let mut bytes = Zeroizing::new(Vec::with_capacity(64));
    match fs::File::open(path).and_then(|file| file.take(64).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(VaultError::MissingKey(path.to_owned()));
        }
        Err(error) => return Err(VaultError::KeyFile(path.to_owned(), error)),
    }
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
    write().map_err(|error| VaultError::KeyFile(path.to_owned(), error))?;
    tracing::warn!(path = %path.display(), "made a new storage key; keep a copy, apart from the database");
    Ok(key)
}

struct WrappedKey {
    id: u32,
    class: u8,
    wrapped: Vec<u8>,
}

async fn data_keys(conn: &mut Conn) -> Result<Vec<WrappedKey>, VaultError> {
    let rows = sqlx::query("SELECT key_id, class, wrapped FROM data_keys ORDER BY key_id")
        .fetch_all(conn)
        .await
        .map_err(causeway_store::Error::from)?;
    let row = |row: Row| {
        Ok(WrappedKey { id: row.try_get(0)?, class: row.try_get(1)?, wrapped: row.try_get(2)? })
    };
    let keys: Result<_, sqlx::Error> = rows.into_iter().map(row).collect();
    Ok(keys.map_err(causeway_store::Error::from)?)
}

async fn insert_data_key(
    tx: &mut Tx,
    storage_key: &[u8; 32],
    id: u32,
    class: Class,
    key: &[u8; 32],
) -> Result<(), VaultError> {
    let place = [&id.to_be_bytes()[..], &[class.number()]].concat();
    let aad = aad("data_keys", "wrapped", &place, STORAGE_KEY);
    let wrapped = seal_record(storage_key, STORAGE_KEY, &aad, key)?
        .ok_or(VaultError::Altered("data_keys", "wrapped"))?;
    sqlx::query("INSERT INTO data_keys (key_id, class, wrapped) VALUES ($1, $2, $3)")
        .bind(id)
        .bind(class.number())
        .bind(wrapped)
        .execute(tx.conn())
        .await
        .map_err(causeway_store::Error::from)?;
    Ok(())
}

//! The vault's data keys as the storage key wraps them, and the vault that they open.

use std::{fs, path::Path};

use causeway_store::{Conn, Db, Row};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, sqlite::SqliteConnectOptions};

use crate::vault::{Vault, VaultError, WrappedKey};

impl Vault {
    /// Opens the vault of `db`, whose schema is [`crate::SCHEMA`].
    ///
    /// The first start makes the key file (mode 0600) unless it is there, and the data keys.
    ///
    /// # Errors
    /// See [`VaultError`]; with a missing or wrong key nothing was written.
    pub async fn open(db: &Db, key_file: &Path) -> Result<Self, VaultError> {
        let wrapped = all(db.read().await?.conn()).await?;
        if !wrapped.is_empty() {
            return Self::unlock(wrapped, key_file);
        }
        let mut tx = db.begin().await?;
        let wrapped = all(tx.conn()).await?;
        if !wrapped.is_empty() {
            // Another process was quicker.
            drop(tx);
            return Self::unlock(wrapped, key_file);
        }
        let (vault, wrapped) = Self::make(key_file)?;
        for key in &wrapped {
            insert(tx.conn(), key).await?;
        }
        tx.commit().await?;
        Ok(vault)
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
        let wrapped = async {
            let store = causeway_store::Error::from;
            let mut conn = options.disable_statement_logging().connect().await.map_err(store)?;
            let wrapped = all(&mut conn).await;
            conn.close().await.map_err(store)?;
            wrapped
        };
        match wrapped.await {
            Ok(wrapped) if !wrapped.is_empty() => Self::unlock(wrapped, key_file).map(drop),
            // There is nothing to open yet; or what is wrong is said when the database is opened.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

async fn all(conn: &mut Conn) -> Result<Vec<WrappedKey>, causeway_store::Error> {
    let rows = sqlx::query("SELECT key_id, class, wrapped FROM data_keys ORDER BY key_id")
        .fetch_all(conn)
        .await?;
    let key = |row: Row| {
        Ok(WrappedKey { id: row.try_get(0)?, class: row.try_get(1)?, wrapped: row.try_get(2)? })
    };
    Ok(rows.into_iter().map(key).collect::<Result<_, sqlx::Error>>()?)
}

async fn insert(conn: &mut Conn, key: &WrappedKey) -> Result<(), causeway_store::Error> {
    sqlx::query("INSERT INTO data_keys (key_id, class, wrapped) VALUES ($1, $2, $3)")
        .bind(i64::from(key.id))
        .bind(i64::from(key.class))
        .bind(key.wrapped.as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

//! Migrations: embedded, forward only, one commit each.
//!
//! Several schemas may live in one file (the bridge's rows beside its client machine's), so the
//! version table says which schema a row belongs to. A file that a newer binary has migrated is
//! refused on a read-only connection, before anything is written.

use std::collections::BTreeMap;

use sqlx::{Connection as _, Row as _, migrate::Migrator};

use crate::{engine::Conn, open_error::OpenError};

/// Tables that one crate owns in a file, and how they came to be.
#[derive(Debug, Clone, Copy)]
pub struct Schema<'a> {
    /// Unique within the file, for ever.
    pub name: &'a str,
    /// `&sqlx::migrate!("../../migrations/<name>/sqlite")`: files `NNNN_what.sql`, never edited
    /// once released.
    pub migrator: &'a Migrator,
    /// Whether every commit of this process is counted, in the one row of the table `commits`. One
    /// process alone may have such a file open.
    pub is_counted: bool,
}

impl Schema<'_> {
    fn newest(&self) -> i64 {
        self.migrator.iter().map(|migration| migration.version).max().unwrap_or(0)
    }
}

/// What the file has of each schema: versions and their checksums.
type Applied = BTreeMap<(String, i64), Vec<u8>>;

async fn applied(conn: &mut Conn) -> Result<Applied, sqlx::Error> {
    let table = sqlx::query("SELECT 1 FROM sqlite_schema WHERE name = 'schema_versions'");
    if table.fetch_optional(&mut *conn).await?.is_none() {
        return Ok(Applied::new());
    }
    sqlx::query("SELECT schema_name, version, checksum FROM schema_versions")
        .fetch_all(conn)
        .await?
        .into_iter()
        .map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?)))
        .collect()
}

/// The newest version that the file has of each schema.
pub(crate) async fn versions(conn: &mut Conn) -> Result<BTreeMap<String, i64>, sqlx::Error> {
    // In the order of versions, so the last is the newest.
    Ok(applied(conn).await?.into_keys().collect())
}

/// Whether migrations are to be applied.
///
/// # Errors
/// [`OpenError::Newer`] and [`OpenError::Altered`]: this binary must not touch the file.
pub(crate) async fn pending(conn: &mut Conn, schemas: &[Schema<'_>]) -> Result<bool, OpenError> {
    let applied = applied(conn).await?;
    for schema in schemas {
        let newest = applied.keys().filter(|(name, _)| name == schema.name).map(|key| key.1).max();
        if let Some(newest) = newest.filter(|newest| *newest > schema.newest()) {
            return Err(OpenError::Newer(schema.name.to_owned(), newest, schema.newest()));
        }
        for migration in schema.migrator.iter() {
            let had = applied.get(&(schema.name.to_owned(), migration.version));
            if had.is_some_and(|checksum| **checksum != *migration.checksum) {
                return Err(OpenError::Altered(schema.name.to_owned(), migration.version));
            }
        }
    }
    Ok(schemas.iter().any(|schema| {
        schema.migrator.iter().any(|m| !applied.contains_key(&(schema.name.to_owned(), m.version)))
    }))
}

/// Applies what is pending, each migration with its version row in one commit: a process killed
/// between two of them goes on where it stopped.
pub(crate) async fn run(conn: &mut Conn, schemas: &[Schema<'_>]) -> Result<(), OpenError> {
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS schema_versions (
            schema_name TEXT NOT NULL,
            version BIGINT NOT NULL,
            description TEXT NOT NULL,
            checksum BLOB NOT NULL,
            PRIMARY KEY (schema_name, version))",
    )
    .execute(&mut *conn)
    .await?;
    for schema in schemas {
        for migration in schema.migrator.iter() {
            let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
            // Again under the write lock: another process may have been quicker.
            let is_new = sqlx::query(
                "INSERT INTO schema_versions (schema_name, version, description, checksum)
                 VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(schema.name)
            .bind(migration.version)
            .bind(&*migration.description)
            .bind(&*migration.checksum)
            .execute(&mut *tx)
            .await?
            .rows_affected()
                == 1;
            if is_new {
                sqlx::raw_sql(migration.sql.clone()).execute(&mut *tx).await?;
                tx.commit().await?;
                tracing::info!(schema = schema.name, version = migration.version, "migrated");
            } else {
                tx.rollback().await?;
            }
        }
    }
    Ok(())
}

//! Migrations: embedded, forward only, one commit each.
//!
//! Several schemas may live in one file (the bridge's rows beside its client machine's), so the
//! version table says which schema a row belongs to. A file that a newer binary has migrated is
//! refused on a read-only connection, before anything is written.

use std::{collections::BTreeMap, path::Path};

use sqlx::{Connection as _, Row as _, migrate::Migrator};

use crate::{engine::Conn, open_error::OpenCause};

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
/// [`OpenCause::Newer`] and [`OpenCause::Altered`]: this binary must not touch the file.
pub(crate) async fn pending(conn: &mut Conn, schemas: &[Schema<'_>]) -> Result<bool, OpenCause> {
    let applied = applied(conn).await?;
    for schema in schemas {
        let newest = applied.keys().filter(|(name, _)| name == schema.name).map(|key| key.1).max();
        if let Some(newest) = newest.filter(|newest| *newest > schema.newest()) {
            return Err(OpenCause::Newer(schema.name.to_owned(), newest, schema.newest()));
        }
        for migration in schema.migrator.iter() {
            let had = applied.get(&(schema.name.to_owned(), migration.version));
            if had.is_some_and(|checksum| **checksum != *migration.checksum) {
                return Err(OpenCause::Altered(schema.name.to_owned(), migration.version));
            }
        }
    }
    Ok(schemas.iter().any(|schema| {
        schema.migrator.iter().any(|m| !applied.contains_key(&(schema.name.to_owned(), m.version)))
    }))
}

/// Applies what is pending, each migration with its version row in one commit: a process killed
/// between two of them goes on where it stopped. Says once what became of `database`.
pub(crate) async fn run(
    conn: &mut Conn,
    schemas: &[Schema<'_>],
    database: &Path,
) -> Result<(), OpenCause> {
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
    let before = versions(conn).await?;
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
                let version = migration.version;
                tracing::debug!(schema = schema.name, version, "migrated");
            } else {
                tx.rollback().await?;
            }
        }
    }
    tracing::info!("{}", done(database, &before, &versions(conn).await?));
    Ok(())
}

/// What was done to a database, in a line: `made /d/server.db: server 26`.
fn done(database: &Path, before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> String {
    let moved = after.iter().filter_map(|(schema, to)| match before.get(schema) {
        None => Some(format!("{schema} {to}")),
        Some(from) if from != to => Some(format!("{schema} from {from} to {to}")),
        Some(_) => None,
    });
    let moved = moved.collect::<Vec<_>>().join(", ");
    let verb = if before.is_empty() { "made" } else { "brought up to date" };
    format!("{verb} {}: tables of version {moved}", database.display())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use super::done;

    #[test]
    fn what_was_done_to_a_database_is_one_line() {
        let of = |versions: &[(&str, i64)]| -> BTreeMap<String, i64> {
            versions.iter().map(|(name, version)| ((*name).to_owned(), *version)).collect()
        };
        for (before, after, said) in [
            (vec![], vec![("a", 3), ("b", 4)], "made /d/t.db: tables of version a 3, b 4"),
            (
                vec![("a", 3), ("b", 4)],
                vec![("a", 3), ("b", 6)],
                "brought up to date /d/t.db: tables of version b from 4 to 6",
            ),
            (
                vec![("a", 3)],
                vec![("a", 3), ("b", 1)],
                "brought up to date /d/t.db: tables of version b 1",
            ),
        ] {
            assert_eq!(done(Path::new("/d/t.db"), &of(&before), &of(&after)), said);
        }
    }
}

use std::path::Path;

use causeway_store::{Db, Lock, OpenError, Options, Schema};
use sqlx::{
    SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};

/// A migrator with these statements as migrations 1, 2, ….
pub(crate) fn migrator(statements: Vec<String>) -> Migrator {
    let migrations = statements.into_iter().zip(1..).map(|(sql, version)| {
        let sql = sqlx::AssertSqlSafe(sql).into_sql_str();
        Migration::new(version, "test".into(), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

pub(crate) fn notes() -> Migrator {
    migrator(vec!["CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)".into()])
}

pub(crate) async fn open(path: &Path, lock: Lock) -> Result<Db, OpenError> {
    let migrator = notes();
    let schemas = [Schema { name: "notes", migrator: &migrator, is_counted: false }];
    Db::open(Options { path: path.to_owned(), lock, schemas: &schemas }).await
}

pub(crate) async fn add(tx: &mut causeway_store::Tx, text: &str) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO notes (text) VALUES ($1)").bind(text).execute(tx.conn()).await?;
    Ok(())
}

pub(crate) async fn all(db: &Db) -> Vec<String> {
    let mut read = db.read().await.unwrap();
    sqlx::query_scalar("SELECT text FROM notes ORDER BY id").fetch_all(read.conn()).await.unwrap()
}

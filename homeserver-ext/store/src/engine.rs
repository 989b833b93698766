//! The engine's names: the one place that says which engine it is.
//!
//! Everything above names these; `sqlx` itself is imported here, in this crate and in the
//! `storage` folders only, and a test keeps it so.

/// The engine.
pub type Engine = sqlx::Sqlite;
/// A connection to it.
pub type Conn = sqlx::SqliteConnection;
/// A row that it gave.
pub type Row = sqlx::sqlite::SqliteRow;

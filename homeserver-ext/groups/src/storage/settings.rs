//! What a person has set, and what a device is about to become, by name.

use causeway_store::Conn;

use super::Error;

/// What a device is that is nobody's yet.
pub(crate) const DEVICE_OFFER: &str = "device_offer";

pub(crate) async fn get(conn: &mut Conn, name: &str) -> Result<Option<String>, Error> {
    Ok(sqlx::query_scalar("SELECT value FROM settings WHERE name = $1")
        .bind(name)
        .fetch_optional(conn)
        .await?)
}

pub(crate) async fn put(conn: &mut Conn, name: &str, value: &str) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO settings (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn delete(conn: &mut Conn, name: &str) -> Result<(), Error> {
    sqlx::query("DELETE FROM settings WHERE name = $1").bind(name).execute(conn).await?;
    Ok(())
}

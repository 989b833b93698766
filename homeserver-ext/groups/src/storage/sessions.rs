//! Where this device is logged in: one row, its token sealed.

use causeway_store::Conn;
use zeroize::Zeroizing;

use crate::vault::{Class, Vault, VaultError};

/// The place of the token: the table has one row.
const PLACE: &[u8] = &[1];

/// A server's URL, and the token it gave.
pub(crate) type Session = (String, Option<Zeroizing<Vec<u8>>>);

pub(crate) async fn get(conn: &mut Conn, vault: &Vault) -> Result<Option<Session>, VaultError> {
    let row: Option<(String, Option<Vec<u8>>)> =
        sqlx::query_as("SELECT server_url, token FROM sessions WHERE id = 1")
            .fetch_optional(conn)
            .await
            .map_err(causeway_store::Error::from)?;
    let Some((server_url, sealed)) = row else { return Ok(None) };
    let open = |sealed: Vec<u8>| vault.unseal(Class::Content, "sessions", "token", PLACE, &sealed);
    Ok(Some((server_url, sealed.map(open).transpose()?)))
}

pub(crate) async fn put(
    conn: &mut Conn,
    vault: &Vault,
    server_url: &str,
    token: Option<&[u8]>,
) -> Result<(), VaultError> {
    let seal = |token| vault.seal(Class::Content, "sessions", "token", PLACE, token);
    sqlx::query(
        "INSERT INTO sessions (id, server_url, token) VALUES (1, $1, $2)
         ON CONFLICT (id) DO UPDATE SET server_url = excluded.server_url, token = excluded.token",
    )
    .bind(server_url)
    .bind(token.map(seal).transpose()?)
    .execute(conn)
    .await
    .map_err(causeway_store::Error::from)?;
    Ok(())
}

/// Forgets that anybody was to be logged in.
pub(crate) async fn delete(conn: &mut Conn) -> Result<(), causeway_store::Error> {
    sqlx::query("DELETE FROM sessions").execute(conn).await?;
    Ok(())
}

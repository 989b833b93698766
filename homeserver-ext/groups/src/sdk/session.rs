//! Where this device is logged in: one row, its token sealed.

use causeway_store::{Conn, Tx};
use sqlx::Row as _;

use super::http::AccessToken;
use crate::vault::{Class, Vault, VaultError};

/// The place of the token: the table has one row.
const PLACE: &[u8] = &[1];

/// A server, and the token it gave.
#[derive(Debug, Clone)]
pub(super) struct Login {
    /// Base URL of its native API.
    pub(super) server_url: String,
    /// Absent between the first attempt to register and the server's answer.
    pub(super) token: Option<AccessToken>,
}

pub(super) async fn load(conn: &mut Conn, vault: &Vault) -> Result<Option<Login>, VaultError> {
    let row = sqlx::query("SELECT server_url, token FROM sessions WHERE id = 1")
        .fetch_optional(conn)
        .await
        .map_err(causeway_store::Error::from)?;
    let Some(row) = row else { return Ok(None) };
    let read = || Ok((row.try_get(0)?, row.try_get(1)?));
    let (server_url, sealed): (String, Option<Vec<u8>>) =
        read().map_err(|e: sqlx::Error| causeway_store::Error::from(e))?;
    let token = sealed.map(|sealed| open_token(vault, &sealed)).transpose()?;
    Ok(Some(Login { server_url, token }))
}

pub(super) async fn save(tx: &mut Tx, vault: &Vault, login: &Login) -> Result<(), VaultError> {
    let token = login.token.as_ref().map(|token| {
        vault.seal(Class::Content, "sessions", "token", PLACE, token.reveal().as_bytes())
    });
    sqlx::query(
        "INSERT INTO sessions (id, server_url, token) VALUES (1, $1, $2)
         ON CONFLICT (id) DO UPDATE SET server_url = excluded.server_url, token = excluded.token",
    )
    .bind(&login.server_url)
    .bind(token.transpose()?)
    .execute(tx.conn())
    .await
    .map_err(causeway_store::Error::from)?;
    Ok(())
}

/// Forgets that anybody was to be logged in.
pub(super) async fn delete(tx: &mut Tx) -> Result<(), causeway_store::Error> {
    sqlx::query("DELETE FROM sessions").execute(tx.conn()).await?;
    Ok(())
}

fn open_token(vault: &Vault, sealed: &[u8]) -> Result<AccessToken, VaultError> {
    let bytes = vault.unseal(Class::Content, "sessions", "token", PLACE, sealed)?;
    Ok(AccessToken::new(String::from_utf8_lossy(&bytes).into_owned()))
}

//! Where this device is logged in.

use causeway_store::{Conn, Tx};

use super::http::AccessToken;
use crate::{
    storage::sessions,
    vault::{Vault, VaultError},
};

/// A server, and the token it gave.
#[derive(Debug, Clone)]
pub(super) struct Login {
    /// Base URL of its native API.
    pub(super) server_url: String,
    /// Absent between the first attempt to register and the server's answer.
    pub(super) token: Option<AccessToken>,
}

pub(super) async fn load(conn: &mut Conn, vault: &Vault) -> Result<Option<Login>, VaultError> {
    let Some((server_url, token)) = sessions::get(conn, vault).await? else { return Ok(None) };
    let token = token.map(|bytes| AccessToken::new(String::from_utf8_lossy(&bytes).into_owned()));
    Ok(Some(Login { server_url, token }))
}

pub(super) async fn save(tx: &mut Tx, vault: &Vault, login: &Login) -> Result<(), VaultError> {
    let token = login.token.as_ref().map(|token| token.reveal().as_bytes());
    sessions::put(tx.conn(), vault, &login.server_url, token).await
}

/// Forgets that anybody was to be logged in.
pub(super) async fn delete(tx: &mut Tx) -> Result<(), causeway_store::Error> {
    sessions::delete(tx.conn()).await
}

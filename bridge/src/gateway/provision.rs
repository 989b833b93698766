//! Brings a user of the namespace into being: account, device, shown name.
//!
//! Every step is safe to try again, so there is nothing to take back when one fails. That a user
//! was provisioned is for the caller to remember, in the transaction that follows.

use ruma::{OwnedUserId, UserId};

use super::matrix::{Matrix, MatrixError};
use crate::registration::{BOT, GHOST_PREFIX};

/// The bot's user id on `server_name`.
///
/// # Errors
/// [`ruma::IdParseError`]: `server_name` is none.
pub fn bot_id(server_name: &str) -> Result<OwnedUserId, ruma::IdParseError> {
    UserId::parse(format!("@{BOT}:{server_name}"))
}

/// The ghost of the native account with this localpart.
///
/// # Errors
/// [`ruma::IdParseError`]: not names of the native protocol.
pub fn ghost_id(localpart: &str, server_name: &str) -> Result<OwnedUserId, ruma::IdParseError> {
    UserId::parse(format!("@{GHOST_PREFIX}{localpart}:{server_name}"))
}

/// Registers `user`, gives it its device and the name under which it is shown.
///
/// # Errors
/// [`MatrixError`] of the first step that failed.
pub async fn provision(matrix: &Matrix, user: &UserId, name: &str) -> Result<(), MatrixError> {
    matrix.register(user.localpart()).await?;
    matrix.put_device(user).await?;
    matrix.set_display_name(user, name).await
}

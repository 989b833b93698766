//! Brings a user of the namespace into being: account, device, shown name.
//!
//! Every step is safe to try again, so there is nothing to take back when one fails. That a user
//! was provisioned is for the caller to remember, in the transaction that follows. The name is an
//! ornament: a homeserver that gives names of its own refuses it, and nothing depends on it.

use ruma::UserId;

use super::matrix::{DEVICE, Matrix, MatrixError};

/// Registers `user`, gives it its device and the name under which it is shown.
///
/// # Errors
/// [`MatrixError`] of the first step that failed; a name that is refused is no failure.
pub async fn provision(matrix: &Matrix, user: &UserId, name: &str) -> Result<(), MatrixError> {
    matrix.register(user.localpart()).await?;
    matrix.put_device(user, DEVICE).await?;
    match matrix.set_display_name(user, name).await {
        // Synapse with `enable_set_displayname: false`.
        Err(error @ MatrixError::Refused(..)) => {
            tracing::warn!(%user, %error, "a name is not shown");
            Ok(())
        }
        other => other,
    }
}

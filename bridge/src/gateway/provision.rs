//! Brings a user of the namespace into being: account, device, shown name.
//!
//! Every step is safe to try again, so there is nothing to take back when one fails. That a user
//! was provisioned is for the caller to remember, in the transaction that follows.

use ruma::UserId;

use super::matrix::{Matrix, MatrixError};

/// Registers `user`, gives it its device and the name under which it is shown.
///
/// # Errors
/// [`MatrixError`] of the first step that failed.
pub async fn provision(matrix: &Matrix, user: &UserId, name: &str) -> Result<(), MatrixError> {
    matrix.register(user.localpart()).await?;
    matrix.put_device(user).await?;
    matrix.set_display_name(user, name).await
}

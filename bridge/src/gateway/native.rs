//! The native side, where the bridge is an ordinary device of an ordinary account.
//!
//! Only the public API is used. Its token is good for the bridge's own account and for no other.

use std::sync::Arc;

use causeway_groups::{
    Vault,
    sdk::{Client, Clock, Keep, OpenClientError, RegisterError},
};
use causeway_store::Db;

use crate::secret::Secret;

/// Why the bridge is not on the native side.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// It has no bridge account: its configuration says so.
    #[error("the native server at {0} has no account for a bridge")]
    NoAccount(String),
    /// The server, or the way to it.
    #[error(transparent)]
    Call(#[from] causeway_groups::sdk::CallError),
    /// Not a URL.
    #[error(transparent)]
    Address(#[from] causeway_groups::sdk::BaseUrlError),
    /// The session cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenClientError),
    /// The account cannot be registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
}

impl NativeError {
    /// Whether the same may work later, without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Call(error)
            | Self::Open(OpenClientError::Call(error))
            | Self::Register(RegisterError::Call(error)) => error.is_transient(),
            Self::NoAccount(_) | Self::Address(_) | Self::Open(_) | Self::Register(_) => false,
        }
    }
}

/// The bridge's device: the one of `db`, or on the first start a new one, registered with `token`.
///
/// # Errors
/// [`NativeError`]; safe to try again.
pub async fn open(
    db: &Db,
    vault: &Vault,
    url: &str,
    account: &str,
    token: &Secret,
    keeper: Arc<dyn Keep>,
    clock: Clock,
) -> Result<Client, NativeError> {
    let opened =
        Client::open(db.clone(), vault.clone(), Some(url), Arc::clone(&keeper), clock).await;
    match opened {
        Ok(client) => Ok(client.that_follows_its_server()),
        Err(OpenClientError::NotLoggedIn) => {
            tracing::info!("registering the bridge on the native side");
            let token = Some(token.expose().to_owned());
            let made = Client::register(
                db.clone(),
                vault.clone(),
                Some(url),
                account,
                token,
                keeper,
                clock,
            )
            .await?;
            Ok(made.client.that_follows_its_server())
        }
        Err(error) => Err(error.into()),
    }
}

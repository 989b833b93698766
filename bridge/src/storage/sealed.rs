//! Sealing of what waits: class "queued content", bound to table, column and primary key.

use causeway_groups::vault::{Class, Vault, VaultError};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// Why a row cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The value has no JSON form, or the opened bytes are not that of one.
    #[error("a sealed value is not of its type")]
    Json,
    /// The vault's: the row is damaged or not from this place, or there is no randomness.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Seals and opens the column `sealed` of the bridge's tables.
#[derive(Clone)]
pub struct Sealer(pub Vault);

impl Sealer {
    /// Seals `bytes` for the row of `table` with this primary key.
    ///
    /// # Errors
    /// [`SealError`]
    pub fn seal(
        &self,
        table: &'static str,
        key: &[u8],
        bytes: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        Ok(self.0.seal(Class::Content, table, "sealed", key, bytes)?)
    }

    /// Opens what [`Self::seal`] made for that row.
    ///
    /// # Errors
    /// [`SealError`]
    pub fn open(
        &self,
        table: &'static str,
        key: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        Ok(self.0.unseal(Class::Content, table, "sealed", key, sealed)?)
    }

    /// Seals the JSON form of `value`.
    ///
    /// # Errors
    /// [`SealError`]
    pub fn seal_json(
        &self,
        table: &'static str,
        key: &[u8],
        value: &impl Serialize,
    ) -> Result<Vec<u8>, SealError> {
        self.seal(table, key, &serde_json::to_vec(value).map_err(|_| SealError::Json)?)
    }

    /// Opens what [`Self::seal_json`] made.
    ///
    /// # Errors
    /// [`SealError`]
    pub fn open_json<T: DeserializeOwned>(
        &self,
        table: &'static str,
        key: &[u8],
        sealed: &[u8],
    ) -> Result<T, SealError> {
        serde_json::from_slice(&self.open(table, key, sealed)?).map_err(|_| SealError::Json)
    }
}

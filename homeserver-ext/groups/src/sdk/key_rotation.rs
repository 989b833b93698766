//! How old shared keys get, for whoever asks or says so.

use super::{Client, SdkError};

impl Client {
    /// After how many seconds this device makes another shared key where it is to make them.
    pub async fn key_rotation_s(&self) -> Result<u32, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.key_rotation_s(&mut tx).await?)
    }

    /// From now on after so many, of [`KEY_ROTATION_S`](crate::machine::KEY_ROTATION_S).
    pub async fn set_key_rotation_s(&self, seconds: u32) -> Result<(), SdkError> {
        let mut tx = self.db.begin().await?;
        self.machine.set_key_rotation_s(&mut tx, seconds).await?;
        Ok(tx.commit().await?)
    }
}

//! History that is given to a member on purpose.

use causeway_protocol::{
    ids::{GroupId, MemberId},
    olm_plaintext::PastText,
};

use super::{Client, SdkError};
use crate::machine::{MachineError, ShareError, Sharing};

impl Client {
    /// Keeps texts for a member's devices; they go with the [chores](Self::chores).
    ///
    /// # Errors
    /// [`ShareError`]: nothing is kept.
    pub async fn share_history(
        &self,
        group: GroupId,
        to: &MemberId,
        texts: Vec<PastText>,
    ) -> Result<Sharing, ShareError> {
        let mut tx = self.db.begin().await.map_err(MachineError::from)?;
        let sharing = self.machine.share_history(&mut tx, self.now(), group, to, texts).await?;
        tx.commit().await.map_err(MachineError::from)?;
        Ok(sharing)
    }

    /// Whether something of a share has not reached the server yet.
    ///
    /// # Errors
    /// [`SdkError`].
    pub async fn is_sharing(&self, group: GroupId, sharing: &Sharing) -> Result<bool, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.is_sharing(&mut tx, group, sharing).await?)
    }
}

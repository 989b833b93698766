//! Groups that somebody has added this account to.

use causeway_protocol::ids::GroupId;

use super::{Client, SdkError};
use crate::machine::{AddedBy, OfferView};

impl Client {
    /// The offer that a group is; `None` where this account takes part in it, or is not in it.
    pub async fn offer(&self, group: GroupId) -> Result<Option<OfferView>, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.offer(&mut tx, group).await?)
    }

    /// Takes part in a group that was offered.
    pub async fn take_offer(&self, group: GroupId) -> Result<(), SdkError> {
        let mut tx = self.db.begin().await?;
        let received = self.machine.take_offer(&mut tx, self.now(), group).await?;
        self.keep(&mut tx, received).await?;
        Ok(tx.commit().await?)
    }

    /// Who may add this account to groups.
    pub async fn added_by(&self) -> Result<AddedBy, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.added_by(&mut tx).await?)
    }

    /// From now on these may.
    pub async fn set_added_by(&self, added_by: AddedBy) -> Result<(), SdkError> {
        let mut tx = self.db.begin().await?;
        self.machine.set_added_by(&mut tx, added_by).await?;
        Ok(tx.commit().await?)
    }
}

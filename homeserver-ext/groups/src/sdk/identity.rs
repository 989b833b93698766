//! Who people are: what the server has of them, and what was decided here.

use std::collections::BTreeMap;

use causeway_protocol::{
    ids::{AccountId, MemberId},
    roster::Roster,
};

use super::{Client, SdkError};
use crate::machine::{Pin, Trust};

impl Client {
    /// Fetches an account's list and records, and teaches them to the machine; the identity that
    /// stood for it before, or does since.
    ///
    /// # Errors
    /// [`SdkError::Call`]: there is no such account, or no way to the server.
    pub async fn meet(&self, account: &AccountId) -> Result<Option<Pin>, SdkError> {
        self.learn(account).await?;
        self.pin(account).await
    }

    /// The identity of an account's newest list, decided on or not.
    pub async fn identity(&self, account: &AccountId) -> Result<Option<MemberId>, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.identity(&mut tx, account).await?)
    }

    /// The identity that stands for an account, as far as is known here.
    pub async fn pin(&self, account: &AccountId) -> Result<Option<Pin>, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.pin(&mut tx, account).await?)
    }

    /// Identities that stand for accounts, at most `limit`, from one on.
    pub async fn pins(&self, from: &str, limit: u32) -> Result<Vec<Pin>, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.pins(&mut tx, from, limit).await?)
    }

    /// Who each member of a roster is.
    pub async fn trusts(&self, roster: &Roster) -> Result<BTreeMap<MemberId, Trust>, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.trusts(&mut tx, roster).await?)
    }

    /// Keeps a person's decision: this identity stands for the account.
    pub async fn decide(
        &self,
        account: &AccountId,
        member: MemberId,
        verified: bool,
    ) -> Result<(), SdkError> {
        let mut tx = self.db.begin().await?;
        self.machine.decide(&mut tx, self.now(), account, member, verified).await?;
        Ok(tx.commit().await?)
    }
}

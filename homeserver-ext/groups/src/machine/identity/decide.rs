//! What a person decides about an identity, and what is shown for that.

use std::collections::BTreeMap;

use causeway_protocol::{
    ids::{AccountId, MemberId, Timestamp},
    roster::Roster,
};
use causeway_store::Tx;

use super::Work;
use crate::{
    machine::{Machine, MachineError, OpError, Trust},
    storage::{
        accounts, groups as rows,
        identities::{self, Standing},
    },
};

/// The identity that stands for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The account.
    pub account: AccountId,
    /// Its identity.
    pub member_id: MemberId,
    /// Whether a person has compared safety numbers.
    pub verified: bool,
    /// Since when it is so.
    pub since: Timestamp,
}

impl Machine {
    /// The identity that stands for an account, if it was met.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn pin(&self, tx: &mut Tx, account: &AccountId) -> Result<Option<Pin>, MachineError> {
        let page = self.pins(tx, account.as_str(), 1).await?;
        Ok(page.into_iter().find(|pin| pin.account == *account))
    }

    /// Accounts that were met, at most `limit`, in their order from `from` on.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn pins(
        &self,
        tx: &mut Tx,
        from: &str,
        limit: u32,
    ) -> Result<Vec<Pin>, MachineError> {
        let page = identities::page(tx.conn(), from, limit).await?.into_iter();
        let pin = |row: identities::Identity| Pin {
            account: row.account,
            member_id: row.member,
            verified: row.standing == Standing::Verified,
            since: row.since,
        };
        Ok(page.map(pin).collect())
    }

    /// Who each member of a roster is.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn trusts(
        &self,
        tx: &mut Tx,
        roster: &Roster,
    ) -> Result<BTreeMap<MemberId, Trust>, MachineError> {
        let known = self.known(tx.conn()).await?;
        let members = roster.members().iter();
        Ok(members.map(|(id, is)| (*id, known.trust(self.me(), &is.account, id))).collect())
    }

    /// From now on this identity stands for the account, by a person's word: `verified`, if he has
    /// compared safety numbers. The one before, and after a comparison all others that groups name,
    /// are known not to.
    ///
    /// # Errors
    /// [`OpError::OtherIdentity`]: the account's newest list is not by this identity, or the
    /// identity is another account's. Nothing was changed.
    pub async fn decide(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        account: &AccountId,
        member: MemberId,
        verified: bool,
    ) -> Result<(), OpError> {
        let newest = accounts::newest_list(tx.conn(), account).await.map_err(MachineError::from)?;
        let known = self.known(tx.conn()).await?;
        let is = known.trust(self.me(), account, &member);
        if newest.is_none_or(|list| list.member_id != member)
            || matches!(is, Trust::Me | Trust::Borrowed)
        {
            return Err(OpError::OtherIdentity(account.clone()));
        }
        let mut work = Work::new(self, tx, now);
        let standing =
            if verified || is == Trust::Verified { Standing::Verified } else { Standing::Pinned };
        work.take(account, member, standing).await?;
        if verified {
            work.reject_others(account, member).await?;
        }
        work.finish().await?;
        Ok(())
    }
}

impl Work<'_> {
    /// Puts an identity in the place of the one that stood for the account.
    pub(super) async fn take(
        &mut self,
        account: &AccountId,
        member: MemberId,
        standing: Standing,
    ) -> Result<(), MachineError> {
        let now = self.now;
        let known = self.machine.known(self.conn()).await?;
        if let Some((before, _)) = known.of.get(account)
            && *before != member
        {
            identities::put(self.conn(), account, before, Standing::Former, now).await?;
        }
        identities::put(self.conn(), account, &member, standing, now).await?;
        self.identities_changed().await
    }

    /// Whoever else is called so is not the account.
    async fn reject_others(
        &mut self,
        account: &AccountId,
        member: MemberId,
    ) -> Result<(), MachineError> {
        let (known, now) = (self.machine.known(self.conn()).await?, self.now);
        let mut others: Vec<MemberId> =
            known.seen.iter().filter(|(is, _)| is == account).map(|(_, id)| *id).collect();
        for group in rows::all(self.conn()).await? {
            let Some(log) = self.log(&group).await? else { continue };
            let named = log.head().members().iter().filter(|(_, is)| is.account == *account);
            others.extend(named.map(|(id, _)| *id));
        }
        for other in others.into_iter().filter(|other| *other != member) {
            identities::put(self.conn(), account, &other, Standing::Former, now).await?;
        }
        self.identities_changed().await
    }
}

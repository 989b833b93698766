//! A name is a key: which identity stands for which account (protocol §1).
//!
//! An account is pinned at first contact to the identity that signed its device list, and stays so
//! in all groups until a person decides otherwise. A roster says what its ops say; here it is judged
//! whether a member is who it is called, and nobody else is given anything.

mod decide;

use std::sync::Arc;

use causeway_protocol::{
    device::{DeviceList, DeviceOf},
    ids::{AccountId, GroupId, MemberId, Seq},
    roster::{Log, Member, Roster},
};

use super::{
    MachineError, Trust, What,
    known::{Known, Members},
    work::Work,
};
use crate::{
    entropy,
    storage::{
        accounts::{self, Ask, KnownDevice},
        groups as rows,
        identities::{self, Met, Standing},
    },
};

pub use decide::Pin;

impl Work<'_> {
    /// Who `account` over `member` is.
    pub(super) async fn trust(
        &mut self,
        account: &AccountId,
        member: &MemberId,
    ) -> Result<Trust, MachineError> {
        let machine = self.machine;
        let (_, known) = self.who_is_who().await?;
        Ok(known.trust(machine.me(), account, member))
    }

    /// Who is who and the revision of that, looked up once in a transaction.
    async fn who_is_who(&mut self) -> Result<(Met, &Arc<Known>), MachineError> {
        let met = match self.met {
            Some(met) => met,
            None => *self.met.insert(identities::revision(self.tx.conn()).await?),
        };
        let known = match self.known.take() {
            Some(known) => known,
            None => self.machine.known_at(self.tx.conn(), met).await?,
        };
        Ok((met, self.known.insert(known)))
    }

    /// Who of the newest roster may be given something.
    pub(super) async fn members(&mut self, log: &Log) -> Result<Arc<Members>, MachineError> {
        let machine = self.machine;
        let (met, known) = self.who_is_who().await?;
        Ok(machine.members(met, known, log.head()))
    }

    /// Whether a device is what the newest roster says, and its member who it is called: account,
    /// identity and device of its record, and the pin.
    pub(super) async fn may_give(
        &mut self,
        log: &Log,
        known: &KnownDevice,
    ) -> Result<bool, MachineError> {
        let device = known.record.device();
        let Some(member) = log.head().counts(&device) else { return Ok(false) };
        if member.account != known.account || self.is_offered(&log.head().group()).await? {
            return Ok(false);
        }
        let untrusted = self.members(log).await?;
        Ok(!untrusted.untrusted.contains(&device.member_id))
    }

    /// Those who were not met and can be, or on whom the server is to decide: it was not asked in
    /// vain lately.
    pub(super) async fn strangers(&mut self, log: &Log) -> Result<Vec<AccountId>, MachineError> {
        let since = self.now.minus_ms(super::work::ASK_AGAIN_MS);
        let mut accounts = Vec::new();
        let members = self.members(log).await?;
        let follows = self.machine.0.follows_server;
        let undecided = members.undecided.iter().filter(|_| follows);
        for account in members.unmet.iter().chain(undecided) {
            let name = account.as_str().as_bytes();
            if !accounts::was_asked(self.conn(), Ask::Account, name, since).await? {
                accounts.push(account.clone());
            }
        }
        Ok(accounts)
    }

    /// Whether a device's account is still to be met: what is owed to it waits, and it is asked for.
    pub(super) async fn is_to_be_met(
        &mut self,
        group: &GroupId,
        known: &KnownDevice,
    ) -> Result<bool, MachineError> {
        let Some(log) = self.log(group).await? else { return Ok(false) };
        let is_unmet = self.members(&log).await?.unmet.contains(&known.account);
        if is_unmet {
            self.ask_account(&known.account).await?;
        }
        Ok(is_unmet)
    }

    /// Asks for everybody in the rosters of before there were pins, once.
    pub(super) async fn meet_all(&mut self) -> Result<(), MachineError> {
        if identities::revision(self.conn()).await?.is_some() {
            return Ok(());
        }
        for group in rows::all(self.conn()).await? {
            let Some(log) = self.log(&group).await? else { continue };
            let is_in = log.head().counts(&self.machine.me().device()).is_some();
            if !is_in || self.is_offered(&group).await? {
                continue;
            }
            for account in &self.members(&log).await?.unmet {
                self.ask_account(account).await?;
            }
        }
        Ok(identities::set_revision(self.conn(), entropy::bytes()?).await?)
    }

    /// An account's own list, verified: who was not met is pinned to it, and where the account is
    /// pinned to another identity that is said, once, in each group that it is in.
    pub(super) async fn meet(&mut self, list: &DeviceList) -> Result<(), MachineError> {
        let (account, member, now) = (&list.account, list.member_id, self.now);
        let known = self.machine.known(self.conn()).await?;
        match known.trust(self.machine.me(), account, &member) {
            Trust::Unmet => {
                // Rosters may have named it otherwise before.
                let me = self.machine.me();
                let odd = self
                    .find_in_groups(|roster| {
                        let is_odd = |(id, is): &(&MemberId, &Member)| {
                            (is.account == *account) != (**id == member)
                                && !known.trust(me, &is.account, id).is_wrong()
                        };
                        let odd = roster.members().iter().filter(is_odd);
                        odd.map(|(id, is)| (is.account.clone(), *id, false)).collect()
                    })
                    .await?;
                identities::put(self.conn(), account, &member, Standing::Pinned, now).await?;
                self.identities_changed().await?;
                let met = identities::revision(self.conn()).await?;
                self.machine.known_besides(met, known, (account, member));
                if !odd.is_empty() {
                    let known = self.machine.known(self.conn()).await?;
                    self.say_found(&known, odd);
                }
                Ok(())
            }
            Trust::Changed
                if self.machine.0.follows_server && *account != self.machine.me().account =>
            {
                self.take(account, member, Standing::Pinned).await?;
                self.say_in_groups(&known, |roster| shown_by_list(roster, account, member)).await
            }
            Trust::Changed | Trust::Borrowed
                if !known.seen.contains(&(account.clone(), member)) =>
            {
                identities::put(self.conn(), account, &member, Standing::Seen, now).await?;
                self.identities_changed().await?;
                self.say_in_groups(&known, |roster| shown_by_list(roster, account, member)).await
            }
            Trust::Changed
            | Trust::Borrowed
            | Trust::Me
            | Trust::Pinned
            | Trust::Verified
            | Trust::Former => Ok(()),
        }
    }

    /// Says of an op which of those whom it brought are not who they are called.
    pub(super) async fn say_who_is_not(
        &mut self,
        seq: Seq,
        before: Option<&Roster>,
        after: &Roster,
    ) -> Result<(), MachineError> {
        let known = self.machine.known(self.conn()).await?;
        let me = self.machine.me();
        for (id, member) in after.members() {
            let was = before.and_then(|before| before.member(id));
            if was.is_some_and(|was| was.account == member.account) {
                continue;
            }
            if known.trust(me, &member.account, id).is_wrong() {
                let shown = known.shown(me, &member.account, *id, false);
                self.say(seq, after.group(), What::Identity(shown));
            }
        }
        Ok(())
    }

    /// Says what `find` finds in the newest rosters of the groups that this device is in.
    async fn say_in_groups(
        &mut self,
        known: &Known,
        find: impl Fn(&Roster) -> Vec<Odd>,
    ) -> Result<(), MachineError> {
        let found = self.find_in_groups(find).await?;
        self.say_found(known, found);
        Ok(())
    }

    async fn find_in_groups(
        &mut self,
        find: impl Fn(&Roster) -> Vec<Odd>,
    ) -> Result<Vec<(GroupId, Odd)>, MachineError> {
        let (me, mut found) = (self.machine.me(), Vec::new());
        for group in rows::all(self.conn()).await? {
            let Some(log) = self.log(&group).await? else { continue };
            if log.head().counts(&me.device()).is_some() {
                found.extend(find(log.head()).into_iter().map(|odd| (group, odd)));
            }
        }
        Ok(found)
    }

    fn say_found(&mut self, known: &Known, found: Vec<(GroupId, Odd)>) {
        for (group, (account, member, by_list)) in found {
            let shown = known.shown(self.machine.me(), &account, member, by_list);
            self.say(Seq(0), group, What::Identity(shown));
        }
    }

    pub(super) async fn identities_changed(&mut self) -> Result<(), MachineError> {
        self.known = None;
        self.met = None;
        // NULL until everybody of before was asked for.
        if identities::revision(self.conn()).await?.is_some() {
            identities::set_revision(self.conn(), entropy::bytes()?).await?;
        }
        Ok(())
    }

    /// Says in the group of a request that who asks is not who is known by that name.
    pub(super) async fn say_changed(
        &mut self,
        group: GroupId,
        account: &AccountId,
        member: MemberId,
    ) -> Result<(), MachineError> {
        let known = self.machine.known(self.conn()).await?;
        let shown = known.shown(self.machine.me(), account, member, true);
        self.say(Seq(0), group, What::Identity(shown));
        Ok(())
    }

    /// Whether one of these devices is a member's who may not be given anything.
    pub(super) async fn any_untrusted(
        &mut self,
        log: &Log,
        devices: impl Fn(&DeviceOf) -> bool,
    ) -> Result<bool, MachineError> {
        let members = self.members(log).await?;
        if members.untrusted.is_empty() {
            return Ok(false);
        }
        let head = log.head();
        Ok(head.devices().any(|d| members.untrusted.contains(&d.member_id) && devices(&d)))
    }
}

/// An account over an identity that is not known as its own, and whether its list says so.
type Odd = (AccountId, MemberId, bool);

/// The account of a list, in a roster that has it under another identity.
fn shown_by_list(roster: &Roster, account: &AccountId, member: MemberId) -> Vec<Odd> {
    let is_there = roster.members().iter().any(|(id, is)| is.account == *account && *id != member);
    let found = is_there.then(|| (account.clone(), member, true));
    found.into_iter().collect()
}

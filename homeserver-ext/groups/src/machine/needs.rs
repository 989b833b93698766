//! What must be known of a group's devices before something is sealed for them.

use std::sync::Arc;

use causeway_protocol::{
    api::{AccountAnswer, ClaimedKeys, MAX_FORMER},
    device::{DeviceOf, DeviceRecord, verify_account},
    envelope::Kind,
    ids::{AccountId, DeviceId, GroupId, Timestamp},
    olm_plaintext::{OlmPlaintext, Route},
    roster::Log,
};
use causeway_store::Tx;

use super::{
    Machine, MachineError, Needs, Received, SealError, Trust,
    reach::Reach,
    schemes,
    work::{ASK_AGAIN_MS, ASK_SOON_MS, Again, Work},
};
use crate::{
    olm,
    storage::{
        accounts::{self, Ask, KnownDevice},
        chores,
        groups::{self as rows, Offer},
        holds,
        holds::WaitsFor,
        olm as sessions,
        owed::{self, WAIT_MS},
        own,
        parked::For,
    },
};

impl Machine {
    /// What is to be asked of the server before [`Self::seal`]. Nothing, for most messages.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub async fn needs(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
    ) -> Result<Needs, SealError> {
        let mut work = Work::new(self, tx, now);
        let (row, log) = work.may_send(group).await?;
        let plan = schemes::plan(&mut work, &row, &log, 1).await?;
        let mut needs = Needs { is_key_over: plan.is_over(), ..Needs::default() };
        work.look_up(plan.lacking()).await?;
        for device in plan.lacking() {
            work.need(&log, device, &mut needs).await?;
        }
        for account in work.strangers(&log).await? {
            if !needs.accounts.contains(&account) {
                needs.accounts.push(account);
            }
        }
        Ok(needs)
    }

    /// Takes the answer to `POST keys/claim` for the devices of `asked`, and makes sessions of it.
    ///
    /// # Errors
    /// [`MachineError`]; keys that do not verify are as if they had not come.
    pub async fn claimed(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        asked: &[DeviceId],
        answer: &ClaimedKeys,
    ) -> Result<(), MachineError> {
        let mut work = Work::new(self, tx, now);
        for device in asked {
            if let Some(known) = work.device(*device).await? {
                Box::pin(work.make_session(&known, answer)).await?;
            }
            let name = device.as_bytes();
            accounts::answered(work.conn(), Ask::Claim, name, now).await?;
            // A first session is no healed one: it may be wedged within the hour, too.
            accounts::answered_if_due(work.conn(), Ask::Heal, name, now).await?;
        }
        Ok(())
    }

    /// Takes the answer to `GET accounts/{account}`, `None` where there is no such account, and
    /// judges again what waited for it.
    ///
    /// # Errors
    /// [`MachineError`]; a list or record that does not verify, or goes back, is not taken.
    pub async fn learn(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        account: &AccountId,
        answer: Option<&AccountAnswer>,
    ) -> Result<Vec<Received>, MachineError> {
        let mut work = Work::new(self, tx, now);
        work.learn(account, answer).await?;
        work.finish().await
    }

    /// As [`Self::learn`], of many in one transaction.
    ///
    /// # Errors
    /// As [`Self::learn`].
    pub async fn learn_all(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        answers: &[(AccountId, Option<AccountAnswer>)],
    ) -> Result<Vec<Received>, MachineError> {
        let mut work = Work::new(self, tx, now);
        for (account, answer) in answers {
            work.learn(account, answer.as_ref()).await?;
        }
        work.finish().await
    }

    /// `GET accounts/{account}` came to nothing for these: their server did not answer, or not so that it can
    /// be used. Nobody waits for it now, and nobody is judged by it.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn asked_in_vain(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        those: &[AccountId],
    ) -> Result<Vec<Received>, MachineError> {
        let mut work = Work::new(self, tx, now);
        for account in those {
            work.learn(account, None).await?;
            let name = account.as_str().as_bytes();
            accounts::answered(work.conn(), Ask::Away, name, now).await?;
        }
        work.finish().await
    }
}

impl Work<'_> {
    /// A group in which this device may speak now.
    pub(super) async fn may_send(
        &mut self,
        group: GroupId,
    ) -> Result<(rows::Group, Arc<Log>), SealError> {
        let Some((row, Some(log))) = self.group(&group).await? else {
            return Err(SealError::NotMember(group));
        };
        let (row, log) = (row.clone(), Arc::clone(log));
        let head = log.head();
        let me = self.machine.me().device();
        if head.counts(&me).is_none() {
            return Err(SealError::NotMember(group));
        }
        if head.closed() {
            return Err(SealError::Closed);
        }
        if row.fork.as_deref().is_some_and(is_undecided) {
            return Err(SealError::Forked);
        }
        if row.offer == Some(Offer::Offered) {
            return Err(SealError::Offered);
        }
        let undecided = &self.members(&log).await?.undecided;
        if !undecided.is_empty() && !self.machine.0.follows_server {
            return Err(SealError::Changed(undecided.clone()));
        }
        Ok((row, log))
    }

    /// Whether and how `device` can be given something.
    pub(super) async fn reach(
        &mut self,
        log: &Log,
        device: &DeviceOf,
    ) -> Result<Reach, MachineError> {
        let since = self.now.minus_ms(ASK_AGAIN_MS);
        let member = log.head().member(&device.member_id);
        let Some(member) = member else { return Ok(Reach::Never) };
        let trust = self.trust(&member.account, &device.member_id).await?;
        let known = match self.device(device.device_id).await? {
            _ if trust != Trust::Unmet && !trust.is_trusted() => return Ok(Reach::Never),
            Some(known) if trust.is_trusted() => known,
            Some(_) | None => {
                let name = member.account.as_str().as_bytes();
                let listed =
                    accounts::list(self.conn(), &member.account, &device.member_id).await?;
                // A list that is older than the roster's was asked for too early.
                let since = match listed {
                    Some(list) if list.version < member.list_version => {
                        self.now.minus_ms(ASK_SOON_MS)
                    }
                    Some(_) | None => since,
                };
                let in_vain = accounts::was_asked(self.conn(), Ask::Account, name, since).await?;
                let account = member.account.clone();
                return Ok(if in_vain { Reach::Never } else { Reach::Unknown(account) });
            }
        };
        // The account that signed for it, and not one that the roster puts in its place; a record of
        // another identity or account: the device cannot be his.
        if known.record.member_id != device.member_id || known.account != member.account {
            return Ok(Reach::Never);
        }
        if self.in_session.contains(&device.device_id)
            || sessions::has_session(self.conn(), &device.device_id).await?
        {
            return Ok(Reach::Session(Box::new(known)));
        }
        let name = device.device_id.as_bytes();
        let in_vain = accounts::was_asked(self.conn(), Ask::Claim, name, since).await?;
        Ok(if in_vain { Reach::Never } else { Reach::NoSession(device.device_id) })
    }

    pub(super) async fn need(
        &mut self,
        log: &Log,
        device: &DeviceOf,
        needs: &mut Needs,
    ) -> Result<(), MachineError> {
        let reach = self.reach(log, device).await?;
        self.wait_for(reach, needs);
        Ok(())
    }

    /// Notes what is to be asked to reach a device; from when on it is of use to try again.
    pub(super) fn wait_for(&self, reach: Reach, needs: &mut Needs) -> Timestamp {
        let is_never = matches!(reach, Reach::Never);
        match reach {
            Reach::Unknown(account) if !needs.accounts.contains(&account) => {
                needs.accounts.push(account);
            }
            Reach::NoSession(device) if !needs.claims.contains(&device) => {
                needs.claims.push(device);
            }
            Reach::NoSession(_) | Reach::Unknown(_) | Reach::Session(_) | Reach::Never => {}
        }
        if is_never { self.now.plus_ms(WAIT_MS) } else { self.now }
    }

    /// Makes a session with the key that was claimed; where an old one was wedged, says so in it.
    async fn make_session(
        &mut self,
        known: &KnownDevice,
        answer: &ClaimedKeys,
    ) -> Result<(), MachineError> {
        let (vault, now) = (self.vault(), self.now);
        let peer = known.record.device_id;
        let Some(key) = answer.keys.get(&peer).filter(|key| key.verify(&peer).is_ok()) else {
            return Ok(());
        };
        let account = own::olm(self.conn(), vault).await?;
        let session = olm::outbound(&account, &known.record.curve25519, &key.curve25519);
        let Some(session) = session else { return Ok(()) };
        sessions::save(self.conn(), vault, &peer, &session, now).await?;
        sessions::trim(self.conn(), &peer).await?;
        owed::session_came(self.conn(), &peer).await?;
        chores::session_came(self.conn(), &peer).await?;
        let wedged = accounts::to_ask(self.conn(), Ask::Heal).await?;
        if wedged.iter().any(|name| name.as_slice() == peer.as_bytes())
            && let Some(group) = self.common_group(known).await?
        {
            let route = Route { group, from: self.machine.me().record.device_id, to: peer };
            if let Ok(dummy) = OlmPlaintext::Dummy(route).to_bytes() {
                let _sent = self.send_direct(group, known, Kind::Direct, &dummy).await?;
            }
        }
        Ok(())
    }

    /// A group that both this device and that one are in.
    async fn common_group(&mut self, known: &KnownDevice) -> Result<Option<GroupId>, MachineError> {
        for group in rows::all(self.conn()).await? {
            let Some(log) = self.log(&group).await? else { continue };
            let both = [known.record.device(), self.machine.me().device()];
            if both.iter().all(|device| log.head().counts(device).is_some()) {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    async fn learn(
        &mut self,
        account: &AccountId,
        answer: Option<&AccountAnswer>,
    ) -> Result<(), MachineError> {
        let (name, now) = (account.as_str().as_bytes(), self.now);
        accounts::answered(self.conn(), Ask::Account, name, now).await?;
        accounts::unasked(self.conn(), Ask::Away, name).await?;
        if let Some(answer) = answer.filter(|answer| answer.list.account == *account) {
            self.take_account(answer).await?;
        }
        self.judge_again().await
    }

    async fn take_account(&mut self, answer: &AccountAnswer) -> Result<(), MachineError> {
        let (vault, now) = (self.vault(), self.now);
        let AccountAnswer { list, devices, former } = answer;
        if let Err(error) = verify_account(list, devices) {
            tracing::warn!(account = %list.account, %error, "an account's devices are not believed");
            return Ok(());
        }
        let seen = accounts::list(self.conn(), &list.account, &list.member_id).await?;
        if seen.is_some_and(|seen| seen.version > list.version) {
            tracing::warn!(account = %list.account, "the server shows an older device list");
            return Ok(());
        }
        accounts::save_list(self.conn(), list, now).await?;
        let me = self.machine.me();
        if list.account == me.account && list.member_id == me.record.member_id {
            // Another device of this account has signed it.
            own::renew_list(self.conn(), list).await?;
        }
        self.meet(list).await?;
        // Whoever was taken out may have said something before, and whether it counted then is for the
        // roster to say.
        let is_its =
            |record: &&DeviceRecord| record.member_id == list.member_id && record.verify().is_ok();
        let former = former.iter().take(MAX_FORMER).filter(is_its);
        for record in devices.iter().chain(former) {
            accounts::insert_device(self.conn(), &list.account, record).await?;
            let sender = &record.device_id;
            let waited =
                holds::take(self.conn(), vault, None, Some(sender), WaitsFor::Device).await?;
            self.ask_for_parked(For::Sender(sender)).await?;
            self.again.extend(waited.into_iter().map(Again::from));
        }
        Ok(())
    }
}

/// Whether there are two histories and a person has not decided yet. A member's word that there is
/// another one is shown, and is no reason: any member could stop everybody with it.
fn is_undecided(fork: &str) -> bool {
    let view = serde_json::from_str::<super::ForkView>(fork);
    view.map_or(true, |view| view.fork.other.is_some() && !view.kept)
}

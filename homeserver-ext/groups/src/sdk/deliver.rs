//! What is asked before sealing, what is posted after it, and what is done for others.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use causeway_protocol::{
    api::{Accepted, OpBytes, OwnDevice, UploadKeys},
    ids::{AccountId, GroupId},
};
use causeway_store::Tx;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::{CallError, Client, SdkError};
use crate::machine::{Batch, Needs, SealError};

/// Devices in one claim.
const MAX_CLAIMS: usize = 1_000;
/// Accounts that are learnt in one commit: of a group of many, each member asks for all others.
const ACCOUNTS_AT_ONCE: usize = 64;
/// Calls that are on their way together.
const CALLS_AT_ONCE: usize = 4;
/// One chore may make the next: a request admitted makes keys to be given.
const ROUNDS: usize = 32;
const TIDY_EVERY_MS: u64 = 60 * 60 * 1_000;
/// How long a group that another server keeps is waited for, before others go on.
pub(super) const OTHERS: Duration = Duration::from_secs(10);

impl Client {
    /// Asks the server, once in a process, how far it knows this device: to be done before anything
    /// is sealed. Where it knows of more than this database does, the whole folder was put back, and
    /// new chains, sessions and one-time keys begin; the old ones may have sealed what others have.
    /// Where it has other keys than it was given last, the server was put back, and gets new ones.
    ///
    /// # Errors
    /// Nothing may be sealed before this succeeds.
    pub async fn compare(&self) -> Result<(), SdkError> {
        if self.compared.load(Ordering::Relaxed) {
            return Ok(());
        }
        let known = self.own_device().await?;
        let mut tx = self.db.begin().await?;
        self.machine.catch_up(&mut tx, known.count).await?;
        if let Some(keys) = known.keys {
            self.machine.compare_keys(&mut tx, keys.fallback_key.as_ref()).await?;
        }
        let lost = self.machine.replacement(&mut tx).await?;
        let is_telling = self.machine.is_recovering(&mut tx).await?;
        tx.commit().await?;
        // Before anybody is given a key that nothing opens any more.
        if let Some(keys) = lost {
            self.upload(&keys).await?;
        }
        self.compared.store(true, Ordering::Relaxed);
        if is_telling {
            // What is said next is for the devices that the account has now.
            match Box::pin(self.bring_in()).await {
                Err(SdkError::Contended) => {
                    tracing::warn!("not all groups know this account's devices");
                }
                ended => ended?,
            }
        }
        Ok(())
    }

    /// The highest count of commits that the server has heard of from this device.
    ///
    /// # Errors
    /// [`SdkError`]
    pub async fn known(&self) -> Result<u64, SdkError> {
        Ok(self.own_device().await?.count)
    }

    async fn own_device(&self) -> Result<OwnDevice, SdkError> {
        match self.http.device().await {
            // A server of before.
            Err(CallError::Refused { status: 404, .. }) => {
                Ok(OwnDevice { count: 0, keys: None, waits: None })
            }
            known => Ok(known?),
        }
    }

    /// Fetches what the next message in `group` needs: records of accounts, one-time keys of
    /// devices. Mostly nothing, and then nothing is sent.
    pub async fn prepare(&self, group: GroupId) -> Result<(), SdkError> {
        self.compare().await?;
        let mut tx = self.db.begin().await?;
        let needs = self.machine.needs(&mut tx, self.now(), group).await?;
        drop(tx);
        if needs.is_key_over && self.may_lack_a_key().await? {
            return Err(SealError::NoKey.into());
        }
        self.provide(needs).await
    }

    /// Whether the key that took the place of one that is over may wait in the mailbox: nobody has the
    /// old one for long then.
    pub(super) async fn may_lack_a_key(&self) -> Result<bool, SdkError> {
        Ok(self.own_device().await?.waits == Some(true))
    }

    /// Posts a stored batch: the same bytes as often as need be, the server takes each id once.
    ///
    /// A server that has lost the group's last ops gets them back first.
    ///
    /// # Errors
    /// [`CallError::Stale`]: install the ops and drop the batch in one transaction, then seal its
    /// messages again. [`CallError::Refused`]: it will never be taken. All others: later again.
    pub async fn post(&self, batch: &Batch) -> Result<Accepted, SdkError> {
        let accepted = match self.post_once(batch).await {
            Err(SdkError::Call(error)) if is_behind(batch, &error) => {
                self.give_back(batch.group).await?;
                self.post_once(batch).await?
            }
            ended => ended?,
        };
        if batch.has_keys() {
            let mut tx = self.db.begin().await?;
            self.machine.accepted(&mut tx, batch).await?;
            tx.commit().await?;
        }
        Ok(accepted)
    }

    /// Installs ops, those that a 409 brought for example, and keeps what they bring to light.
    pub async fn install(
        &self,
        tx: &mut Tx,
        group: GroupId,
        ops: &[OpBytes],
    ) -> Result<(), SdkError> {
        let received = self.machine.install_ops(tx, self.now(), group, ops).await?;
        self.keep(tx, received).await
    }

    /// Does what is to be done for others: lets in who may come in, acknowledges keys and answers
    /// requests for them, catches up with rosters, uploads one-time keys.
    ///
    /// Says whether anything was done; answers to it may be on their way then. Every part can be
    /// done again without harm. One that the server refuses for now stops none of the others.
    pub async fn chores(&self) -> Result<bool, SdkError> {
        self.compare().await?;
        self.tidy().await?;
        let unparked = self.unpark().await?;
        for round in 0..ROUNDS {
            let mut tx = self.db.begin().await?;
            let mut chores = self.machine.chores(&mut tx, self.now()).await?;
            tx.commit().await?;
            chores.ops = self.own_first(chores.ops).await?;
            let requests = self.not_away(std::mem::take(&mut chores.fetch_requests)).await?;
            chores.fetch_requests = requests.iter().map(|(group, _)| *group).collect();
            if chores.is_empty() {
                return Ok(unparked || round > 0);
            }
            for (group, from) in chores.fetch_ops {
                self.fetch_ops(group, from).await?;
            }
            for (group, home) in requests {
                self.fetch_requests_of(group, &home).await?;
            }
            let mut refused = None;
            waits_alone(self.provide(chores.needs).await, &mut refused)?;
            if let Some(keys) = chores.keys {
                waits_alone(self.upload(&keys).await, &mut refused)?;
            }
            // Before the ops: a use of a link is told before it is one.
            for batch in &chores.batches {
                waits_alone(self.post_chore(batch).await, &mut refused)?;
            }
            for (group, op) in chores.ops {
                waits_alone(self.post_chore_op(group, OpBytes(op)).await, &mut refused)?;
            }
            if let Some(error) = refused {
                return Err(error);
            }
        }
        Ok(true)
    }

    async fn upload(&self, keys: &UploadKeys) -> Result<(), SdkError> {
        let count = self.http.upload_keys(keys).await?;
        let mut tx = self.db.begin().await?;
        self.machine.uploaded(&mut tx, self.now(), count).await?;
        Ok(tx.commit().await?)
    }

    /// Lets go of what is too old, and says which chains this device holds, once an hour.
    async fn tidy(&self) -> Result<(), SdkError> {
        let (now, last) = (self.now(), self.tidied_ms.load(Ordering::Relaxed));
        if now.0 < last.saturating_add(TIDY_EVERY_MS) {
            return Ok(());
        }
        self.tidied_ms.store(now.0, Ordering::Relaxed);
        let mut tx = self.db.begin().await?;
        let in_vain = self.machine.expire(&mut tx, now).await?;
        self.keep(&mut tx, in_vain).await?;
        tx.commit().await?;
        self.report_keys().await
    }

    /// Tells the server which chains are held, and begins a new one where it was asked for.
    async fn report_keys(&self) -> Result<(), SdkError> {
        let me = self.me().record.member_id;
        for roster in self.rosters().await? {
            if roster.closed() || roster.member(&me).is_none() {
                continue;
            }
            let group = roster.group();
            let mut tx = self.db.begin().await?;
            if self.machine.offer(&mut tx, group).await?.is_some() {
                continue;
            }
            let report = self.machine.key_report(&mut tx, group).await?;
            drop(tx);
            let asked = match self.http.report_sender_keys(group, &report).await {
                Ok(noted) => noted.rotate_asked_ms,
                // Not in it any more, or not yet: there is nothing to tell.
                Err(CallError::Refused { status: 403 | 404, .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut tx = self.db.begin().await?;
            self.machine.reported(&mut tx, group, &report, asked).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Fetches what is needed, and teaches it to the machine; of servers that do not answer nothing.
    pub(super) async fn provide(&self, needs: Needs) -> Result<(), SdkError> {
        let mut away = BTreeSet::new();
        for accounts in needs.accounts.chunks(ACCOUNTS_AT_ONCE) {
            let (mut answers, mut broken) = (Vec::with_capacity(accounts.len()), None);
            let mut unanswered = Vec::new();
            for few in accounts.chunks(CALLS_AT_ONCE) {
                let (in_vain, few): (Vec<_>, Vec<_>) =
                    few.iter().partition(|account| away.contains(account.server()));
                unanswered.extend(in_vain.into_iter().cloned());
                let asked = join_all(few.iter().map(|account| self.http.account(account))).await;
                for (account, answer) in few.into_iter().zip(asked) {
                    let is_own = account.server() == self.me().account.server();
                    let answer = match answer {
                        Ok(answer) => Some(answer),
                        Err(CallError::Refused { status: 404, .. }) => None,
                        // Who is there holds up nobody, and is asked for again later: whatever his server
                        // says, or this one's operator of that.
                        Err(error) if !is_own && is_said_of_another(&error) => {
                            if error.is_of_another() {
                                away.insert(account.server());
                            }
                            unanswered.push(account.clone());
                            continue;
                        }
                        Err(error) => {
                            broken = Some(error);
                            continue;
                        }
                    };
                    answers.push((account.clone(), answer));
                }
                if broken.is_some() {
                    break;
                }
            }
            let mut tx = self.db.begin().await?;
            let freed = self.machine.learn_all(&mut tx, self.now(), &answers).await?;
            self.keep(&mut tx, freed).await?;
            let freed = self.machine.asked_in_vain(&mut tx, self.now(), &unanswered).await?;
            self.keep(&mut tx, freed).await?;
            tx.commit().await?;
            if let Some(error) = broken {
                return Err(error.into());
            }
        }
        for devices in needs.claims.chunks(MAX_CLAIMS) {
            let keys = self.http.claim_keys(devices.to_vec()).await?;
            let mut tx = self.db.begin().await?;
            self.machine.claimed(&mut tx, self.now(), devices, &keys).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// A batch without messages: what is not accepted comes with the next chores.
    async fn post_chore(&self, batch: &Batch) -> Result<(), SdkError> {
        match self.post(batch).await {
            Ok(_) => Ok(()),
            Err(SdkError::Call(CallError::Stale { ops, .. })) => {
                self.take_in(batch.group, &ops).await
            }
            Err(SdkError::Call(CallError::Refused { errcode, error, .. })) => {
                tracing::debug!(errcode, error, "the server refused a batch of chores");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Ops in the order in which they are posted: a group that another server keeps holds up none of this
    /// one's, and one that cannot be told now is left out.
    async fn own_first(
        &self,
        ops: Vec<(GroupId, Vec<u8>)>,
    ) -> Result<Vec<(GroupId, Vec<u8>)>, SdkError> {
        let mut own = Vec::new();
        let mut others = Vec::new();
        for (group, op) in ops {
            let home = self.home(group).await?;
            if self.untold.waits(group, &home, self.now()) {
                continue;
            }
            let is_own = home == self.me().account.server();
            if is_own { &mut own } else { &mut others }.push((group, op));
        }
        own.append(&mut others);
        Ok(own)
    }

    /// The server that keeps a group: that of who made it.
    pub(crate) async fn home(&self, group: GroupId) -> Result<String, SdkError> {
        let mut tx = self.db.begin().await?;
        let create = self.machine.create_of(&mut tx, group).await?;
        let account = create.and_then(|create| create.account.parse::<AccountId>().ok());
        Ok(account.as_ref().unwrap_or(&self.me().account).server().to_owned())
    }

    /// An op that the machine signed by itself: an `add` of one who may come in.
    async fn post_chore_op(&self, group: GroupId, op: OpBytes) -> Result<(), SdkError> {
        let home = self.home(group).await?;
        if self.untold.waits(group, &home, self.now()) {
            return Ok(());
        }
        let posted = if home == self.me().account.server() {
            self.http.post_op(group, &op).await
        } else {
            let asked = timeout(OTHERS, self.http.post_op(group, &op)).await;
            asked.unwrap_or_else(|_| {
                let error = format!("{home} does not answer");
                Err(CallError::Elsewhere { error, since: None })
            })
        };
        match posted {
            Ok(_) => self.take_in(group, &[op]).await,
            Err(CallError::Stale { ops, .. }) => self.take_in(group, &ops).await,
            Err(error) if error.is_of_another() => {
                tracing::warn!(%error, "a group of another server is not told of something yet");
                self.untold.is_away(&home, self.now());
                Ok(())
            }
            Err(CallError::Refused { status, errcode, error, .. }) => {
                tracing::debug!(errcode, error, "the server refused an op");
                if status == 404 {
                    self.untold.is_outside(group, self.now());
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// [`install`](Self::install) in a transaction of its own.
    pub(super) async fn take_in(&self, group: GroupId, ops: &[OpBytes]) -> Result<(), SdkError> {
        let mut tx = self.db.begin().await?;
        self.install(&mut tx, group, ops).await?;
        Ok(tx.commit().await?)
    }
}

/// Whether the server refused because it has lost ops that are known here.
fn is_behind(batch: &Batch, error: &CallError) -> bool {
    match error {
        CallError::Stale { epoch, .. } => *epoch < batch.epoch,
        CallError::Refused { status, .. } => *status == 404,
        CallError::RetryAfter { .. }
        | CallError::Full(_)
        | CallError::Unreachable(_)
        | CallError::Unknown(_)
        | CallError::Elsewhere { .. }
        | CallError::Foreign { .. } => false,
    }
}

/// Whether what had to be asked of another server came to nothing by its doing, or its operator's or this one's.
pub(super) fn is_said_of_another(error: &CallError) -> bool {
    // A session that is over is this client's own.
    error.is_of_another() || matches!(error, CallError::Refused { status, .. } if *status != 401)
}

/// What a part came to: that it was refused for now is kept, and the others go on.
fn waits_alone<T>(
    part: Result<T, SdkError>,
    refused: &mut Option<SdkError>,
) -> Result<(), SdkError> {
    match part {
        Ok(_) => Ok(()),
        Err(error @ SdkError::Call(CallError::RetryAfter { .. })) => {
            refused.get_or_insert(error);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

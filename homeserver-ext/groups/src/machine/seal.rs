//! From what is to be said to bytes to post (protocol §4.2, send order).
//!
//! Moved chain, counted generation and finished bytes stand in one transaction; nothing leaves
//! before that is committed, and a retry sends the same bytes.

use causeway_protocol::{
    content::Plaintext,
    envelope::{Kind, MAX_PAYLOAD, Recipient, Submission},
    ids::{Epoch, GroupId, Timestamp},
    olm_plaintext::OlmPlaintext,
    roster::{Roster, is_dropped_in_channel},
};
use causeway_store::Tx;

use super::{
    Batch, Machine, MachineError, Needs, Outgoing, SealError,
    needs::{HARD_LIMIT, Plan, Reach},
    work::Work,
};
use crate::{
    entropy,
    schemes::sender_keys::{ChainSecrets, OwnChain, Seed, Suite},
    storage::{accounts::KnownDevice, chains, chores, groups as rows},
};

impl Machine {
    /// Seals messages, at most 1,000, for everyone who is in the group now: begins a new chain if
    /// that is due, gives it to whoever lacks it, and moves it on. Nothing may be posted before
    /// `tx` is committed with the batch in it.
    ///
    /// # Errors
    /// [`SealError`]; the transaction is then to be dropped.
    pub async fn seal(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
        items: &[Outgoing],
    ) -> Result<Batch, SealError> {
        let mut work = Work::new(self, tx, now);
        let batch = work.seal(group, items).await?;
        work.finish().await?;
        Ok(batch)
    }

    /// The server has every envelope of `batch`. Only needed where [`Batch::has_keys`].
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn accepted(&self, tx: &mut Tx, batch: &Batch) -> Result<(), MachineError> {
        for id in batch.direct() {
            chores::sent(tx.conn(), &id).await?;
        }
        Ok(())
    }

    /// Begins a new chain with the next message: the chain's secrets may be known to others.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn rotate(&self, tx: &mut Tx, group: GroupId) -> Result<(), MachineError> {
        Ok(rows::set_rotate(tx.conn(), &group, true).await?)
    }
}

impl Work<'_> {
    pub(super) async fn seal(
        &mut self,
        group: GroupId,
        items: &[Outgoing],
    ) -> Result<Batch, SealError> {
        let most = usize::try_from(HARD_LIMIT).unwrap_or(0);
        if items.len() > most {
            return Err(SealError::TooMany(items.len(), most));
        }
        let Plan { log, suite, chain, lacking } = self.plan(group, items.len()).await?;
        let head = log.head();
        let me = self.machine.me().device();
        let barred = items.iter().any(|i| is_dropped_in_channel(head, &me, i.content.number()));
        if barred {
            return Err(SealError::Channel);
        }
        let (mut reached, mut needs) = (Vec::new(), Needs::default());
        for device in &lacking {
            match self.reach(&log, device).await? {
                Reach::Session(known) => reached.push(known),
                Reach::Unknown(_) | Reach::NoSession(_) => {
                    self.need(&log, device, &mut needs).await?;
                }
                Reach::Never => {}
            }
        }
        // Nothing was begun: a roster sync goes on in this transaction.
        if !needs.is_empty() {
            return Err(SealError::Unprepared(needs));
        }
        let mut chain = match chain {
            Some(chain) => chain,
            None => self.begin_chain(group, suite, head.epoch()).await?,
        };
        for known in reached {
            self.distribute(group, head, &chain, &known).await?;
        }
        let direct = self.finished(group, head).await?;
        let mut sealed = Vec::with_capacity(items.len());
        for (position, item) in items.iter().enumerate() {
            let submission = self.seal_one(position, item, head, &mut chain)?;
            sealed.push((item.client_id, vec![submission]));
        }
        let vault = self.vault();
        chains::save_own(self.conn(), vault, &group, &chain).await.map_err(MachineError::from)?;
        self.sealed = true;
        self.touch(&group).await?;
        Ok(Batch::new(head, direct, sealed))
    }

    fn seal_one(
        &self,
        position: usize,
        item: &Outgoing,
        head: &Roster,
        chain: &mut OwnChain,
    ) -> Result<Submission, SealError> {
        let plaintext = Plaintext {
            sent_at: self.now,
            ttl_s: item.ttl_s,
            client_id: item.client_id,
            content: item.content.clone(),
        };
        let ttl_ms = plaintext.ttl_ms(head.policy().ttl_s);
        let text = zeroize::Zeroizing::new(plaintext.to_bytes());
        let too_large = |bytes| SealError::TooLarge(position, bytes, MAX_PAYLOAD);
        if text.len() > MAX_PAYLOAD {
            return Err(too_large(text.len()));
        }
        let salt = entropy::bytes().map_err(MachineError::from)?;
        let sealed = chain.seal(&head.hash(), salt, &text);
        let payload = sealed.map_err(|_| SealError::TooMany(position, position))?;
        if payload.len() > MAX_PAYLOAD {
            return Err(too_large(payload.len()));
        }
        Ok(self.submission(head, Kind::Message, Recipient::Broadcast, ttl_ms, payload))
    }

    async fn begin_chain(
        &mut self,
        group: GroupId,
        suite: Suite,
        epoch: Epoch,
    ) -> Result<OwnChain, MachineError> {
        let secrets = ChainSecrets {
            root: Seed::new(*entropy::secret()?),
            signing: entropy::secret()?,
            rand: entropy::bytes()?,
        };
        rows::set_rotate(self.conn(), &group, false).await?;
        let sender = self.machine.me().record.device_id;
        Ok(OwnChain::new(suite, group, sender, epoch, self.now, secrets))
    }

    /// Gives `device` the chain from here on.
    async fn distribute(
        &mut self,
        group: GroupId,
        head: &Roster,
        chain: &OwnChain,
        known: &KnownDevice,
    ) -> Result<(), MachineError> {
        let (vault, now) = (self.vault(), self.now);
        let device = known.record.device_id;
        let Some(distribution) = chain.distribution(device, head.hash(), now) else {
            return Ok(());
        };
        let Ok(bytes) = OlmPlaintext::Distribution(distribution).to_bytes() else {
            return Ok(());
        };
        if self.send_direct(group, known, Kind::KeyDistribution, &bytes).await? {
            let id = chain.id();
            chains::give(self.conn(), vault, &group, &id, &device, &bytes, now).await?;
        }
        Ok(())
    }
}

//! Rows become envelopes that are kept, by the commit that moves the ratchet.

use causeway_groups::{
    machine::{Batch, Outgoing, SealError, ToSeal},
    sdk::Sending,
};
use causeway_store::{Script, Tx};
use ruma::EventId;

use super::{InGroup, Round, StepError, Stored, Way, relations, steps, to_native};
use crate::domain::MessageRef;

impl Way<'_> {
    /// Seals and keeps, after asking the server for what is lacking.
    pub(super) async fn seal(
        &self,
        mut tx: Tx,
        to_seal: ToSeal,
        rows: &[Stored<InGroup>],
    ) -> Result<Result<Sending, Round>, StepError> {
        let Self { spine, group, .. } = self;
        let items = self.all_outgoing(&mut tx, rows).await?;
        let mut sealed = self.seal_what_fits(&mut tx, to_seal, &items).await?;
        if let Err(SealError::Unprepared(_)) = sealed {
            tx.commit().await?;
            if let Err(error) = spine.native.prepare(*group).await {
                return self.failed(rows, None, error).await.map(Err);
            }
            spine.steps.reached(steps::Step::Prepared).await;
            tx = spine.db.begin().await?;
            let to_seal = self.look(&mut tx).await?;
            sealed = self.seal_what_fits(&mut tx, to_seal, &items).await?;
        }
        let sealed = match sealed {
            Ok(sealed) => sealed,
            Err(error) => return self.unsealed(tx, rows, error).await.map(Err),
        };
        self.keep(tx, rows, sealed, steps::Step::Sealing).await.map(Ok)
    }

    /// Keeps what was sealed of the first of these rows, and ends the transaction.
    pub(super) async fn keep(
        &self,
        tx: Tx,
        rows: &[Stored<InGroup>],
        (batch, mut script): (Batch, Script),
        step: steps::Step,
    ) -> Result<Sending, StepError> {
        let sealed: Vec<i64> = rows.iter().take(batch.messages.len()).map(|row| row.id).collect();
        self.spine.native.keep_sending_last(&mut script, &batch, &sealed)?;
        self.spine.steps.reached(step).await;
        let kept = tx.commit_with(script).await?;
        Ok(Sending::kept(batch, sealed, &kept)?)
    }

    /// Seals all, or the first alone: many may need a new chain where one does not.
    pub(super) async fn seal_what_fits(
        &self,
        tx: &mut Tx,
        to_seal: ToSeal,
        items: &[Outgoing],
    ) -> Result<Result<(Batch, Script), SealError>, StepError> {
        let (machine, now) = (self.spine.native.machine(), self.spine.now());
        match machine.seal_looked(tx, now, to_seal, items).await? {
            Err(SealError::Unprepared(_)) if items.len() > 1 => {
                let to_seal = self.look(tx).await?;
                let first = items.get(..1).unwrap_or(items);
                Ok(machine.seal_looked(tx, now, to_seal, first).await?)
            }
            sealed => Ok(sealed),
        }
    }

    /// Looks once more at what is sealed by.
    async fn look(&self, tx: &mut Tx) -> Result<ToSeal, StepError> {
        let mut script = Script::default();
        self.spine.native.look(&mut script, self.group);
        let mut rows = script.run(tx.conn()).await?;
        Ok(self.spine.native.looked(&mut rows, self.group)?.1)
    }

    /// What is to be sealed of rows that go out together.
    pub(super) async fn all_outgoing(
        &self,
        tx: &mut Tx,
        rows: &[Stored<InGroup>],
    ) -> Result<Vec<Outgoing>, StepError> {
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            items.push(self.outgoing(tx, row, rows).await?);
        }
        Ok(items)
    }

    async fn outgoing(
        &self,
        tx: &mut Tx,
        row: &Stored<InGroup>,
        rows: &[Stored<InGroup>],
    ) -> Result<Outgoing, StepError> {
        let client_id = row.entry.txn.parse().map_err(|_| StepError::row("outbox.txn"))?;
        let found = match &row.entry.deed {
            InGroup::Say(relayed) => match relayed.said.about() {
                Some(event) => self.message_of(tx, event, rows).await?,
                None => None,
            },
            InGroup::Announce(..) | InGroup::Notice(_) => None,
        };
        let content = to_native::content(&row.entry.deed, found);
        Ok(Outgoing { client_id, ttl_s: 0, content })
    }

    /// The message that says what `event` says, also if it goes out with this one.
    async fn message_of(
        &self,
        tx: &mut Tx,
        event: &EventId,
        rows: &[Stored<InGroup>],
    ) -> Result<Option<MessageRef>, StepError> {
        let device = self.spine.native.me().record.device_id;
        let round = rows.iter().filter_map(|row| {
            let InGroup::Say(relayed) = &row.entry.deed else { return None };
            let client_id = row.entry.txn.parse().ok()?;
            Some((&*relayed.event_id, MessageRef { device, client_id }))
        });
        Ok(relations::message_of(tx.conn(), round, event).await?)
    }
}

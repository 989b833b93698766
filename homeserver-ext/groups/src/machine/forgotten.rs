//! A group that is over can be forgotten: nothing of it is kept, and what comes of it still is passed
//! over. Whoever is added to it again begins anew.

use causeway_protocol::{
    api::StreamRow,
    envelope::Kind,
    ids::{Epoch, GroupId},
    roster::Op,
};
use causeway_store::Tx;

use super::{Machine, MachineError, OpError, work::Work};
use crate::storage::forgotten as rows;

impl Machine {
    /// Forgets a group. Whether it is over for this account is for the caller to know: a server that lost
    /// it, or says nothing, has no op to show for it.
    ///
    /// # Errors
    /// [`OpError::UnknownGroup`].
    pub async fn forget(&self, tx: &mut Tx, group: GroupId) -> Result<(), OpError> {
        let head = self.roster(tx, group).await?.ok_or(OpError::UnknownGroup(group))?;
        rows::forget(tx.conn(), &group, head.epoch()).await.map_err(MachineError::from)?;
        self.logs().remove(&group);
        Ok(())
    }

    /// Whether a group was forgotten when it stood at `epoch`, or later.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn is_forgotten(
        &self,
        tx: &mut Tx,
        group: GroupId,
        epoch: Epoch,
    ) -> Result<bool, MachineError> {
        let forgotten = rows::epoch(tx.conn(), &group).await?;
        Ok(forgotten.is_some_and(|forgotten| epoch <= forgotten))
    }
}

impl Work<'_> {
    /// Whether a row is of a group that was forgotten after what it says.
    pub(super) async fn is_of_forgotten(&mut self, row: &StreamRow) -> Result<bool, MachineError> {
        let envelope = &row.envelope;
        if self.group(&envelope.group).await?.is_some() {
            return Ok(false);
        }
        let epoch = match envelope.kind {
            Kind::Roster => Op::parse(&envelope.payload).ok().map(|op| op.epoch()),
            // The server says these of what was.
            Kind::Join | Kind::Expired => Some(Epoch(0)),
            Kind::Message
            | Kind::Fanout
            | Kind::KeyDistribution
            | Kind::KeyRequest
            | Kind::KeyAck
            | Kind::Direct
            | Kind::Call
            | Kind::CallChanged => Some(envelope.epoch),
        };
        let Some(epoch) = epoch else { return Ok(false) };
        self.machine.is_forgotten(self.tx, envelope.group, epoch).await
    }
}

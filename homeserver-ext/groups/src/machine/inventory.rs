//! What this device says of its keys to the server, which can know nothing of them itself.

use causeway_protocol::{
    api::PutSenderKeys,
    ids::{GroupId, Timestamp},
};
use causeway_store::Tx;

use super::{Machine, MachineError, schemes};
use crate::storage::failures;

/// Keys of one report.
const MAX_KEYS: usize = 1_000;

impl Machine {
    /// Body of `PUT groups/{id}/sender-keys`: names and counts, nothing secret.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn key_report(
        &self,
        tx: &mut Tx,
        group: GroupId,
    ) -> Result<PutSenderKeys, MachineError> {
        let mut keys = match self.roster(tx, group).await? {
            Some(head) => schemes::report(self, tx.conn(), &head).await?,
            None => Vec::new(),
        };
        keys.truncate(MAX_KEYS);
        let failures = failures::of_group(tx.conn(), &group).await?;
        Ok(PutSenderKeys { keys, failures })
    }

    /// The server has taken `report`. Where everybody was asked at `asked` to rotate, a chain from
    /// before goes with the next message.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn reported(
        &self,
        tx: &mut Tx,
        group: GroupId,
        report: &PutSenderKeys,
        asked: Option<Timestamp>,
    ) -> Result<(), MachineError> {
        failures::told(tx.conn(), &group, &report.failures).await?;
        let Some(asked) = asked else { return Ok(()) };
        let Some(head) = self.roster(tx, group).await? else { return Ok(()) };
        if schemes::is_from_before(self, tx.conn(), &head, asked).await? {
            self.rotate(tx, group).await?;
        }
        Ok(())
    }
}

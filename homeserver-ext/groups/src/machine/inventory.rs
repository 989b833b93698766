//! What this device says of its chains to the server, which can know nothing of them itself.

use causeway_protocol::{
    api::{PutSenderKeys, SenderKeyReport},
    ids::{ChainId, GroupId, Timestamp},
};
use causeway_store::Tx;

use super::{Machine, MachineError};
use crate::storage::{chains, failures, groups as rows};

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
        let mut keys = Vec::new();
        if let Some(chain) = chains::own(tx.conn(), self.vault(), &group).await? {
            keys.push(SenderKeyReport {
                tag: tag(&chain.id()),
                sender: self.me().record.device_id,
                epoch: chain.epoch(),
                next_index: Some(chain.next_index()),
                unacknowledged: chains::unacknowledged(tx.conn(), &chain.id()).await?,
            });
        }
        for sender in chains::senders(tx.conn(), &group).await? {
            let held = chains::held(tx.conn(), self.vault(), &group, &sender, &[]).await?;
            keys.extend(held.iter().map(|chain| SenderKeyReport {
                tag: tag(&chain.id()),
                sender,
                epoch: chain.epoch(),
                next_index: None,
                unacknowledged: 0,
            }));
        }
        keys.truncate(1_000);
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
        let chain = chains::own(tx.conn(), self.vault(), &group).await?;
        if chain.is_some_and(|chain| chain.created() < asked) {
            rows::set_rotate(tx.conn(), &group, true).await?;
        }
        Ok(())
    }
}

fn tag(chain: &ChainId) -> Vec<u8> {
    chain.as_bytes().iter().take(4).copied().collect()
}

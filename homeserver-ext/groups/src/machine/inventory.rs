//! What this device says of its chains to the server, which can know nothing of them itself.

use causeway_protocol::{
    api::{PutSenderKeys, SenderKeyReport},
    ids::{ChainId, GroupId, Timestamp},
};
use causeway_store::Tx;

use super::{Machine, MachineError};
use crate::storage::{chains, groups as rows};

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
        Ok(PutSenderKeys { keys, failures: std::collections::BTreeMap::new() })
    }

    /// Everybody was asked at `asked` to rotate: a chain from before goes with the next message.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn rotate_older_than(
        &self,
        tx: &mut Tx,
        group: GroupId,
        asked: Timestamp,
    ) -> Result<(), MachineError> {
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

//! The chains of a group: their names, and how far they came.

use causeway_protocol::{
    api::SenderKeyReport,
    ids::{ChainId, GroupId, Timestamp},
};
use causeway_store::Conn;

use crate::{
    machine::{Machine, MachineError},
    storage::chains,
};

/// The own chain first, then those of others.
pub(in crate::machine) async fn report(
    machine: &Machine,
    conn: &mut Conn,
    group: GroupId,
) -> Result<Vec<SenderKeyReport>, MachineError> {
    let mut keys = Vec::new();
    if let Some(chain) = chains::own(conn, machine.vault(), &group).await? {
        keys.push(SenderKeyReport {
            tag: tag(&chain.id()),
            sender: machine.me().record.device_id,
            epoch: chain.epoch(),
            next_index: Some(chain.next_index()),
            unacknowledged: chains::unacknowledged(conn, &chain.id()).await?,
        });
    }
    for sender in chains::senders(conn, &group).await? {
        let held = chains::held(conn, machine.vault(), &group, &sender, &[]).await?;
        keys.extend(held.iter().map(|chain| SenderKeyReport {
            tag: tag(&chain.id()),
            sender,
            epoch: chain.epoch(),
            next_index: None,
            unacknowledged: 0,
        }));
    }
    Ok(keys)
}

/// Whether the own chain was begun before `asked`.
pub(in crate::machine) async fn is_from_before(
    machine: &Machine,
    conn: &mut Conn,
    group: GroupId,
    asked: Timestamp,
) -> Result<bool, MachineError> {
    let chain = chains::own(conn, machine.vault(), &group).await?;
    Ok(chain.is_some_and(|chain| chain.created() < asked))
}

fn tag(chain: &ChainId) -> Vec<u8> {
    chain.as_bytes().iter().take(4).copied().collect()
}

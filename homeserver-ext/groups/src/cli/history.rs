//! What came in, in its order, and how far it was shown.
//!
//! A line is stored by the commit that opened its message, and shown afterwards. `row` rises with
//! each line, so a reader that was killed says how far it came (`tail --since`) and misses nothing.

use std::collections::{BTreeMap, btree_map::Entry};

use causeway_protocol::ids::GroupId;
use causeway_store::{Db, Tx};
use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

use super::{
    exit::Failure,
    line::{Line, Message, Said},
};
use crate::{
    machine::Received,
    sdk::{Client, Keep, KeepError},
    storage::{self, history, mirrors},
    vault::Vault,
};

/// Keeps what came in, with the ratchet that opened it.
pub(super) struct History;

impl Keep for History {
    fn keep<'a>(
        &'a self,
        client: &'a Client,
        tx: &'a mut Tx,
        received: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        Box::pin(async move {
            let mut row = history::last(tx.conn()).await?;
            let mut names = BTreeMap::new();
            for Received { group, what, .. } in received {
                let Some(mut what) = Said::from_what(what) else { continue };
                name_mirrors(tx, group, &mut what).await?;
                let group_name = match names.entry(group) {
                    Entry::Occupied(name) => name.into_mut(),
                    Entry::Vacant(name) => {
                        let roster = client.machine().roster(tx, group).await?;
                        name.insert(roster.map_or_else(String::new, |r| r.policy().name.clone()))
                    }
                };
                row += 1;
                let group_name = group_name.clone();
                let line = Line { row, group, group_name, at_ms: client.now(), what };
                let json = Zeroizing::new(serde_json::to_vec(&line)?);
                let (vault, at) = (client.vault(), line.at_ms);
                history::insert(tx.conn(), vault, row, &group, at, &json).await?;
            }
            Ok(())
        })
    }
}

/// Remembers how the bridge calls Matrix users and who of them reads, and calls them so where it
/// speaks for them.
async fn name_mirrors(tx: &mut Tx, group: GroupId, what: &mut Said) -> Result<(), storage::Error> {
    match what {
        Said::Mirrors { present, gone } => {
            for mirror in present {
                mirrors::put(tx.conn(), &group, &mirror.id, &mirror.name).await?;
            }
            for user in gone {
                mirrors::gone(tx.conn(), &group, user).await?;
            }
        }
        // One that was let in tells anew who reads.
        Said::Roster(roster) if roster.lets_bridge_in() => {
            mirrors::all_gone(tx.conn(), &group).await?;
        }
        Said::Message(Message { mirror: Some(mirror), .. }) => {
            let name = mirrors::name(tx.conn(), &group, &mirror.id).await?;
            mirror.name = name.unwrap_or_else(|| mirror.id.clone());
        }
        Said::Message(_)
        | Said::Roster(_)
        | Said::JoinAsked { .. }
        | Said::Expired { .. }
        | Said::Failed { .. }
        | Said::Fork { .. }
        | Said::Identity(_)
        | Said::Offered { .. }
        | Said::Unknown { .. } => {}
    }
    Ok(())
}

/// The next lines that were not shown yet, in order; none at the end.
pub(super) async fn unshown(
    db: &Db,
    vault: &Vault,
    group: Option<GroupId>,
) -> Result<Vec<Line>, Failure> {
    let lines = history::unshown(db.read().await?.conn(), vault, group.as_ref()).await?;
    lines.iter().map(|json| serde_json::from_slice(json).map_err(Failure::failed)).collect()
}

/// The next lines after `row`, shown or not, in order; none at the end.
pub(super) async fn after(
    db: &Db,
    vault: &Vault,
    group: Option<GroupId>,
    row: i64,
) -> Result<Vec<Line>, Failure> {
    let lines = history::after(db.read().await?.conn(), vault, group.as_ref(), row).await?;
    lines.iter().map(|json| serde_json::from_slice(json).map_err(Failure::failed)).collect()
}

/// These lines were shown; one commit.
pub(super) async fn mark_shown(db: &Db, lines: &[Line]) -> Result<(), Failure> {
    let last: BTreeMap<GroupId, i64> = lines.iter().map(|line| (line.group, line.row)).collect();
    let mut tx = db.begin().await?;
    for (group, row) in last {
        history::mark_shown(tx.conn(), &group, row).await?;
    }
    Ok(tx.commit().await?)
}

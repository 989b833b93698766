//! What the operator may see.

use causeway_protocol::{
    api::GroupHead,
    ids::{GroupId, Timestamp},
};
use causeway_store::Db;

use crate::storage::{
    self,
    events::{self, Totals},
    groups,
};

/// Groups of this server after `after`, by id, at most `limit`. A row that cannot be read is logged,
/// and ends the list.
pub(crate) async fn groups(
    db: &Db,
    after: Option<GroupId>,
    limit: u32,
) -> Result<Vec<GroupHead>, storage::Error> {
    let mut read = db.read().await?;
    match groups::all(read.conn(), after, limit).await {
        Ok(groups) => Ok(groups.into_iter().map(|group| group.head).collect()),
        Err(error @ storage::Error::Row(_)) => {
            tracing::error!(%error, "a group's row cannot be read");
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// How much happened, and of how many groups and members.
pub(crate) async fn totals(
    db: &Db,
    now: Timestamp,
) -> Result<(Totals, (u64, u64)), storage::Error> {
    let mut read = db.read().await?;
    Ok((events::totals(read.conn(), now).await?, groups::count(read.conn()).await?))
}

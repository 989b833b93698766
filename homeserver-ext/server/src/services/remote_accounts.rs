//! What other servers said of their accounts.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::AccountAnswer,
    ids::{AccountId, DeviceId, Timestamp},
};
use causeway_store::Db;

use crate::storage::{self, servers};

/// What was said last of an account, and when that was asked.
pub(crate) async fn known(
    db: &Db,
    account: &AccountId,
) -> Result<Option<(AccountAnswer, Timestamp)>, storage::Error> {
    servers::account(db.read().await?.conn(), account).await
}

/// Keeps what was said now, which was verified.
pub(crate) async fn keep(
    db: &Db,
    now: Timestamp,
    said: &AccountAnswer,
) -> Result<(), storage::Error> {
    let mut tx = db.begin_growing().await?;
    servers::keep_account(tx.conn(), now, said).await?;
    Ok(tx.commit().await?)
}

/// On which other server each of these devices is, as far as that is known.
pub(crate) async fn servers_of(
    db: &Db,
    devices: &[DeviceId],
) -> Result<BTreeMap<String, Vec<DeviceId>>, storage::Error> {
    servers::servers_of(db.read().await?.conn(), devices).await
}

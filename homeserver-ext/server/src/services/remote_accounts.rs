//! What other servers said of their accounts.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::AccountAnswer,
    device::{DeviceOf, verify_account},
    envelope::Sender,
    ids::{AccountId, DeviceId, Timestamp},
};
use causeway_store::Db;

use crate::storage::{
    self,
    devices::{self, Device},
    servers,
};

/// What was said last of an account, and when that was asked.
pub(crate) async fn known(
    db: &Db,
    account: &AccountId,
) -> Result<Option<(AccountAnswer, Timestamp)>, storage::Error> {
    servers::account(db.read().await?.conn(), account).await
}

/// Accounts of one server that are kept though no group has named them: beyond that the oldest give way. Whoever
/// names one shows it again, or it is asked for.
const MAX_UNNAMED: u32 = 4_096;

/// Keeps what was said now, which was verified; how many others of its server gave way.
pub(crate) async fn keep(
    db: &Db,
    now: Timestamp,
    said: &AccountAnswer,
) -> Result<u64, storage::Error> {
    let mut tx = db.begin_growing().await?;
    servers::keep_account(tx.conn(), now, said).await?;
    servers::shared::know_named(tx.conn(), &said.list).await?;
    let server = said.list.account.server();
    let gone = servers::ends::forget_oldest(tx.conn(), server, MAX_UNNAMED).await?;
    tx.commit().await?;
    metrics::counter!("causeway_servers_forgotten_total", "what" => "account").increment(gone);
    Ok(gone)
}

/// What became of accounts that a server shows.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Shown {
    /// How many do not verify, are older than what is known, or of another identity.
    pub(crate) wrong: usize,
    /// How many others gave way.
    pub(crate) gone: u64,
}

/// On which other server each of these devices is, as far as that is known.
pub(crate) async fn servers_of(
    db: &Db,
    devices: &[DeviceId],
) -> Result<BTreeMap<String, Vec<DeviceId>>, storage::Error> {
    servers::servers_of(db.read().await?.conn(), devices).await
}

/// Keeps what a server shows of accounts, as far as it verifies, is not older than what is known, and is of
/// the same identity.
pub(crate) async fn keep_shown(
    db: &Db,
    now: Timestamp,
    shown: impl IntoIterator<Item = AccountAnswer>,
) -> Result<Shown, storage::Error> {
    let mut came = Shown::default();
    for said in shown {
        let known = known(db, &said.list.account).await?.map(|(known, _)| known.list);
        let fits = known.as_ref().is_none_or(|known| {
            known.member_id == said.list.member_id && known.version <= said.list.version
        });
        if !fits || verify_account(&said.list, &said.devices).is_err() {
            came.wrong += 1;
        } else if known.is_none_or(|known| known.version < said.list.version) {
            came.gone += keep(db, now, &said).await?;
        }
    }
    Ok(came)
}

/// A device of another server's account that a group here names, or did.
pub(crate) async fn device(db: &Db, who: &Sender) -> Result<Option<Device>, storage::Error> {
    let device = devices::by_id(db.read().await?.conn(), &who.device).await?;
    Ok(device.filter(|device| device.account == who.account))
}

/// Likewise, or one that no group names yet and its server has shown: it is noted.
pub(crate) async fn note_device(db: &Db, who: &Sender) -> Result<Option<Device>, storage::Error> {
    if let Some(device) = device(db, who).await? {
        return Ok(Some(device));
    }
    let Some((shown, _)) = known(db, &who.account).await? else { return Ok(None) };
    let device = DeviceOf { member_id: shown.list.member_id, device_id: who.device };
    let mut tx = db.begin_growing().await?;
    servers::know_device(tx.conn(), &who.account, &device).await?;
    tx.commit().await?;
    self::device(db, who).await
}

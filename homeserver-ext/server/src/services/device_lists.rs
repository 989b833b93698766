//! Device lists: replaced by a device of the account, or by the account's identity key alone.

use causeway_protocol::{
    api::AccountDevices,
    device::{Untrusted, verify_account},
    ids::Timestamp,
};
use causeway_store::Db;

use crate::{
    quota::{Shares, TooMany, UsedUp},
    sessions::Sessions,
    storage::{self, DeviceRow, accounts, devices, devices::Device},
};

/// Why a device list was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutDevicesError {
    /// It is of another account or identity than the caller's.
    #[error("the list is of another account or identity than the caller's")]
    NotYours,
    /// A mistake of the client.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// Fetch the newest, and sign a newer one: given, known.
    #[error("the list has version {0}, the newest is {1}")]
    Version(u32, u32),
    /// A device key can belong to one account only.
    #[error("a device of the list belongs to another account")]
    Taken,
    /// Again when it says.
    #[error(transparent)]
    UsedUp(#[from] UsedUp),
    /// Leave some out.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// When a list counts for its account.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// Before its records are looked at, which costs the most: its owner shows it.
    Shown,
    /// When all of it verifies: anybody may show what he has seen of it with records that are none.
    Verified,
}

/// Replaces the caller's device list; returns the devices that were logged out because it lacks
/// them. The same list again changes nothing.
pub(crate) async fn put(
    db: &Db,
    now: Timestamp,
    shares: (&Shares, &Sessions),
    caller: &Device,
    request: &AccountDevices,
) -> Result<Vec<DeviceRow>, PutDevicesError> {
    let list = &request.list;
    if list.account != caller.account || list.member_id != caller.member_id {
        return Err(PutDevicesError::NotYours);
    }
    Ok(replace(db, now, shares, request, Counts::Shown).await?.unwrap_or_default())
}

/// As [`put`], by nothing but the signature of the account's identity; none where the list was there.
pub(crate) async fn recover(
    db: &Db,
    now: Timestamp,
    shares: (&Shares, &Sessions),
    request: &AccountDevices,
) -> Result<Option<Vec<DeviceRow>>, PutDevicesError> {
    let list = &request.list;
    let mut read = db.read().await.map_err(storage::Error::from)?;
    let known = accounts::list(read.conn(), &list.account).await?;
    drop(read);
    if known.is_none_or(|known| known.member_id != list.member_id) {
        return Err(PutDevicesError::NotYours);
    }
    replace(db, now, shares, request, Counts::Verified).await
}

async fn replace(
    db: &Db,
    now: Timestamp,
    (shares, sessions): (&Shares, &Sessions),
    request: &AccountDevices,
    counts: Counts,
) -> Result<Option<Vec<DeviceRow>>, PutDevicesError> {
    let AccountDevices { list, devices: records } = request;
    let mut read = db.read().await.map_err(storage::Error::from)?;
    let known = accounts::list(read.conn(), &list.account).await?;
    drop(read);
    if known.as_ref().is_some_and(|known| known == list) {
        return Ok(None);
    }
    // Neither counts: whoever has a session, and not the identity key, must not use up what its
    // owner needs to come back.
    if let Some(known) = known.as_ref().filter(|known| list.version <= known.version) {
        return Err(PutDevicesError::Version(list.version, known.version));
    }
    list.verify()?;
    // Whoever has more already may still have fewer.
    if known.is_some_and(|known| list.devices.len() > known.devices.len()) {
        let others = list.devices.len().saturating_sub(1);
        shares.another_device(now, &list.account, others)?;
    }
    if counts == Counts::Shown {
        shares.list(now, &list.account)?;
    }
    let shown = request.clone();
    shares.check(&list.account, move || verify_account(&shown.list, &shown.devices)).await?;
    if counts == Counts::Verified {
        shares.list(now, &list.account)?;
    }

    let mut tx = db.begin().await.map_err(storage::Error::from)?;
    let known = accounts::list(tx.conn(), &list.account).await?;
    let known = known.ok_or(PutDevicesError::NotYours)?;
    if list.version <= known.version {
        return Err(PutDevicesError::Version(list.version, known.version));
    }
    accounts::set_list(tx.conn(), now, list).await?;
    devices::unlist_all(tx.conn(), &list.account).await?;
    for record in records {
        let row = devices::list(tx.conn(), &list.account, record).await?;
        row.ok_or(PutDevicesError::Taken)?;
    }
    sessions.change(&mut tx);
    let logged_out = devices::log_out_unlisted(tx.conn(), &list.account).await?;
    tx.commit().await.map_err(storage::Error::from)?;
    Ok(Some(logged_out))
}

//! One-time keys: brought by their device, claimed by others, each once.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::{ClaimedKeys, KeyCount, UploadKeys},
    device::Untrusted,
    ids::{DeviceId, Timestamp},
};
use causeway_store::{Db, Script};

use crate::{
    quota::{Shares, UsedUp},
    storage::{self, devices, devices::Device, keys, servers},
};

/// Unclaimed keys that are kept for one device.
pub(crate) const MAX_KEPT: u32 = 500;
/// Devices of one claim.
const MAX_CLAIM: usize = 1_000;
/// Devices of which keys are claimed in one transaction, so that others need not wait long: 0.3 ms each,
/// as measured with 1,000.
const CLAIMED: usize = 64;

/// Why keys were not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// A mistake of the client.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// A mistake of the client.
    #[error("the fallback key, and no other, must say that it is one")]
    Fallback,
    /// Wait until some are claimed.
    #[error("at most {MAX_KEPT} one-time keys are kept for a device")]
    TooMany,
    /// Again when it says.
    #[error(transparent)]
    UsedUp(#[from] UsedUp),
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// Takes keys of the caller's device; answers how many of its one-time keys nobody has claimed.
pub(crate) async fn upload(
    db: &Db,
    now: Timestamp,
    shares: &Shares,
    caller: &Device,
    request: &UploadKeys,
) -> Result<KeyCount, UploadError> {
    let UploadKeys { one_time_keys, fallback_key, replace } = request;
    if one_time_keys.len() > MAX_KEPT as usize {
        return Err(UploadError::TooMany);
    }
    let is_fallback = fallback_key.as_ref().is_none_or(|key| key.fallback);
    if !is_fallback || one_time_keys.iter().any(|key| key.fallback) {
        return Err(UploadError::Fallback);
    }
    let count = one_time_keys.len() + usize::from(fallback_key.is_some());
    shares.keys(now, &caller.account, count)?;
    let keys: Vec<_> = one_time_keys.iter().chain(fallback_key).cloned().collect();
    let device = caller.device_id;
    let look = move || keys.iter().try_for_each(|key| key.verify(&device));
    shares.check(&caller.account, look).await?;

    let mut tx = db.begin_growing().await.map_err(storage::Error::from)?;
    if *replace {
        keys::withdraw(tx.conn(), caller.row).await?;
    }
    keys::insert(tx.conn(), caller.row, one_time_keys).await?;
    if let Some(key) = fallback_key {
        keys::set_fallback(tx.conn(), caller.row, key).await?;
    }
    let count = keys::count(tx.conn(), caller.row).await?;
    if count > MAX_KEPT {
        return Err(UploadError::TooMany);
    }
    tx.commit().await.map_err(storage::Error::from)?;
    Ok(KeyCount { one_time_keys: count })
}

/// Why no keys were claimed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Ask for fewer at once.
    #[error("{0} devices, at most {MAX_CLAIM} in one claim")]
    TooMany(usize),
    /// Again when it says.
    #[error(transparent)]
    UsedUp(#[from] UsedUp),
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// Who claims.
pub(crate) enum Claimer<'a> {
    /// A device here.
    Device(&'a Device),
    /// Another server, for devices there.
    Server(&'a str),
}

/// Claims a key of each device. An account, or another server, that has claimed `per_hour` of one device gets its fallback
/// key, so that nobody can use up what others need.
pub(crate) async fn claim(
    db: &Db,
    now: Timestamp,
    shares: &Shares,
    who: Claimer<'_>,
    per_hour: u32,
    targets: &[DeviceId],
) -> Result<ClaimedKeys, ClaimError> {
    if targets.len() > MAX_CLAIM {
        return Err(ClaimError::TooMany(targets.len()));
    }
    match who {
        Claimer::Device(device) => shares.claims(now, &device.account, targets.len())?,
        Claimer::Server(name) => shares.claims_of_server(now, name, targets.len())?,
    }
    let mut claimed = BTreeMap::new();
    for targets in targets.chunks(CLAIMED) {
        let mut script = Script::default();
        keys::select_targets(&mut script, targets);
        let begun = db.begin_with(script).await;
        let (mut tx, rows) = begun.map_err(storage::Error::from)?;
        let targets = keys::read_targets(&rows)?;
        if targets.is_empty() {
            continue;
        }
        let asker = match who {
            Claimer::Device(device) => devices::first(tx.conn(), &device.account).await?,
            Claimer::Server(name) => servers::claimer(tx.conn(), name).await?,
        };
        let asker = (asker, per_hour);
        claimed.extend(keys::claim(tx.conn(), now, asker, &targets).await?);
        tx.commit().await.map_err(storage::Error::from)?;
    }
    Ok(ClaimedKeys { keys: claimed })
}

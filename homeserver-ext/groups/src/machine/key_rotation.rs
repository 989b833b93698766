//! How old a shared key gets before its group is given another: as a person has set it here.

use std::ops::RangeInclusive;

use causeway_store::{Conn, Tx};

use super::{Machine, MachineError};
use crate::storage::{Error, settings};

/// Its name among what is set.
const INTERVAL: &str = "key_rotation_interval";

/// What may be set, in seconds: ten minutes, which is how long before its time a key is made, to a
/// week, for which one that is over is used where nobody makes another.
pub const KEY_ROTATION_S: RangeInclusive<u32> = 600..=604_800;
/// A day, as the sources of this scheme have it.
pub const DEFAULT_KEY_ROTATION_S: u32 = 86_400;

/// In seconds; what stands there and may not is taken for the nearest that may.
pub(super) async fn interval_s(conn: &mut Conn) -> Result<u32, Error> {
    let set = settings::get(conn, INTERVAL).await?;
    let set: Option<u64> = set.and_then(|set| set.parse().ok());
    let seconds = set.map_or(DEFAULT_KEY_ROTATION_S, |s| u32::try_from(s).unwrap_or(u32::MAX));
    Ok(seconds.clamp(*KEY_ROTATION_S.start(), *KEY_ROTATION_S.end()))
}

impl Machine {
    /// After how many seconds this device makes another shared key where it is to make them.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn key_rotation_s(&self, tx: &mut Tx) -> Result<u32, MachineError> {
        Ok(interval_s(tx.conn()).await?)
    }

    /// From now on after so many, of [`KEY_ROTATION_S`]; of keys that are in use already, too.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn set_key_rotation_s(&self, tx: &mut Tx, seconds: u32) -> Result<(), MachineError> {
        Ok(settings::put(tx.conn(), INTERVAL, &seconds.to_string()).await?)
    }
}

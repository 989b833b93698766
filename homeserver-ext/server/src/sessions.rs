//! Whose token it is, which each request asks: remembered until a session changes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use causeway_store::{Db, Tx};

use crate::{
    config::TokenHash,
    storage::{self, devices, devices::Device},
};

/// Sessions that are remembered; where there are more, all are looked up anew.
const MOST: usize = 4_096;

/// The sessions that were looked up; the table of devices owns them.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    devices: HashMap<[u8; 32], Device>,
    /// How often sessions have changed: what was read before that is not remembered after it.
    changes: u64,
}

impl Sessions {
    /// The device whose token has this hash.
    pub(crate) async fn device(
        &self,
        db: &Db,
        token: &TokenHash,
    ) -> Result<Option<Device>, storage::Error> {
        let token = token.as_bytes();
        let changes = {
            let known = self.known();
            if let Some(device) = known.devices.get(token) {
                return Ok(Some(device.clone()));
            }
            known.changes
        };
        let device = devices::by_token(db.read().await?.conn(), token).await?;
        let mut known = self.known();
        if let Some(device) = device.as_ref().filter(|_| known.changes == changes) {
            if known.devices.len() >= MOST {
                known.devices.clear();
            }
            known.devices.insert(*token, device.clone());
        }
        Ok(device)
    }

    /// To be said by every transaction that gives a device a token, takes it, or changes which are
    /// listed: with its commit all are looked up anew.
    pub(crate) fn change(&self, tx: &mut Tx) {
        let sessions = self.clone();
        tx.once_committed(move || {
            let mut known = sessions.known();
            known.devices.clear();
            known.changes += 1;
        });
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

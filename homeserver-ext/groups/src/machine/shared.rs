//! Keys that groups share, and what is opened under them: read once in a call, and saved once.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use causeway_protocol::ids::{DeviceId, GroupId, SharedKeyId};
use causeway_store::{Conn, Script};

use crate::{
    schemes::shared_key::{GroupKey, Window},
    storage::{
        Error,
        shared_keys::{self, Kept},
    },
    vault::Vault,
};

#[derive(Default)]
pub(super) struct Shared {
    keys: HashMap<GroupId, Arc<Vec<Kept>>>,
    windows: HashMap<(GroupId, SharedKeyId, DeviceId), Slot>,
}

/// What was opened of a sender's under a key, and whether that has changed.
pub(super) struct Slot {
    pub(super) window: Window,
    pub(super) moved: bool,
}

impl Shared {
    /// The keys of a group.
    pub(super) async fn keys(
        &mut self,
        conn: &mut Conn,
        vault: &Vault,
        group: &GroupId,
    ) -> Result<Arc<Vec<Kept>>, Error> {
        if let Some(keys) = self.keys.get(group) {
            return Ok(Arc::clone(keys));
        }
        let keys = Arc::new(shared_keys::of_group(conn, vault, group).await?);
        self.keys.insert(*group, Arc::clone(&keys));
        Ok(keys)
    }

    /// They have changed.
    pub(super) fn forget(&mut self, group: &GroupId) {
        self.keys.remove(group);
    }

    /// What was opened of a sender's under a key.
    pub(super) async fn slot(
        &mut self,
        conn: &mut Conn,
        key: &GroupKey,
        sender: DeviceId,
    ) -> Result<&mut Slot, Error> {
        match self.windows.entry((key.group(), key.id(), sender)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let window = shared_keys::window(conn, key, &sender).await?;
                Ok(place.insert(Slot { window, moved: false }))
            }
        }
    }

    /// Saves what has moved.
    pub(super) fn save(&self, script: &mut Script) {
        for ((group, key, sender), slot) in self.windows.iter().filter(|(_, slot)| slot.moved) {
            shared_keys::save_window(script, (group, key), sender, &slot.window);
        }
    }
}

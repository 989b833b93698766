//! Who has read since the servers of what was read were told so.

use std::collections::{BTreeMap, BTreeSet};

use crate::storage::DeviceRow;

/// Devices of which it is remembered at most that they have read; of others servers hear within the hour.
pub(super) const MAX_READERS: usize = 65_536;

/// Devices that have read since other servers were told.
#[derive(Debug, Default)]
pub(super) struct Readers {
    pub(super) devices: BTreeSet<DeviceRow>,
    /// When the servers are told.
    pub(super) due_ms: Option<u64>,
}

/// What one server is told of how far its messages came.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// These may have read more than it was told.
    pub(super) readers: BTreeSet<DeviceRow>,
    /// How far each had read of it when it was told last, as numbers here: given, and had.
    pub(super) told: BTreeMap<DeviceRow, (i64, i64)>,
    /// What it was told last is not acknowledged.
    pub(super) is_out: bool,
    /// Not before that.
    pub(super) next_ms: u64,
}

impl Telling {
    /// It may have been put back: it is told all again.
    pub(super) fn begin(&mut self, readers: Vec<DeviceRow>) {
        self.told.clear();
        self.wait(&readers.into_iter().collect());
    }

    /// These have read; it is told later.
    pub(super) fn wait(&mut self, readers: &BTreeSet<DeviceRow>) {
        let room = MAX_READERS.saturating_sub(self.readers.len());
        self.readers.extend(readers.iter().take(room));
    }
}

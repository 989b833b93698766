//! What rows of the mailbox are judged by, looked at in one errand before the first of them.

use std::collections::BTreeSet;

use causeway_protocol::{
    api::StreamRow,
    envelope::Kind,
    ids::{DeviceId, GroupId},
};
use causeway_store::{Rows, Script};

use super::{Form, Machine, MachineError, ToReceive};
use crate::{
    machine::work::ChainKey,
    storage::{accounts, chains, groups as rows, parked},
};

/// Chains that are looked at before; more are looked at one by one.
const MOST: usize = 32;

impl Machine {
    /// Asks for what these rows are judged by, to be read by [`Self::looked_for`].
    pub fn look_for(script: &mut Script, rows: &[StreamRow]) {
        parked::select_due(script);
        rows::select_many(script, &groups(rows));
        let senders = senders(rows);
        if !senders.is_empty() {
            accounts::select_devices(script, &senders);
        }
        let keys = keys(rows);
        // Of few forms: the last one is asked for again.
        let more = keys.len().next_power_of_two() - keys.len();
        let again = keys.last().filter(|_| more > 0 && !keys.is_empty());
        for (group, sender, tag) in keys.iter().chain(again.into_iter().cycle().take(more)) {
            chains::select_held(script, group, sender, tag);
        }
    }

    /// Reads what [`Self::look_for`] asked for.
    ///
    /// # Errors
    /// [`MachineError`].
    pub fn looked_for(
        &self,
        looked: &mut Rows,
        rows: &[StreamRow],
    ) -> Result<ToReceive, MachineError> {
        let due = parked::read_due(&looked.take())?;
        let (mut known, mut devices) = (Vec::new(), Vec::new());
        if !groups(rows).is_empty() {
            known = rows::read_many(&looked.take())?;
        }
        if !senders(rows).is_empty() {
            devices = accounts::read_devices(&looked.take())?;
        }
        let mut held = Vec::new();
        for key in keys(rows) {
            let (group, sender, _) = &key;
            held.push((key, chains::read_held(self.vault(), group, sender, &looked.take())?));
        }
        Ok(ToReceive { due, groups: known, devices, chains: held })
    }
}

fn groups(rows: &[StreamRow]) -> BTreeSet<GroupId> {
    rows.iter().map(|row| row.envelope.group).collect()
}

fn senders(rows: &[StreamRow]) -> Vec<DeviceId> {
    let senders = rows.iter().filter_map(|row| row.envelope.sender.as_ref());
    let senders: BTreeSet<DeviceId> = senders.map(|sender| sender.device).collect();
    senders.into_iter().collect()
}

/// With which chains messages among these rows say that they are sealed.
fn keys(rows: &[StreamRow]) -> Vec<ChainKey> {
    let key = |row: &StreamRow| {
        let envelope = &row.envelope;
        let sender = envelope.sender.as_ref()?.device;
        let tag = Form::parse(envelope).ok()?.chain()?;
        Some((envelope.group, sender, tag))
    };
    let is_message = |row: &&StreamRow| row.envelope.kind == Kind::Message;
    let keys: BTreeSet<ChainKey> = rows.iter().filter(is_message).filter_map(key).collect();
    keys.into_iter().take(MOST).collect()
}

//! Messages that opened are noted together, once for a slice of rows: each by itself would be an
//! errand to the database.

use std::collections::HashSet;

use causeway_protocol::ids::{ClientId, DeviceId, EnvelopeId, Timestamp};
use causeway_store::{Conn, Row, Script};

use super::{MachineError, Received, What};
use crate::storage::holds::{self, Sighting};

/// What opened in this slice.
#[derive(Default)]
pub(super) struct Seen {
    names: HashSet<(DeviceId, [u8; 16])>,
    /// What is not noted yet, and the place of what is said of it.
    new: Vec<(usize, Sighting)>,
}

impl Seen {
    /// Takes note of a message that opened, of which something is said at `place`; `false` if it came in
    /// this slice already. Whether it came before that is found by [`note`](Self::note).
    pub(super) fn meets(&mut self, place: usize, sighting: Sighting) -> bool {
        let is_new = self.names.insert((sighting.sender, sighting.name));
        if is_new {
            self.new.push((place, sighting));
        }
        is_new
    }

    /// As [`meets`](Self::meets), and at once: `false` if it came before, whenever that was.
    pub(super) async fn sees(
        &mut self,
        conn: &mut Conn,
        now: Timestamp,
        Sighting { sender, name, envelope }: Sighting,
    ) -> Result<bool, MachineError> {
        Ok(self.names.insert((sender, name))
            && holds::see(conn, &sender, name, envelope, now).await?)
    }

    /// Whether an envelope with this id was received.
    pub(super) async fn has(
        &self,
        conn: &mut Conn,
        sender: &DeviceId,
        envelope: EnvelopeId,
    ) -> Result<bool, MachineError> {
        let is_it =
            |(_, seen): &(usize, Sighting)| seen.sender == *sender && seen.envelope == envelope;
        Ok(self.new.iter().any(is_it) || holds::was_seen(conn, sender, envelope).await?)
    }

    /// Whether a message that its sender calls this was received.
    pub(super) async fn has_name(
        &self,
        conn: &mut Conn,
        sender: &DeviceId,
        name: &ClientId,
    ) -> Result<bool, MachineError> {
        Ok(self.names.contains(&(*sender, *name.as_bytes()))
            || holds::was_said(conn, sender, name).await?)
    }

    /// Notes what opened, once the script is run, whose rows are for [`noted`](Self::noted).
    pub(super) fn note(&self, script: &mut Script, now: Timestamp) {
        let sightings: Vec<Sighting> = self.new.iter().map(|(_, sighting)| *sighting).collect();
        holds::see_all(script, &sightings, now);
    }

    /// Of what was noted before, nothing else is said.
    pub(super) fn noted(self, rows: &[Row], received: &mut [Received]) -> Result<(), MachineError> {
        let new = holds::new_of(rows)?;
        for (place, sighting) in self.new {
            if let Some(said) = received.get_mut(place)
                && !new.contains(&(sighting.sender, sighting.name))
            {
                said.what = What::Duplicate;
            }
        }
        Ok(())
    }
}

//! Calls, as the group's home tells of them (protocol §9).

use causeway_protocol::{
    api::{CallState, StreamRow},
    json,
};

use crate::machine::{MachineError, What, work::Work};

impl Work<'_> {
    /// The state of a call. Which of two is newer is for its reader to say; nothing is kept.
    pub(super) async fn call_row(&mut self, row: &StreamRow) -> Result<(), MachineError> {
        let group = row.envelope.group;
        let Ok(state) = json::from_slice::<CallState>(&row.envelope.payload) else {
            self.fail(row, "malformed");
            return Ok(());
        };
        if state.group != group {
            self.fail(row, "wrong_group");
        } else if self.group(&group).await?.is_none() {
            self.fail(row, "unknown_group");
        } else {
            self.calls.push(state);
            self.say(row.seq, group, What::Keys);
        }
        Ok(())
    }
}

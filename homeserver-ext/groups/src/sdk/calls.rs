//! What the mailbox tells of calls: for whoever shows them, or takes part. Nothing of it is kept on disk,
//! since a call that was not heard of within a minute is asked for anew.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use causeway_protocol::api::CallState;

use super::Client;

/// States that wait to be asked for; beyond, the oldest gives way, and a newer one says more.
const MAX_WAITING: usize = 256;

/// States of calls, in the order in which they came. A clone is another handle of the same.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<VecDeque<CallState>>>);

impl Calls {
    pub(super) fn put(&self, states: Vec<CallState>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(states);
        let beyond = waiting.len().saturating_sub(MAX_WAITING);
        waiting.drain(..beyond);
    }

    /// Those that came since this was asked last; one of a lower version than one before is old.
    pub fn take(&self) -> Vec<CallState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

impl Client {
    /// What was told of calls.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }
}

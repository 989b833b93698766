//! The few rosters beside the newest that a history has in memory.

use std::{collections::VecDeque, sync::Arc};

use super::state::Roster;
use crate::ids::Epoch;

/// Most rosters at hand.
const MAX: usize = 64;
/// Most members in them, some 10 MB; no group has as many.
const MAX_MEMBERS: usize = 32_768;

/// What was the newest or asked for lately, the latest at the end.
#[derive(Debug, Clone, Default)]
pub(super) struct AtHand(VecDeque<Arc<Roster>>);

impl AtHand {
    pub(super) fn at(&self, epoch: Epoch) -> Option<&Arc<Roster>> {
        self.0.iter().rev().find(|roster| roster.epoch() == epoch)
    }

    /// Puts one by; what was put by first makes room.
    pub(super) fn put(&mut self, roster: Arc<Roster>) {
        self.0.push_back(roster);
        let mut members: usize = self.0.iter().map(|roster| roster.members().len()).sum();
        while self.0.len() > MAX || members > MAX_MEMBERS {
            let gone = self.0.pop_front();
            members -= gone.map_or(0, |gone| gone.members().len());
        }
    }

    pub(super) fn forget_before(&mut self, epoch: Epoch) {
        self.0.retain(|roster| roster.epoch() >= epoch);
    }
}

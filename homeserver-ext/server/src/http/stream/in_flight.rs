//! What a stream has sent and its device has not acknowledged: no more than so much.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use causeway_protocol::ids::{Seq, Timestamp};
use tokio::time::Instant;

/// Unacknowledged rows, and their bytes, that are in flight at most.
const MAX_ROWS: usize = 256;
pub(super) const MAX_BYTES: usize = 1 << 20;

/// A row on its way: its number, its bytes, and when it was accepted, if a person's device sent it and
/// it is not acknowledged.
type Sent = (Seq, usize, Option<Timestamp>);

/// Rows on their way: sent and not acknowledged.
#[derive(Default)]
pub(super) struct InFlight {
    rows: VecDeque<Sent>,
    bytes: usize,
    /// Since when nothing more may be sent.
    pub(super) held_since: Option<Instant>,
    /// The last row that the client can have seen, here or on an earlier connection.
    pub(super) known: Seq,
}

impl InFlight {
    /// How many bytes are on their way.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn is_held(&self) -> bool {
        self.held_since.is_some()
    }

    /// Puts a row of so many bytes on its way, unless it has to wait for an acknowledgement.
    pub(super) fn push(&mut self, (seq, bytes, at): Sent) -> bool {
        // One that is too large by itself goes alone, or all that is behind it would wait for ever.
        let fits = self.rows.is_empty() || self.bytes + bytes <= MAX_BYTES;
        if fits {
            self.rows.push_back((seq, bytes, at));
            self.known = self.known.max(seq);
            self.bytes += bytes;
        }
        if !fits || self.rows.len() >= MAX_ROWS {
            self.held_since = Some(Instant::now());
        }
        fits
    }

    /// How many rows `ack` is about, but for those that are parked.
    pub(super) fn count(&self, ack: Seq, park: &BTreeSet<Seq>) -> u64 {
        let all = self.rows.iter().take_while(|(seq, ..)| *seq <= ack);
        all.filter(|(seq, ..)| !park.contains(seq)).count() as u64
    }

    /// How long those of them took that people sent, each once.
    pub(super) fn took(&mut self, ack: Seq, park: &BTreeSet<Seq>, now: Timestamp) -> Vec<Duration> {
        let all = self.rows.iter_mut().take_while(|(seq, ..)| *seq <= ack);
        let new = all.filter(|(seq, ..)| !park.contains(seq)).filter_map(|(_, _, at)| at.take());
        new.map(|at| Duration::from_millis(now.0.saturating_sub(at.0))).collect()
    }

    /// Whether a row is on its way.
    pub(super) fn has(&self, seq: Seq) -> bool {
        self.rows.binary_search_by_key(&seq, |(seq, ..)| *seq).is_ok()
    }

    pub(super) fn ack(&mut self, ack: Seq) {
        while let Some((_, bytes, _)) = self.rows.pop_front_if(|(seq, ..)| *seq <= ack) {
            self.bytes -= bytes;
            self.held_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_goes_alone_and_stops_nothing_for_ever() {
        let mut rows = InFlight::default();
        assert!(rows.push((Seq(1), 10, None)));
        assert!(!rows.push((Seq(2), MAX_BYTES + 1, None)), "not beside another");
        rows.ack(Seq(1));
        assert!(rows.push((Seq(2), MAX_BYTES + 1, None)) && !rows.is_held());
        assert!(!rows.push((Seq(3), 1, None)));
        rows.ack(Seq(2));
        assert!(rows.push((Seq(3), 1, None)));
    }
}

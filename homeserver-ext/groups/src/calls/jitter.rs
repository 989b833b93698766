//! What came from one device and was not played yet, in its order.
//!
//! Time here is the sender's: samples, by the RTP timestamp. Nothing sent for a while is either
//! silence (DTX) or loss; after 100 ms of concealing it is taken for silence, and what comes then
//! begins anew, with the same room for packets that overtake each other.

use std::collections::BTreeMap;

use super::FRAME;

const STEP: u64 = FRAME as u64;
/// What is waited for before the first is played, and how much may lie there before some is left
/// out so that the delay does not stay.
const DEPTH: u64 = 3 * STEP;
const DEEPEST: u64 = 12 * STEP;
/// Packets kept at most, of whatever length.
const PACKETS: usize = 64;
/// Frames in a row that are concealed before it is silence.
const CONCEALED: u32 = 5;
/// Further off than this it is another stream.
const FAR: u64 = 500 * STEP;

/// What is to be played next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A packet; [`Jitter::played`] says how long it was.
    Packet(Vec<u8>),
    /// 20 ms that did not come; and what comes after it, where that is there.
    Lost(Option<Vec<u8>>),
    Silence,
}

#[derive(Debug, Default)]
pub(super) struct Jitter {
    packets: BTreeMap<u64, Vec<u8>>,
    /// Where playing is; `None` while what comes is being gathered.
    at: Option<u64>,
    /// The latest timestamp that came, counted on past 32 bits.
    latest: Option<u64>,
    /// Pulls since the first packet that is being gathered came.
    gathered: u32,
    concealed: u32,
    /// Not played because they came too late, or were too many.
    pub(super) dropped: u64,
}

impl Jitter {
    pub(super) fn push(&mut self, timestamp: u32, payload: &[u8]) {
        let time = self.count_on(timestamp);
        let reference = self.at.or(self.latest);
        if reference.is_some_and(|reference| time.abs_diff(reference) > FAR) {
            *self = Self { dropped: self.dropped, ..Self::default() };
        }
        self.latest = Some(self.latest.map_or(time, |latest| latest.max(time)));
        if self.at.is_some_and(|at| time < at) {
            self.dropped += 1;
            return;
        }
        self.packets.entry(time).or_insert_with(|| payload.to_vec());
        if self.packets.len() > PACKETS {
            self.dropped += 1;
            self.packets.pop_first();
            self.at = self.at.and_then(|_| self.first());
        }
    }

    pub(super) fn next(&mut self) -> Next {
        let Some(first) = self.first() else { return self.none_there() };
        let Some(at) = self.at.or_else(|| self.begin(first)) else { return Next::Silence };
        let at = self.catch_up(at);
        self.at = Some(at);
        match self.packets.first_entry() {
            Some(entry) if *entry.key() < at + STEP => {
                self.concealed = 0;
                self.at = Some(*entry.key());
                Next::Packet(entry.remove())
            }
            _ => self.lost(at),
        }
    }

    /// Goes on by `samples`, which the packet that [`Jitter::next`] gave had.
    pub(super) fn played(&mut self, samples: usize) {
        let samples = u64::try_from(samples).unwrap_or(STEP).max(1);
        self.at = self.at.map(|at| at + samples);
    }

    fn first(&self) -> Option<u64> {
        self.packets.first_key_value().map(|(time, _)| *time)
    }

    /// Begins to play when enough is there, or has been for as long as that takes.
    fn begin(&mut self, first: u64) -> Option<u64> {
        self.gathered += 1;
        let there = self.latest.unwrap_or(first) - first;
        (there >= DEPTH || u64::from(self.gathered) * STEP > DEPTH).then(|| {
            self.gathered = 0;
            first
        })
    }

    /// Leaves out what lies deeper than is wanted.
    fn catch_up(&mut self, at: u64) -> u64 {
        let latest = self.latest.unwrap_or(at);
        if latest < at + DEEPEST {
            return at;
        }
        let from = latest - DEPTH;
        let stays = self.packets.split_off(&from);
        self.dropped += self.packets.len() as u64;
        self.packets = stays;
        from
    }

    fn none_there(&mut self) -> Next {
        match self.at {
            Some(at) => self.lost(at),
            None => Next::Silence,
        }
    }

    fn lost(&mut self, at: u64) -> Next {
        self.concealed += 1;
        if self.concealed > CONCEALED {
            self.concealed = 0;
            self.at = None;
            return Next::Silence;
        }
        self.at = Some(at + STEP);
        Next::Lost(self.packets.get(&(at + STEP)).cloned())
    }

    /// `timestamp` without the wrap at 32 bits.
    fn count_on(&self, timestamp: u32) -> u64 {
        let Some(latest) = self.latest else { return (1 << 32) + u64::from(timestamp) };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the lower half is what is on the wire"
        )]
        let off = timestamp.wrapping_sub(latest as u32).cast_signed();
        latest.saturating_add_signed(i64::from(off))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(n: u8) -> Next {
        Next::Packet(vec![n])
    }

    fn push(jitter: &mut Jitter, n: u8) {
        jitter.push((u32::MAX - 2000).wrapping_add(u32::from(n) * 960), &[n]);
    }

    fn pull(jitter: &mut Jitter) -> Next {
        let next = jitter.next();
        if matches!(next, Next::Packet(_)) {
            jitter.played(FRAME);
        }
        next
    }

    #[test]
    fn packets_are_played_in_their_order_past_the_wrap_and_once() {
        let mut jitter = Jitter::default();
        for n in [1, 0, 3, 2, 2, 4] {
            push(&mut jitter, n);
        }
        for n in 0..5 {
            assert_eq!(pull(&mut jitter), packet(n));
        }
        push(&mut jitter, 4);
        assert_eq!((pull(&mut jitter), jitter.dropped), (Next::Lost(None), 1));
    }

    #[test]
    fn what_is_missing_is_concealed_with_what_comes_next() {
        let mut jitter = Jitter::default();
        for n in [0, 1, 3, 4] {
            push(&mut jitter, n);
        }
        assert_eq!([pull(&mut jitter), pull(&mut jitter)], [packet(0), packet(1)]);
        assert_eq!(pull(&mut jitter), Next::Lost(Some(vec![3])));
        assert_eq!(pull(&mut jitter), packet(3));
    }

    #[test]
    fn silence_ends_playing_and_speech_begins_it_anew() {
        let mut jitter = Jitter::default();
        (0..4).for_each(|n| push(&mut jitter, n));
        (0..4).for_each(|n| assert_eq!(pull(&mut jitter), packet(n)));
        (0..CONCEALED).for_each(|_| assert_eq!(pull(&mut jitter), Next::Lost(None)));
        assert_eq!(pull(&mut jitter), Next::Silence);
        push(&mut jitter, 60);
        // One packet alone is played as well, after what it would have waited for.
        (0..3).for_each(|_| assert_eq!(pull(&mut jitter), Next::Silence));
        assert_eq!(pull(&mut jitter), packet(60));
    }

    #[test]
    fn a_flood_stays_bounded_and_leaves_the_newest() {
        let mut jitter = Jitter::default();
        (0..=255).for_each(|n| push(&mut jitter, n));
        assert!(jitter.packets.len() <= PACKETS);
        assert_eq!(pull(&mut jitter), packet(252));
        // Each at its own sample, far more of them than a second has frames.
        (0..10_000).for_each(|n| jitter.push(n, &[7]));
        assert!(jitter.packets.len() <= PACKETS);
    }

    #[test]
    fn any_timestamps_leave_it_bounded_and_playing() {
        let mut jitter = Jitter::default();
        let mut timestamp = 1_u32;
        for _ in 0..20_000 {
            timestamp = timestamp.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            jitter.push(timestamp, &[1]);
            pull(&mut jitter);
            assert!(jitter.packets.len() <= PACKETS);
        }
        (0..8).for_each(|n| jitter.push(timestamp.wrapping_add(1_000_000 + n * 960), &[9]));
        assert!((0..8).any(|_| pull(&mut jitter) == packet(9)));
    }
}

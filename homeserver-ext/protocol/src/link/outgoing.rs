//! My direction of a link: the window, and what is sent again.

use std::{collections::VecDeque, ops::RangeInclusive};

use crate::ids::ServerLinkId;

use super::frame::Ack;

/// Most frames that are sent and not acknowledged.
pub const WINDOW_FRAMES: usize = 1_024;

/// Most bytes of items that are sent and not acknowledged.
pub const WINDOW_BYTES: usize = 4 * 1024 * 1024;

const FIRST_MS: u64 = 5_000;
const LONGEST_MS: u64 = 600_000;

/// When a frame is sent again that was sent `tries` times again already: 5 s, doubling up to 10 min,
/// ± half by `random`.
fn pause_ms(tries: u32, random: u16) -> u64 {
    let pause = FIRST_MS.saturating_mul(1 << tries.min(7)).min(LONGEST_MS);
    pause / 2 + pause * u64::from(random) / u64::from(u16::MAX)
}

/// What is on its way; the frames themselves are the caller's.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    link: ServerLinkId,
    acknowledged: u64,
    /// Bytes of each frame after that one, in order.
    sizes: VecDeque<usize>,
    bytes: usize,
    tries: u32,
    /// When the oldest is sent again.
    again_ms: Option<u64>,
    /// The oldest was sent again and has come: what is left follows.
    follow: bool,
}

impl Outgoing {
    pub(super) const fn new(link: ServerLinkId) -> Self {
        Self {
            link,
            acknowledged: 0,
            sizes: VecDeque::new(),
            bytes: 0,
            tries: 0,
            again_ms: None,
            follow: false,
        }
    }

    pub(super) const fn link(&self) -> ServerLinkId {
        self.link
    }

    pub(super) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The last number that was given.
    pub(super) fn last(&self) -> u64 {
        self.acknowledged + self.sizes.len() as u64
    }

    /// The number of a new frame, if there is room for its bytes.
    pub(super) fn put(&mut self, bytes: usize, now: u64, random: u16) -> Option<u64> {
        let full = self.sizes.len() >= WINDOW_FRAMES || self.bytes + bytes > WINDOW_BYTES;
        if full {
            return None;
        }
        self.sizes.push_back(bytes);
        self.bytes += bytes;
        self.again_ms.get_or_insert(now + pause_ms(0, random));
        Some(self.last())
    }

    /// Whether the acknowledgement says something new, and true.
    pub(super) fn acknowledge(&mut self, ack: Ack, now: u64, random: u16) -> bool {
        if ack.link != self.link || ack.seq <= self.acknowledged || ack.seq > self.last() {
            return false;
        }
        while self.acknowledged < ack.seq {
            self.bytes -= self.sizes.pop_front().unwrap_or(0);
            self.acknowledged += 1;
        }
        self.follow = self.tries > 0 && !self.sizes.is_empty();
        self.tries = 0;
        self.again_ms = (!self.sizes.is_empty()).then(|| now + pause_ms(0, random));
        true
    }

    /// When [`Outgoing::again`] has something.
    pub(super) fn due_ms(&self) -> Option<u64> {
        if self.follow { Some(0) } else { self.again_ms }
    }

    /// The frames that are to be sent again now.
    pub(super) fn again(&mut self, now: u64, random: u16) -> Option<RangeInclusive<u64>> {
        if std::mem::take(&mut self.follow) {
            return Some(self.acknowledged + 1..=self.last());
        }
        self.again_ms.filter(|again| *again <= now)?;
        self.tries = self.tries.saturating_add(1);
        self.again_ms = Some(now + pause_ms(self.tries, random));
        let oldest = self.acknowledged + 1;
        Some(oldest..=oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ack, Outgoing, ServerLinkId, WINDOW_BYTES, WINDOW_FRAMES, pause_ms};

    const MINE: ServerLinkId = ServerLinkId::new([1; 16]);
    const HALF: u16 = u16::MAX / 2 + 1;

    fn ack(seq: u64) -> Ack {
        Ack { link: MINE, seq }
    }

    fn with(frames: u64) -> Outgoing {
        let mut outgoing = Outgoing::new(MINE);
        for seq in 1..=frames {
            assert_eq!(outgoing.put(10, 0, HALF), Some(seq));
        }
        outgoing
    }

    #[test]
    fn pauses_double_up_to_ten_minutes_and_are_spread_by_half() {
        let table =
            [(0, 2_500, 7_500), (1, 5_000, 15_000), (6, 160_000, 480_000), (7, 300_000, 900_000)];
        for (tries, least, most) in table {
            assert_eq!((pause_ms(tries, 0), pause_ms(tries, u16::MAX)), (least, most));
        }
        assert_eq!(pause_ms(u32::MAX, 0), 300_000);
    }

    #[test]
    fn the_window_is_bounded_by_frames_and_by_bytes() {
        let mut outgoing = with(WINDOW_FRAMES as u64);
        assert_eq!(outgoing.put(1, 0, 0), None);
        assert!(outgoing.acknowledge(ack(1), 0, 0));
        assert_eq!(outgoing.put(1, 0, 0), Some(WINDOW_FRAMES as u64 + 1));
        let mut outgoing = Outgoing::new(MINE);
        assert_eq!(outgoing.put(WINDOW_BYTES, 0, 0), Some(1));
        assert_eq!(outgoing.put(1, 0, 0), None);
    }

    #[test]
    fn only_what_was_sent_and_not_acknowledged_yet_can_be() {
        let other = Ack { link: ServerLinkId::new([2; 16]), seq: 1 };
        let table = [(ack(0), false), (ack(4), false), (ack(u64::MAX), false), (other, false)];
        for (ack, counts) in table.into_iter().chain([(ack(2), true)]) {
            assert_eq!(with(3).acknowledge(ack, 0, 0), counts, "{ack:?}");
        }
        let mut outgoing = with(3);
        assert!(outgoing.acknowledge(ack(2), 0, 0));
        assert!(!outgoing.acknowledge(ack(2), 0, 0));
        assert!(!outgoing.acknowledge(ack(1), 0, 0));
        assert_eq!((outgoing.acknowledged(), outgoing.last()), (2, 3));
    }

    #[test]
    fn the_oldest_alone_goes_again_and_the_others_follow_it() {
        let mut outgoing = with(3);
        assert_eq!(outgoing.again(4_999, HALF), None);
        assert_eq!(outgoing.due_ms(), Some(5_000));
        assert_eq!(outgoing.again(5_000, HALF), Some(1..=1));
        assert_eq!(outgoing.again(14_999, HALF), None);
        assert_eq!(outgoing.again(15_000, HALF), Some(1..=1));
        assert!(outgoing.acknowledge(ack(1), 15_100, HALF));
        assert_eq!(outgoing.due_ms(), Some(0));
        assert_eq!(outgoing.again(15_100, HALF), Some(2..=3));
        assert_eq!(outgoing.again(15_100, HALF), None);
        assert!(outgoing.acknowledge(ack(3), 15_200, HALF));
        assert_eq!((outgoing.due_ms(), outgoing.again(u64::MAX, HALF)), (None, None));
    }
}

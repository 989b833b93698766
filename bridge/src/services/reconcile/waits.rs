//! Rooms that could not be read, and when each is tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ruma::OwnedRoomId;
use tokio::time::Instant;

/// Wait after the first try that failed; it doubles.
const FIRST: Duration = Duration::from_millis(500);
/// Longest wait after a try that failed.
pub(super) const LONGEST: Duration = Duration::from_mins(2);
/// For so long a room that was hurried is not hurried again: one homeserver that comes and goes is
/// not asked for all rooms each time.
const HURRIED_FOR: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Wait {
    /// How often in a row it was tried in vain.
    tries: u32,
    until: Instant,
    /// Whether nobody answered, rather than refused.
    away: bool,
    hurried: Option<Instant>,
}

/// Rooms that wait.
#[derive(Debug, Default)]
pub(super) struct Waits(BTreeMap<OwnedRoomId, Wait>);

impl Waits {
    /// A room could not be read once more; for how long it waits.
    pub(super) fn failed(&mut self, room: OwnedRoomId, now: Instant, away: bool) -> Duration {
        let before = self.0.get(&room);
        let (tries, hurried) = before.map_or((0, None), |wait| (wait.tries, wait.hurried));
        let wait = (FIRST * 2_u32.saturating_pow(tries.min(16))).min(LONGEST);
        self.0.insert(room, Wait { tries: tries + 1, until: now + wait, away, hurried });
        wait
    }

    /// A room was read.
    pub(super) fn read(&mut self, room: &OwnedRoomId) {
        self.0.remove(room);
    }

    /// Forgets all others than `rooms`.
    pub(super) fn keep(&mut self, rooms: &BTreeSet<OwnedRoomId>) {
        self.0.retain(|room, _| rooms.contains(room));
    }

    /// How often a room was tried in vain; `None` while it waits.
    pub(super) fn tries(&self, room: &OwnedRoomId, now: Instant) -> Option<u32> {
        match self.0.get(room) {
            None => Some(0),
            Some(wait) => (wait.until <= now).then_some(wait.tries),
        }
    }

    /// When the next one has waited long enough.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.0.values().map(|wait| wait.until).filter(|until| *until > now).min()
    }

    /// The homeserver is there again: whoever waits for it alone need not.
    pub(super) fn hurry(&mut self, now: Instant) {
        for wait in self.0.values_mut().filter(|wait| wait.away && wait.until > now) {
            if wait.hurried.is_none_or(|at| now >= at + HURRIED_FOR) {
                (wait.hurried, wait.until) = (Some(now), now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn room() -> OwnedRoomId {
        "!r:a.example".try_into().unwrap()
    }

    #[test]
    fn a_room_waits_twice_as_long_each_time_and_two_minutes_at_most() {
        let (mut waits, now) = (Waits::default(), Instant::now());
        let mut at = now;
        for wait in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 120_000, 120_000] {
            let wait = Duration::from_millis(wait);
            assert_eq!(waits.failed(room(), at, false), wait);
            assert_eq!(waits.next(at), Some(at + wait));
            assert_eq!(waits.tries(&room(), at), None);
            at += wait;
            assert!(waits.tries(&room(), at).is_some_and(|tries| tries > 0));
        }
        waits.read(&room());
        assert_eq!((waits.tries(&room(), now), waits.next(now)), (Some(0), None));
    }

    #[test]
    fn who_waits_for_the_homeserver_does_not_wait_when_it_is_back() {
        let (mut waits, now) = (Waits::default(), Instant::now());
        for _ in 0..10 {
            waits.failed(room(), now, true);
        }
        waits.hurry(now + s(1));
        assert_eq!(waits.tries(&room(), now + s(1)), Some(10));
        // One that comes and goes is not asked each time.
        waits.failed(room(), now + s(2), true);
        for (at, hurried) in [(3, false), (5, false), (6, true)] {
            waits.hurry(now + s(at));
            assert_eq!(waits.tries(&room(), now + s(at)).is_some(), hurried, "{at}");
        }
        // What a room is refused is the room's own.
        waits.failed(room(), now + s(20), false);
        waits.hurry(now + s(30));
        assert_eq!(waits.tries(&room(), now + s(30)), None);
    }
}

//! A wall clock that may end things: what it says is believed once two looks agree.
//!
//! A clock that is put forward for a moment, by hand or by a broken time server, must not end what
//! waits. Nothing here waits: who ends things looks now and then.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How far two looks are apart that are to agree.
const APART: Duration = Duration::from_mins(1);

/// What two looks agree on.
#[derive(Debug, Default)]
pub struct Agreed(Mutex<Option<Looks>>);

#[derive(Debug)]
struct Looks {
    /// What the clock said at least [`APART`] before the last one, Unix milliseconds.
    earlier_ms: u64,
    /// When the last look was, on a clock that only goes forth, and what it showed.
    last: (Duration, u64),
}

impl Agreed {
    /// The time that has come for certain, Unix milliseconds: `wall_ms`, or what it was at least a
    /// minute ago if that was less. `steady` is the time on a clock that only goes forth; of the
    /// first minute nothing is certain.
    pub fn now_ms(&self, steady: Duration, wall_ms: u64) -> u64 {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = looks.get_or_insert(Looks { earlier_ms: 0, last: (steady, wall_ms) });
        let (at, shown) = looks.last;
        if steady.saturating_sub(at) >= APART {
            looks.earlier_ms = shown;
            looks.last = (steady, wall_ms);
        }
        looks.earlier_ms.min(wall_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAYS: u64 = 40 * 24 * 60 * 60 * 1_000;

    fn looks(table: &[(u64, u64, u64)]) {
        let agreed = Agreed::default();
        for (steady, wall, expected) in table {
            let found = agreed.now_ms(Duration::from_secs(*steady), *wall);
            assert_eq!(found, *expected, "after {steady} s");
        }
    }

    #[test]
    fn the_clock_is_believed_after_a_minute() {
        looks(&[(0, 1_000, 0), (59, 60_000, 0), (60, 61_000, 1_000), (90, 91_000, 1_000)]);
        looks(&[(0, 1_000, 0), (60, 61_000, 1_000), (120, 121_000, 61_000)]);
    }

    #[test]
    fn a_clock_put_forth_for_less_than_a_minute_ends_nothing() {
        looks(&[
            (0, 1_000, 0),
            (60, 61_000, 1_000),
            (61, 62_000 + DAYS, 1_000),
            (86, 87_000, 1_000),
            (120, 121_000, 61_000),
        ]);
        // Also where the look that is compared with was in it.
        looks(&[(0, 1_000, 0), (60, DAYS, 1_000), (85, 86_000, 1_000), (121, 122_000, 122_000)]);
    }

    #[test]
    fn a_clock_put_back_or_forth_for_good_is_believed() {
        looks(&[(0, DAYS, 0), (60, 1_000, 1_000), (120, 61_000, 1_000), (180, 121_000, 61_000)]);
        looks(&[(0, 1_000, 0), (60, DAYS, 1_000), (120, DAYS + 60_000, DAYS)]);
    }
}

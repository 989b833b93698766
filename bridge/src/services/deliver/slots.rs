//! How many lanes are served at once: those that get on.
//!
//! A lane whose requests hang gives its place back as soon as it has had it for longer than others
//! need, and goes on without: however many hang, they are in nobody's way. Whom a homeserver that is
//! slow altogether keeps waiting has his place for longer, so that it is not asked for more at once
//! the slower it gets.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Lanes that get on, at once.
const PLACES: usize = 64;
/// What a turn is taken to need before one has ended, microseconds.
const USUAL_US: u64 = 25_000;
/// Least time that a place is given for, beyond what is usual.
const LEAST: Duration = Duration::from_millis(50);
/// Longest time that a place is given for.
const MOST: Duration = Duration::from_secs(5);

/// Places, and what those need who had one.
pub(super) struct Slots {
    places: Semaphore,
    /// What a turn took, on average, the last ones more than those before; microseconds.
    usual_us: AtomicU64,
}

impl Default for Slots {
    fn default() -> Self {
        Self { places: Semaphore::new(PLACES), usual_us: AtomicU64::new(USUAL_US) }
    }
}

impl Slots {
    /// Waits for a place.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.places.acquire().await.ok()
    }

    /// For how long a place is given.
    pub(super) fn patience(&self) -> Duration {
        let usual = Duration::from_micros(self.usual_us.load(Ordering::Relaxed));
        (2 * usual + LEAST).min(MOST)
    }

    /// A turn has ended well, and took this long.
    pub(super) fn took(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let usual = self.usual_us.load(Ordering::Relaxed);
        // Two at once may lose one of them, which says little.
        self.usual_us.store(usual - usual / 8 + us / 8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_for_longer_where_all_is_slow() {
        let slots = Slots::default();
        assert_eq!(slots.patience(), Duration::from_millis(100));
        for _ in 0..100 {
            slots.took(Duration::from_secs(1));
        }
        assert!(slots.patience() > Duration::from_millis(1_900), "{:?}", slots.patience());
        for _ in 0..100 {
            slots.took(Duration::from_mins(1));
        }
        assert_eq!(slots.patience(), MOST);
        for _ in 0..200 {
            slots.took(Duration::from_millis(1));
        }
        assert!(slots.patience() < Duration::from_millis(60), "{:?}", slots.patience());
    }
}

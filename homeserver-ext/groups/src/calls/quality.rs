//! How what somebody says comes: whole, or with holes.

use std::time::Duration;

use tokio::time::Instant;

use super::FRAME;

#[expect(clippy::cast_possible_truncation, reason = "960")]
const SAMPLES: u32 = FRAME as u32;

/// How what somebody says came, in the last half second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quality {
    /// Packets that were played.
    pub played: u32,
    /// Those that were not there when it was their turn, 20 ms each, and after which more came: what
    /// is followed by silence is its beginning.
    pub lost: u32,
    /// Pieces of 20 ms that came by no way, between those that came: silence and loss alike.
    pub skipped: u32,
    /// The longest time between two that follow each other.
    pub gap: Duration,
}

#[derive(Default)]
pub(super) struct Watch {
    quality: Quality,
    newest: Option<(u32, Instant)>,
    /// Which of the last 64 pieces came, the newest lowest.
    seen: u64,
    /// Skipped ones that came after all, when they had been told of.
    made_up: u32,
    /// Not there, and nothing came since.
    missed: u32,
}

impl Watch {
    /// A packet came, by whatever way, perhaps again.
    pub(super) fn came(&mut self, timestamp: u32, now: Instant) {
        let Some((newest, at)) = self.newest else {
            (self.newest, self.seen) = (Some((timestamp, now)), 1);
            return;
        };
        let on = timestamp.wrapping_sub(newest).cast_signed();
        let pieces = on.unsigned_abs() / SAMPLES;
        if on <= 0 {
            let bit = 1_u64.checked_shl(pieces).unwrap_or_default();
            if self.seen & bit == 0 && bit != 0 {
                self.seen |= bit;
                self.made_up += 1;
            }
            return;
        }
        if on.unsigned_abs() == SAMPLES {
            self.quality.gap = self.quality.gap.max(now.duration_since(at));
        }
        self.quality.skipped = self.quality.skipped.saturating_add(pieces.saturating_sub(1));
        self.seen = self.seen.checked_shl(pieces).unwrap_or_default() | 1;
        self.newest = Some((timestamp, now));
    }

    pub(super) fn played(&mut self) {
        self.quality.played += 1;
        self.quality.lost += std::mem::take(&mut self.missed);
    }

    pub(super) fn missed(&mut self) {
        self.missed += 1;
    }

    pub(super) fn silent(&mut self) {
        self.missed = 0;
    }

    /// What it was since this was last asked.
    pub(super) fn take(&mut self) -> Quality {
        let made_up = self.made_up.min(self.quality.skipped);
        self.made_up -= made_up;
        self.quality.skipped -= made_up;
        std::mem::take(&mut self.quality)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_each_other_has_a_gap() {
        let mut watch = Watch::default();
        let began = Instant::now();
        let mut came = |n: u32, ms| watch.came(n * SAMPLES, began + Duration::from_millis(ms));
        came(0, 0);
        came(1, 22);
        // After silence, and one that was overtaken.
        came(90, 3_000);
        came(89, 4_000);
        came(91, 3_025);
        // By another way, and one that never comes.
        came(91, 3_026);
        came(93, 3_065);
        watch.missed();
        watch.silent();
        watch.missed();
        watch.played();
        watch.missed();
        let quality = Quality { played: 1, lost: 1, skipped: 88, gap: Duration::from_millis(25) };
        assert_eq!(watch.take(), quality);
        assert_eq!(watch.take(), Quality::default());
    }
}

//! How one server behaves, and whether it is listened to.

use causeway_protocol::ids::Timestamp;

/// Frames and items without sense within a minute, upon which nothing more is taken for a while.
const MOST_MALFORMED: u32 = 20;
const MINUTE_MS: u64 = 60_000;
/// How long nothing is taken then.
const SHUT_MS: u64 = 600_000;

/// What was wrong with what one server sent, since this start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conduct {
    /// Frames and items that made no sense.
    pub(crate) malformed: u64,
    /// Ops and messages that were refused.
    pub(crate) refused: u64,
    /// Times that it had to wait, or was refused, for asking or bringing too much.
    pub(crate) limited: u64,
    /// Times that it, or this server, lost more than the other keeps.
    pub(crate) gaps: u64,
    /// What was wrong last, and when.
    pub(crate) last: Option<(Timestamp, String)>,
    /// When the minute began whose malformed things are counted, and how many there were.
    recent: (u64, u32),
    shut_until_ms: Option<u64>,
}

impl Conduct {
    /// One more frame or item made no sense.
    pub(super) fn made_no_sense(&mut self, now: Timestamp, now_ms: u64) {
        self.malformed += 1;
        self.last = Some((now, "it sent something that makes no sense".to_owned()));
        let (began, count) = &mut self.recent;
        if *count == 0 || now_ms.saturating_sub(*began) >= MINUTE_MS {
            (*began, *count) = (now_ms, 0);
        }
        *count += 1;
        if *count >= MOST_MALFORMED {
            *count = 0;
            self.shut_until_ms = Some(now_ms.saturating_add(SHUT_MS));
        }
    }

    /// Something was refused.
    pub(super) fn was_refused(&mut self, now: Timestamp, reason: &str) {
        self.refused += 1;
        self.last = Some((now, format!("refused: {reason}")));
    }

    /// It came to a limit.
    pub(super) fn was_limited(&mut self, now: Timestamp, which: &str) {
        self.limited += 1;
        self.last = Some((now, format!("at the limit of {which}")));
    }

    /// It, or this server, was put back, and not all of what was lost is there any more.
    pub(super) fn had_gap(&mut self, now: Timestamp, why: &str) {
        metrics::counter!("causeway_servers_gaps_total").increment(1);
        self.gaps += 1;
        self.last = Some((now, format!("gap: {why}")));
    }

    /// For how many milliseconds more nothing of it is taken.
    pub(super) fn shut_ms(&self, now_ms: u64) -> Option<u64> {
        let left = self.shut_until_ms?.saturating_sub(now_ms);
        (left > 0).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_no_sense_for_long_is_not_listened_to_for_ten_minutes() {
        let mut conduct = Conduct::default();
        for second in 0..19 {
            conduct.made_no_sense(Timestamp(0), second * 1_000);
        }
        assert_eq!(conduct.shut_ms(19_000), None);
        // A minute after the first its count begins anew.
        conduct.made_no_sense(Timestamp(0), 60_000);
        assert_eq!(conduct.shut_ms(60_000), None);
        for _ in 0..19 {
            conduct.made_no_sense(Timestamp(0), 61_000);
        }
        assert_eq!(conduct.shut_ms(61_000), Some(600_000));
        assert_eq!(conduct.shut_ms(660_999), Some(1));
        assert_eq!(conduct.shut_ms(661_000), None);
        assert_eq!(conduct.malformed, 39);
    }
}

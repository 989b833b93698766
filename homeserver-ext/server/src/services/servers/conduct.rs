//! How one server behaves, and whether it is listened to.

use std::collections::BTreeMap;

use causeway_protocol::ids::Timestamp;

/// Frames and items without sense within a minute, upon which nothing more is taken for a while.
const MOST_MALFORMED: u32 = 20;
const MINUTE_MS: u64 = 60_000;
/// Reasons of one server that are logged each for itself; others together.
const MOST_REASONS: usize = 16;
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
    /// When each reason was logged last, and how often it was not since.
    logged: BTreeMap<String, (u64, u64)>,
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

    /// Something was refused. Whether it is to be logged, once a minute for each reason, and how often it was
    /// not since then.
    pub(super) fn was_refused(
        &mut self,
        (now, now_ms): (Timestamp, u64),
        reason: &str,
    ) -> Option<u64> {
        self.refused += 1;
        self.last = Some((now, format!("refused: {reason}")));
        let is_late = |at: u64| now_ms.saturating_sub(at) >= MINUTE_MS;
        if !self.logged.contains_key(reason) && self.logged.len() >= MOST_REASONS {
            self.logged.retain(|_, (at, unsaid)| *unsaid > 0 || !is_late(*at));
        }
        let is_known = self.logged.contains_key(reason) || self.logged.len() < MOST_REASONS;
        let key = if is_known { reason } else { "" };
        let Some((at, unsaid)) = self.logged.get_mut(key) else {
            self.logged.insert(key.to_owned(), (now_ms, 0));
            return Some(0);
        };
        if is_late(*at) {
            *at = now_ms;
            return Some(std::mem::take(unsaid));
        }
        *unsaid += 1;
        None
    }

    /// It came to a limit.
    pub(super) fn was_limited(&mut self, now: Timestamp, which: &str) {
        metrics::counter!("causeway_servers_limited_total").increment(1);
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
    fn each_reason_is_logged_once_a_minute_with_how_often_it_was_not() {
        let mut conduct = Conduct::default();
        let mut refuse = |at, reason: &str| conduct.was_refused((Timestamp(0), at), reason);
        for (at, reason, logged) in [
            (0, "a", Some(0)),
            (1, "a", None),
            (1, "b", Some(0)),
            (59_999, "a", None),
            (60_000, "a", Some(2)),
            (60_001, "a", None),
            (60_001, "b", Some(0)),
            (120_000, "a", Some(1)),
        ] {
            assert_eq!(refuse(at, reason), logged, "{at} {reason}");
        }
        // Reasons that are made up are few lines, and little that is remembered.
        let made_up = (0..1_000).filter(|n| refuse(120_000, &format!("{n}")).is_some()).count();
        assert_eq!(made_up, MOST_REASONS - 2 + 1);
        assert_eq!((conduct.logged.len(), conduct.refused), (MOST_REASONS + 1, 1_008));
    }

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

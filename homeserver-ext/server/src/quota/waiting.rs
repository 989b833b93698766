//! What of an account waits to be read: how much it has posted since that was last counted, and
//! whether it was too much then. Nothing is counted while somebody posts.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use causeway_protocol::ids::{AccountId, Timestamp};

/// Accounts that are remembered; beyond, those that posted little are forgotten.
const MAX_ACCOUNTS: usize = 10_000;
/// Accounts that are counted in one round of upkeep.
const IN_A_ROUND: usize = 64;
/// Of the smaller limit, what is posted before an account is counted.
pub(super) const PART: u64 = 16;
/// How long it is held against an account that it was over its share, before it is counted again.
const AGAIN_MS: u64 = 60_000;

/// What was posted since the last count, by account.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<HashMap<AccountId, Posted>>);

#[derive(Debug, Clone, Copy, Default)]
struct Posted {
    bytes: u64,
    /// When it was counted and over its share.
    over: Option<Timestamp>,
}

impl Waiting {
    /// An account has posted so many bytes.
    pub(super) fn add(&self, who: &AccountId, bytes: u64) {
        let mut posted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = posted.get_mut(who) {
            known.bytes = known.bytes.saturating_add(bytes);
            return;
        }
        if posted.len() >= MAX_ACCOUNTS {
            let all: u64 = posted.values().map(|one| one.bytes).sum();
            let mean = all / MAX_ACCOUNTS as u64;
            posted.retain(|_, one| one.over.is_some() || one.bytes / 2 > mean);
            if posted.len() >= MAX_ACCOUNTS {
                posted.clear();
            }
        }
        posted.insert(who.clone(), Posted { bytes, over: None });
    }

    /// Whether an account was over its share when it was counted.
    pub(super) fn is_over(&self, who: &AccountId) -> bool {
        let posted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        posted.get(who).is_some_and(|one| one.over.is_some())
    }

    /// Who is to be counted, because of `share` bytes or because a minute is over; and how much each
    /// had posted: those first who posted most.
    pub(super) fn due(&self, now: Timestamp, share: u64) -> Vec<(AccountId, u64)> {
        let posted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was put back holds nobody up.
        let is_again = |at: Timestamp| now < at || now >= at.plus_ms(AGAIN_MS);
        let is_due = |one: &Posted| one.bytes >= share || one.over.is_some_and(is_again);
        let due = posted.iter().filter(|(_, one)| is_due(one));
        let mut due: Vec<_> = due.map(|(who, one)| (who.clone(), one.bytes)).collect();
        due.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        due.truncate(IN_A_ROUND);
        due
    }

    /// An account was counted that had posted so many bytes then.
    pub(super) fn counted(&self, now: Timestamp, who: &AccountId, bytes: u64, is_over: bool) {
        let mut posted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(one) = posted.get_mut(who) else { return };
        one.bytes = one.bytes.saturating_sub(bytes);
        one.over = is_over.then_some(now);
        if one.bytes == 0 && !is_over {
            posted.remove(who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(n: usize) -> AccountId {
        format!("m{n}:a.example").parse().unwrap()
    }

    #[test]
    fn who_posts_is_counted_after_his_part_and_each_minute_while_he_is_over() {
        let (waiting, ann) = (Waiting::default(), account(1));
        let at = |ms: u64| Timestamp(1_000_000 + ms);
        let is_due = |ms| waiting.due(at(ms), 100).iter().any(|(who, _)| *who == ann);
        for (bytes, due) in [(60, false), (39, false), (1, true)] {
            waiting.add(&ann, bytes);
            assert_eq!((is_due(0), waiting.is_over(&ann)), (due, false), "{bytes}");
        }
        // What came while it was counted counts on.
        waiting.add(&ann, 70);
        waiting.counted(at(0), &ann, 100, true);
        assert!(waiting.is_over(&ann));
        for (ms, due) in [(0, false), (59_999, false), (60_000, true)] {
            assert_eq!(is_due(ms), due, "{ms}");
        }
        assert!(waiting.due(Timestamp(5), 100).len() == 1, "the clock was put back");
        waiting.add(&ann, 30);
        assert!(is_due(1));
        waiting.counted(at(1), &ann, 100, false);
        assert!(!waiting.is_over(&ann) && !is_due(90_000));
        assert!(waiting.0.lock().unwrap().is_empty(), "nothing is remembered of who is not over");
    }

    #[test]
    fn memory_is_bounded_and_who_is_over_stays_so() {
        let (waiting, over) = (Waiting::default(), account(0));
        waiting.add(&over, 1);
        waiting.counted(Timestamp(1), &over, 1, true);
        for n in 1..3 * MAX_ACCOUNTS {
            waiting.add(&account(n), 5);
            assert!(waiting.0.lock().unwrap().len() <= MAX_ACCOUNTS);
        }
        assert!(waiting.is_over(&over));
        // Nobody who posts much is forgotten for those who post little.
        waiting.add(&account(7), 1_000_000);
        for n in 3 * MAX_ACCOUNTS..5 * MAX_ACCOUNTS {
            waiting.add(&account(n), 5);
        }
        assert_eq!(waiting.due(Timestamp(2), 1_000_000), [(account(7), 1_000_000)]);
        // A round is bounded, too.
        (0..100).for_each(|n| waiting.add(&account(n), 90));
        assert_eq!(waiting.due(Timestamp(2), 90).len(), IN_A_ROUND);
    }
}

//! This device's frame keys: when a new one is made, to whom it is given, and when it is used.
//!
//! A new one is made for each epoch of the call, when somebody leaves, and when somebody comes and
//! the one there is, is older than 10 s. Each is used a second after it was given, so that all have
//! it by then; only the first is used at once.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use causeway_protocol::ids::DeviceId;
use tokio::time::Instant;

use super::{super::frame_key::FrameKey, frame::WAITING};

/// How long after it was given a key is used.
const GIVEN: Duration = Duration::from_secs(1);
/// Younger than this a key is given to who comes.
const YOUNG: Duration = Duration::from_secs(10);

/// Who takes part: a device, and since when, in ms. One that was away and is back has no keys.
pub(super) type Who = BTreeMap<DeviceId, u64>;

struct Own {
    index: u8,
    secret: FrameKey,
    made: Instant,
    used_from: Instant,
}

/// To whom which key is to be given.
pub(super) struct Give {
    pub(super) to: Vec<DeviceId>,
    pub(super) index: u8,
    pub(super) key: FrameKey,
}

#[derive(Default)]
pub(super) struct OwnKeys {
    epoch: u32,
    who: Who,
    /// The one in use, and those to be used after it.
    keys: VecDeque<Own>,
    /// A key is due, and there was no room for it.
    owed: bool,
}

impl OwnKeys {
    /// Takes who takes part, without this device, and says what is to be given to whom.
    ///
    /// `fresh` makes a key; where it cannot, the former one stays, and the next change asks again.
    pub(super) fn update(
        &mut self,
        epoch: u32,
        who: Who,
        now: Instant,
        fresh: impl FnOnce() -> Option<FrameKey>,
    ) -> Option<Give> {
        self.turn(now);
        let left = self.who.iter().any(|(device, since)| who.get(device) != Some(since));
        let came: Vec<_> = who
            .iter()
            .filter(|(device, since)| self.who.get(device) != Some(since))
            .map(|(device, _)| *device)
            .collect();
        let newest = self.keys.back();
        let is_old = newest.is_none_or(|newest| now.duration_since(newest.made) >= YOUNG);
        let is_due = epoch != self.epoch || left || (!came.is_empty() && is_old);
        self.epoch = epoch;
        self.who = who;
        if (is_due || self.owed || newest.is_none()) && self.keys.len() < WAITING {
            self.owed = true;
            if let Some(key) = fresh() {
                self.owed = false;
                return Some(self.push(key, now));
            }
        }
        self.owed |= is_due;
        let newest = self.keys.back().filter(|_| !came.is_empty())?;
        Some(Give { to: came, index: newest.index, key: newest.secret.clone() })
    }

    /// The key that frames are sealed with now.
    pub(super) fn in_use(&mut self, now: Instant) -> Option<(u8, &FrameKey)> {
        self.turn(now);
        self.keys.front().map(|own| (own.index, &own.secret))
    }

    fn push(&mut self, key: FrameKey, now: Instant) -> Give {
        let last = self.keys.back();
        let index = last.map_or(0, |last| last.index.wrapping_add(1));
        let used_from = if last.is_some() { now + GIVEN } else { now };
        self.keys.push_back(Own { index, secret: key.clone(), made: now, used_from });
        Give { to: self.who.keys().copied().collect(), index, key }
    }

    /// Lets go of keys in whose place another is used now.
    fn turn(&mut self, now: Instant) {
        while self.keys.get(1).is_some_and(|next| next.used_from <= now) {
            self.keys.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Case {
        keys: OwnKeys,
        now: Instant,
        made: u8,
    }

    impl Case {
        /// After `later` ms: (to whom, which key).
        fn update(&mut self, later: u64, epoch: u32, who: &[(u8, u64)]) -> Option<(Vec<u8>, u8)> {
            self.now += Duration::from_millis(later);
            let who = who.iter().map(|(n, since)| (DeviceId::new([*n; 32]), *since)).collect();
            let made = &mut self.made;
            let give = self.keys.update(epoch, who, self.now, || {
                *made = made.wrapping_add(1);
                Some(FrameKey::new([*made; 16]))
            })?;
            Some((give.to.iter().map(|to| to.as_bytes()[0]).collect(), give.index))
        }

        fn used(&mut self, later: u64) -> Option<u8> {
            self.now += Duration::from_millis(later);
            self.keys.in_use(self.now).map(|(index, _)| index)
        }
    }

    fn case() -> Case {
        Case { keys: OwnKeys::default(), now: Instant::now(), made: 0 }
    }

    #[test]
    fn the_first_is_used_at_once_and_each_other_a_second_later() {
        let mut case = case();
        assert_eq!(case.used(0), None);
        assert_eq!(case.update(0, 1, &[(1, 0), (2, 0)]), Some((vec![1, 2], 0)));
        assert_eq!(case.used(0), Some(0));
        assert_eq!(case.update(100, 1, &[(1, 0), (2, 0)]), None);
        assert_eq!(case.update(100, 2, &[(1, 0), (2, 0)]), Some((vec![1, 2], 1)));
        assert_eq!((case.used(999), case.used(1)), (Some(0), Some(1)));
    }

    #[test]
    fn who_comes_gets_a_young_key_and_makes_an_old_one_change() {
        let mut case = case();
        case.update(0, 1, &[(1, 0)]);
        assert_eq!(case.update(9_999, 1, &[(1, 0), (2, 0)]), Some((vec![2], 0)));
        assert_eq!(case.update(1, 1, &[(1, 0), (2, 0), (3, 0)]), Some((vec![1, 2, 3], 1)));
    }

    #[test]
    fn who_leaves_or_is_back_makes_it_change() {
        let mut case = case();
        case.update(0, 1, &[(1, 0), (2, 0)]);
        assert_eq!(case.update(10, 1, &[(1, 0)]), Some((vec![1], 1)));
        // Who was away has lost what it had, and may be somebody who found the device.
        assert_eq!(case.update(10, 1, &[(1, 7)]), Some((vec![1], 2)));
    }

    #[test]
    fn however_many_leave_each_is_kept_out_a_second_later() {
        let mut case = case();
        let all: Vec<_> = (1..=6).map(|n| (n, 0)).collect();
        case.update(0, 1, &all);
        for n in 1..=5 {
            case.update(400, 1, &all[usize::from(n)..]);
            assert_eq!(case.used(0), Some(u8::saturating_sub(n, 3)));
        }
        assert_eq!(case.used(1_000), Some(5));
    }

    #[test]
    fn a_storm_of_changes_is_bounded_and_makes_up_for_it_afterwards() {
        let mut case = case();
        (1..=100).for_each(|epoch| drop(case.update(1, epoch, &[(1, 0)])));
        assert!(case.keys.keys.len() <= WAITING && case.made < 20);
        assert_eq!(case.update(2_000, 100, &[(1, 0)]).map(|(to, _)| to), Some(vec![1]));
    }

    #[test]
    fn the_index_goes_around() {
        let mut case = case();
        let indices: Vec<_> = (0..300)
            .filter_map(|epoch| Some(case.update(2_000, epoch + 1, &[(1, 0)])?.1))
            .collect();
        assert_eq!(indices.len(), 300);
        assert_eq!((indices[255], indices[256]), (255, 0));
    }
}

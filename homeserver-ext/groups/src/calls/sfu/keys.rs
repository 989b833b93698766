//! This device's frame keys: when a new one is made, to whom it is given, and when it is used.
//!
//! A new one is made for each epoch of the call, when somebody leaves, and when somebody comes and
//! the one there is, is older than 10 s. The first is used at once, and each other when all have it.
//! Somebody who cannot be told holds it up for 10 s after another was; this device's own server, where
//! it is away or hangs, for as long as it does: nobody would have the key, and all would stop to hear
//! this device.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use causeway_protocol::ids::DeviceId;
use tokio::time::Instant;

use super::{super::frame_key::FrameKey, frame::WAITING};

/// How long it waits for who cannot be told of it, once it is known of another that he can.
const LATEST: Duration = Duration::from_secs(10);
/// Likewise where somebody came who has only that one.
const SOON: Duration = Duration::from_secs(3);
/// Younger than this a key is given to who comes.
const YOUNG: Duration = Duration::from_secs(10);

/// Who takes part: a device, and since when, in ms. One that was away and is back has no keys.
pub(super) type Who = BTreeMap<DeviceId, u64>;

struct Own {
    index: u8,
    secret: FrameKey,
    made: Instant,
    /// Who may not have it yet.
    untold: BTreeSet<DeviceId>,
    /// None until something is known of it by this device's own server, which may hang; and while that is
    /// away.
    used_from: Option<Instant>,
}

/// What became of giving somebody a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giving {
    /// It has it, or will never have it.
    Done,
    /// It will have it once this device's own server answers.
    Held,
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
        // For who is gone nothing waits.
        for own in &mut self.keys {
            own.retain(|device| self.who.contains_key(device), now);
        }
        let newest = self.keys.back();
        if (is_due || self.owed || newest.is_none()) && self.keys.len() < WAITING {
            self.owed = true;
            if let Some(key) = fresh() {
                self.owed = false;
                return Some(self.push(key, now));
            }
        }
        self.owed |= is_due;
        let is_waiting = self.keys.len() > 1;
        let newest = self.keys.back_mut().filter(|_| !came.is_empty())?;
        if is_waiting {
            // Who comes hears nothing of this device until then.
            newest.used_from = newest.used_from.map(|from| from.min(now + SOON));
        }
        Some(Give { to: came, index: newest.index, key: newest.secret.clone() })
    }

    /// The key that frames are sealed with now.
    pub(super) fn in_use(&mut self, now: Instant) -> Option<(u8, &FrameKey)> {
        self.turn(now);
        self.keys.front().map(|own| (own.index, &own.secret))
    }

    fn push(&mut self, key: FrameKey, now: Instant) -> Give {
        let to: Vec<_> = self.who.keys().copied().collect();
        let last = self.keys.back();
        let index = last.map_or(0, |last| last.index.wrapping_add(1));
        let waits = last.is_some() && !to.is_empty();
        let used_from = (!waits).then_some(now);
        let untold = to.iter().copied().collect();
        self.keys.push_back(Own { index, secret: key.clone(), made: now, untold, used_from });
        Give { to, index, key }
    }

    /// Takes what became of giving one a key.
    pub(super) fn given(&mut self, to: DeviceId, index: u8, giving: Giving, now: Instant) {
        self.turn(now);
        // The one in use waits for nobody.
        let mut waiting = self.keys.iter_mut().skip(1);
        let Some(own) = waiting.find(|own| own.index == index) else { return };
        match giving {
            Giving::Done => own.retain(|device| *device != to, now),
            Giving::Held if own.untold.contains(&to) => own.used_from = None,
            Giving::Held => {}
        }
    }

    /// Lets go of keys in whose place another is used now.
    fn turn(&mut self, now: Instant) {
        let is_used = |own: &Own| own.used_from.is_some_and(|from| from <= now);
        let used = self.keys.iter().rposition(is_used);
        self.keys.drain(..used.unwrap_or_default());
    }
}

impl Own {
    /// Those are left for whom it waits.
    fn retain(&mut self, left: impl FnMut(&DeviceId) -> bool, now: Instant) {
        let before = self.untold.len();
        self.untold.retain(left);
        if self.untold.len() == before {
            return;
        }
        // Somebody was reached, or is gone: what held it up does so no more.
        let latest = if self.untold.is_empty() { now } else { now + LATEST };
        self.used_from = Some(self.used_from.map_or(latest, |from| from.min(latest)));
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

        /// All have been told of all.
        fn told(&mut self) {
            let ways = self.keys.keys.iter().map(|own| (own.index, own.untold.clone()));
            for (index, untold) in ways.collect::<Vec<_>>() {
                for to in untold {
                    self.keys.given(to, index, Giving::Done, self.now);
                }
            }
        }

        fn given(&mut self, later: u64, (to, index): (u8, u8), giving: Giving) {
            self.now += Duration::from_millis(later);
            self.keys.given(DeviceId::new([to; 32]), index, giving, self.now);
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
    fn the_first_is_used_at_once_and_each_other_when_all_have_it() {
        let mut case = case();
        assert_eq!(case.used(0), None);
        assert_eq!(case.update(0, 1, &[(1, 0), (2, 0)]), Some((vec![1, 2], 0)));
        assert_eq!(case.used(0), Some(0));
        assert_eq!(case.update(100, 1, &[(1, 0), (2, 0)]), None);
        assert_eq!(case.update(100, 2, &[(1, 0), (2, 0)]), Some((vec![1, 2], 1)));
        case.given(50, (1, 1), Giving::Done);
        // Said again it says nothing.
        case.given(50, (1, 1), Giving::Held);
        assert_eq!(case.used(0), Some(0));
        case.given(50, (2, 1), Giving::Done);
        assert_eq!(case.used(0), Some(1));
    }

    #[test]
    fn who_cannot_be_told_holds_it_up_for_ten_seconds_and_who_is_gone_for_none() {
        let mut case = case();
        case.update(0, 1, &[(1, 0), (2, 0)]);
        case.update(0, 2, &[(1, 0), (2, 0)]);
        case.given(0, (1, 1), Giving::Done);
        assert_eq!((case.used(9_999), case.used(1)), (Some(0), Some(1)));
        case.update(0, 3, &[(1, 0), (2, 0)]);
        case.given(0, (1, 2), Giving::Done);
        // She goes: a new key is due at once, and the one before waits for nobody.
        assert_eq!(case.update(500, 3, &[(1, 0)]), Some((vec![1], 3)));
        assert_eq!(case.used(0), Some(2));
        case.given(0, (1, 3), Giving::Done);
        assert_eq!(case.used(0), Some(3));
        // Where nobody is left nobody is waited for.
        assert_eq!(case.update(500, 3, &[]), Some((vec![], 4)));
        assert_eq!(case.used(0), Some(4));
    }

    #[test]
    fn while_its_own_server_is_away_the_former_one_is_used() {
        let mut case = case();
        case.update(0, 1, &[(1, 0), (2, 0)]);
        case.update(0, 2, &[(1, 0), (2, 0)]);
        case.given(3_000, (1, 1), Giving::Held);
        assert_eq!(case.used(100_000), Some(0));
        // It is back; the other one does not hold it up for ever.
        case.given(0, (1, 1), Giving::Done);
        assert_eq!((case.used(9_999), case.used(1)), (Some(0), Some(1)));
    }

    #[test]
    fn while_its_own_server_hangs_the_former_one_is_used() {
        let mut case = case();
        case.update(0, 1, &[(1, 0), (2, 0)]);
        case.update(0, 2, &[(1, 0), (2, 0)]);
        assert_eq!(case.used(600_000), Some(0));
        // Somebody comes, of whom it has told before it hung.
        assert_eq!(case.update(0, 2, &[(1, 0), (2, 0), (3, 0)]).map(|it| it.1), Some(2));
        assert_eq!(case.used(600_000), Some(0));
        // It goes on.
        case.given(0, (1, 2), Giving::Done);
        case.given(0, (2, 2), Giving::Done);
        case.given(0, (3, 2), Giving::Done);
        assert_eq!(case.used(0), Some(2));
    }

    #[test]
    fn who_comes_while_one_waits_does_not_wait_as_long() {
        let mut case = case();
        case.update(0, 1, &[(1, 0), (2, 0)]);
        case.update(0, 2, &[(1, 0), (2, 0)]);
        case.given(0, (1, 1), Giving::Done);
        assert_eq!(case.update(0, 2, &[(1, 0), (2, 0), (3, 0)]), Some((vec![3], 1)));
        assert_eq!((case.used(2_999), case.used(1)), (Some(0), Some(1)));
    }

    #[test]
    fn one_that_all_have_is_used_before_one_that_waits() {
        let mut case = case();
        case.update(0, 1, &[(1, 0), (2, 0)]);
        case.update(0, 2, &[(1, 0), (2, 0)]);
        case.update(0, 3, &[(1, 0), (2, 0)]);
        case.given(0, (1, 2), Giving::Done);
        case.given(0, (2, 2), Giving::Done);
        assert_eq!(case.used(0), Some(2));
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
    fn however_many_leave_each_is_kept_out_when_the_others_know() {
        let mut case = case();
        let all: Vec<_> = (1..=6).map(|n| (n, 0)).collect();
        case.update(0, 1, &all);
        for n in 1..=5 {
            case.update(400, 1, &all[usize::from(n)..]);
            assert_eq!(case.used(0), Some(n - 1));
            case.told();
            assert_eq!(case.used(0), Some(n));
        }
    }

    #[test]
    fn a_storm_of_changes_is_bounded_and_makes_up_for_it_afterwards() {
        let mut case = case();
        (1..=100).for_each(|epoch| drop(case.update(1, epoch, &[(1, 0)])));
        case.told();
        assert!(case.keys.keys.len() <= WAITING && case.made < 20);
        assert_eq!(case.update(2_000, 100, &[(1, 0)]).map(|(to, _)| to), Some(vec![1]));
    }

    #[test]
    fn the_index_goes_around() {
        let mut case = case();
        let indices: Vec<_> = (0..300)
            .filter_map(|epoch| {
                case.told();
                Some(case.update(2_000, epoch + 1, &[(1, 0)])?.1)
            })
            .collect();
        assert_eq!(indices.len(), 300);
        assert_eq!((indices[255], indices[256]), (255, 0));
    }
}

//! How often each may ask: so much at once, and then one after the other.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use causeway_protocol::ids::Timestamp;

/// Most that are remembered; of more than these, whoever may ask the soonest is forgotten.
const MAX: usize = 10_000;

/// When each may ask again.
#[derive(Debug)]
pub(super) struct Limits<K> {
    at_once: u64,
    every_ms: u64,
    /// When all that was taken will be made good.
    due: Mutex<HashMap<K, u64>>,
}

impl<K: Clone + Eq + Hash> Limits<K> {
    /// So many at once, and one more every so many ms.
    pub(super) fn new((at_once, every_ms): (u32, u64)) -> Self {
        Self { at_once: at_once.into(), every_ms, due: Mutex::default() }
    }

    /// Counts one of `who`, or says in how many ms that can be.
    pub(super) fn take(&self, now: Timestamp, who: K) -> Result<(), u64> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.len() >= MAX && !due.contains_key(&who) {
            due.retain(|_, at| *at > now.0);
            if due.len() >= MAX
                && let Some(soonest) = due.iter().min_by_key(|(_, at)| **at)
            {
                let soonest = soonest.0.clone();
                due.remove(&soonest);
            }
        }
        let at = due.entry(who).or_insert(now.0);
        // A clock that went back takes nobody's turn for longer than all of it.
        let full = self.at_once * self.every_ms;
        *at = (*at).clamp(now.0, now.0 + full);
        let next = *at + self.every_ms;
        if next > now.0 + full {
            return Err(next - now.0 - full);
        }
        *at = next;
        Ok(())
    }
}

/// Addresses of one household: of IPv6 its first half.
pub(super) fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use causeway_protocol::ids::Timestamp;

    use super::{Limits, MAX, household};

    #[test]
    fn each_asks_so_often_and_no_more() {
        let limits = Limits::new((3, 1_000));
        let take = |at, who| limits.take(Timestamp(at), who);
        for _ in 0..3 {
            take(5_000, 1).unwrap();
        }
        assert_eq!(take(5_000, 1), Err(1_000));
        assert_eq!(take(5_400, 1), Err(600));
        take(5_400, 2).unwrap();
        take(6_000, 1).unwrap();
        assert_eq!(take(6_000, 1), Err(1_000));
        // The clock is set back: nobody waits longer than for one.
        assert_eq!(take(1_000, 1), Err(1_000));
        take(2_000, 1).unwrap();
    }

    #[test]
    fn not_more_are_remembered_than_fit() {
        let limits = Limits::new((1, 1_000));
        for who in 0..MAX + 50 {
            limits.take(Timestamp(1), who).unwrap();
        }
        assert_eq!(limits.due.lock().unwrap().len(), MAX);
    }

    #[test]
    fn a_household_is_one() {
        let of = |text: &str| household(text.parse().unwrap());
        assert_eq!(of("2606:4700:1:2:3::4"), of("2606:4700:1:2::9"));
        assert_ne!(of("2606:4700:1:2::1"), of("2606:4700:1:3::1"));
        assert_eq!(of("::ffff:1.2.3.4"), of("1.2.3.4"));
    }
}

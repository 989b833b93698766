//! Groups that cannot be told of the account's devices now, so that they hold up no others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use causeway_protocol::ids::{GroupId, Timestamp};

/// Before a server that did not answer, or did not know the account, is tried again, milliseconds: it may
/// have been put back, and be given what it lost.
const AGAIN_MS: u64 = 60_000;

/// Which, since this start.
#[derive(Debug, Default)]
pub(super) struct Untold(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The server says that this account is not in them; until when that is taken for granted.
    outside: BTreeMap<GroupId, Timestamp>,
    /// Servers that keep groups and do not answer, and when they are tried again.
    away: BTreeMap<String, Timestamp>,
}

impl Untold {
    /// The server does not know the account in this group.
    pub(super) fn is_outside(&self, group: GroupId, now: Timestamp) {
        self.known().outside.insert(group, now.plus_ms(AGAIN_MS));
    }

    /// Groups in which the server does not know the account.
    pub(super) fn outside(&self, now: Timestamp) -> BTreeSet<GroupId> {
        let known = self.known();
        known.outside.iter().filter(|(_, until)| now < **until).map(|(group, _)| *group).collect()
    }

    /// The server that keeps a group did not answer.
    pub(super) fn is_away(&self, home: &str, now: Timestamp) {
        self.known().away.insert(home.to_owned(), now.plus_ms(AGAIN_MS));
    }

    /// Whether there is no use in telling this group, which `home` keeps, now.
    pub(super) fn waits(&self, group: GroupId, home: &str, now: Timestamp) -> bool {
        let known = self.known();
        let until = [known.outside.get(&group), known.away.get(home)];
        until.into_iter().flatten().any(|until| now < *until)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_holds_up_its_own_groups_for_a_minute_and_no_others() {
        let untold = Untold::default();
        let [here, there] = [GroupId::new([1; 32]), GroupId::new([2; 32])];
        untold.is_away("b.example", Timestamp(1_000));
        let rows = [
            (here, "a.example", 1_000, false),
            (there, "b.example", 1_000, true),
            (there, "b.example", 60_999, true),
            (there, "b.example", 61_000, false),
        ];
        for (group, home, now, waits) in rows {
            assert_eq!(untold.waits(group, home, Timestamp(now)), waits, "{home} at {now}");
        }
        untold.is_outside(here, Timestamp(2_000));
        assert!(untold.waits(here, "a.example", Timestamp(61_999)));
        assert_eq!(untold.outside(Timestamp(61_999)), BTreeSet::from([here]));
        // The server may have been put back, and have it again.
        assert!(!untold.waits(here, "a.example", Timestamp(62_000)));
        assert!(untold.outside(Timestamp(62_000)).is_empty());
    }
}

//! Groups that cannot be told of the account's devices now, so that they hold up no others.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use causeway_protocol::ids::{GroupId, Timestamp};

/// Before a server that did not answer is tried again, milliseconds.
const AGAIN_MS: u64 = 60_000;

/// Which, since this start.
#[derive(Debug, Default)]
pub(super) struct Untold(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The server says that this account is not in them.
    outside: BTreeSet<GroupId>,
    /// Servers that keep groups and do not answer, and when they are tried again.
    away: BTreeMap<String, Timestamp>,
}

impl Untold {
    /// The server does not know the account in this group.
    pub(super) fn is_outside(&self, group: GroupId) {
        self.known().outside.insert(group);
    }

    /// Groups in which the server does not know the account.
    pub(super) fn outside(&self) -> BTreeSet<GroupId> {
        self.known().outside.clone()
    }

    /// The server that keeps a group did not answer.
    pub(super) fn is_away(&self, home: &str, now: Timestamp) {
        self.known().away.insert(home.to_owned(), now.plus_ms(AGAIN_MS));
    }

    /// Whether there is no use in telling this group, which `home` keeps, now.
    pub(super) fn waits(&self, group: GroupId, home: &str, now: Timestamp) -> bool {
        let known = self.known();
        known.outside.contains(&group) || known.away.get(home).is_some_and(|until| now < *until)
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
        untold.is_outside(here);
        assert!(untold.waits(here, "a.example", Timestamp(u64::MAX)));
        assert!(untold.outside().contains(&here) && !untold.outside().contains(&there));
    }
}

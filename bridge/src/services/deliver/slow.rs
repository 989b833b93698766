//! Whose words the homeserver takes, and slowly, while it is quick with others': they go beside the
//! rest of the room, which waits for one of them at most.
//!
//! In memory: a process that forgot it lets the room wait once more.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::domain::portal::PortalId;

/// Who has others wait for so long is slow.
const SLOW: Duration = Duration::from_secs(2);
/// For how long that is believed of somebody who says nothing since.
const NOTED_FOR: Duration = Duration::from_hours(1);
/// People of a room who are slow before it is the room, or the homeserver: then all keep their order.
const MOST: usize = 8;

/// Who is slow in which room, and when that was seen last.
#[derive(Debug, Default)]
pub(super) struct Slow(Mutex<BTreeMap<PortalId, BTreeMap<String, Duration>>>);

impl Slow {
    /// Something of somebody's was done, and took so long.
    pub(super) fn took(&self, now: Duration, portal: PortalId, who: &str, took: Duration) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if took < SLOW {
            if let Some(people) = rooms.get_mut(&portal) {
                people.remove(who);
                if people.is_empty() {
                    rooms.remove(&portal);
                }
            }
            return;
        }
        rooms.retain(|_, people| {
            people.retain(|_, seen| now.saturating_sub(*seen) < NOTED_FOR);
            !people.is_empty()
        });
        let people = rooms.entry(portal).or_default();
        // One more than count says that it is the room.
        if people.len() <= MOST || people.contains_key(who) {
            people.insert(who.to_owned(), now);
        }
    }

    /// Whether others in the room are not to wait for what is somebody's.
    pub(super) fn is_slow(&self, now: Duration, portal: PortalId, who: &str) -> bool {
        let rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let people = rooms.get(&portal).filter(|people| people.len() <= MOST);
        people
            .and_then(|people| people.get(who))
            .is_some_and(|seen| now.saturating_sub(*seen) < NOTED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: PortalId = PortalId(1);

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn somebody_is_slow_until_he_is_quick_or_silent_for_an_hour() {
        let slow = Slow::default();
        slow.took(s(0), ROOM, "bob", Duration::from_millis(1_999));
        assert!(!slow.is_slow(s(0), ROOM, "bob"));
        slow.took(s(10), ROOM, "bob", s(2));
        assert!(slow.is_slow(s(3_609), ROOM, "bob") && !slow.is_slow(s(3_610), ROOM, "bob"));
        assert!(!slow.is_slow(s(10), ROOM, "eve") && !slow.is_slow(s(10), PortalId(2), "bob"));
        slow.took(s(20), ROOM, "bob", s(1));
        assert!(!slow.is_slow(s(20), ROOM, "bob"));
        assert!(slow.0.lock().unwrap().is_empty(), "nothing is kept of who is quick");
    }

    #[test]
    fn where_many_are_slow_it_is_the_room() {
        let slow = Slow::default();
        for n in 0..MOST {
            slow.took(s(0), ROOM, &n.to_string(), s(3));
        }
        assert!(slow.is_slow(s(0), ROOM, "0"));
        for n in MOST..100 {
            slow.took(s(1), ROOM, &n.to_string(), s(3));
            assert!(!slow.is_slow(s(1), ROOM, "0"), "{n}");
        }
        assert_eq!(slow.0.lock().unwrap()[&ROOM].len(), MOST + 1);
        slow.took(s(2), ROOM, "8", s(0));
        assert!(slow.is_slow(s(2), ROOM, "0"), "the room is quick again with one of them");
        slow.took(s(4_000), PortalId(2), "bob", s(3));
        assert_eq!(slow.0.lock().unwrap().len(), 1);
    }
}

//! How many commands are answered: so many of one person in a room, and of all in it together.

use std::{collections::BTreeMap, time::Duration};

use ruma::{OwnedUserId, UserId};

use super::{command::Words, portal::PortalId};

/// Answers of one person in a room.
const OF_ONE: Rate = Rate { burst: 5, every: Duration::from_secs(10) };
/// Answers in one room.
const OF_ROOM: Rate = Rate { burst: 20, every: Duration::from_secs(2) };
/// Ghosts of names that nobody has, made to decline what one person invites them to.
const NAMES_OF_ONE: Rate = Rate { burst: 3, every: Duration::from_hours(8) };
/// Of all.
const NAMES: Rate = Rate { burst: 20, every: Duration::from_mins(72) };
/// Answers that wait for the homeserver in one room; beyond, no command is answered.
pub const MOST_WAITING: u64 = 100;

/// So many at once, and one more each time that this has passed.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// What was used of a rate (GCRA): all of it is there again at that time.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    whole_at: Duration,
    is_told: bool,
}

impl Used {
    /// The same at `now`; who has asked nothing for so long begins anew.
    fn at(self, now: Duration) -> Self {
        if self.whole_at <= now { Self { whole_at: now, is_told: false } } else { self }
    }

    fn has_some(&self, rate: Rate, now: Duration) -> bool {
        self.whole_at + rate.every <= now + rate.every * rate.burst
    }
}

/// Whether a command is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It is.
    Yes,
    /// These words are said in its place.
    Told(Words),
    /// Only what needs no answer: the room has had its share, and he has not.
    InSilence,
    /// Nothing is said any more.
    No,
}

/// Who has asked how much lately. Kept in memory: a restart forgives.
#[derive(Debug, Default)]
pub struct Asks {
    rooms: BTreeMap<PortalId, Used>,
    people: BTreeMap<(PortalId, OwnedUserId), Used>,
    names_of: BTreeMap<OwnedUserId, Used>,
    names: Used,
}

impl Asks {
    /// Whether one more command of `who` is answered at `now`, of a clock that only goes forth. Others in
    /// the room cannot use up what he has where `is_his` is true.
    pub fn take(
        &mut self,
        now: Duration,
        portal: PortalId,
        who: &UserId,
        is_his: bool,
    ) -> Answered {
        // No more of them stay than rooms let ask.
        self.rooms.retain(|_, used| used.whole_at > now);
        self.people.retain(|_, used| used.whole_at > now);
        let key = (portal, who.to_owned());
        let one = self.people.get(&key).copied().unwrap_or_default().at(now);
        let room = self.rooms.get(&portal).copied().unwrap_or_default().at(now);
        if !one.has_some(OF_ONE, now) {
            let told = self.people.insert(key, Used { is_told: true, ..one });
            return told.map_or(Answered::No, |before| before.instead(Words::TooMuch));
        }
        let drawn = Used { whole_at: one.whole_at + OF_ONE.every, ..one };
        if !room.has_some(OF_ROOM, now) {
            if is_his {
                self.people.insert(key, drawn);
                return Answered::InSilence;
            }
            let told = self.rooms.insert(portal, Used { is_told: true, ..room });
            return told.map_or(Answered::No, |before| before.instead(Words::TooMuchHere));
        }
        self.people.insert(key, drawn);
        self.rooms.insert(portal, Used { whole_at: room.whole_at + OF_ROOM.every, ..room });
        Answered::Yes
    }
}

impl Asks {
    /// Whether one more ghost is made to decline for a name that nobody has, because `who` invites it:
    /// anybody may think of names, and what is made stays.
    pub fn take_name(&mut self, now: Duration, who: &UserId) -> bool {
        self.names_of.retain(|_, used| used.whole_at > now);
        let one = self.names_of.get(who).copied().unwrap_or_default().at(now);
        let all = self.names.at(now);
        if !one.has_some(NAMES_OF_ONE, now) || !all.has_some(NAMES, now) {
            return false;
        }
        let drawn = Used { whole_at: one.whole_at + NAMES_OF_ONE.every, ..one };
        self.names_of.insert(who.to_owned(), drawn);
        self.names = Used { whole_at: all.whole_at + NAMES.every, ..all };
        true
    }
}

impl Used {
    fn instead(self, words: Words) -> Answered {
        if self.is_told { Answered::No } else { Answered::Told(words) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: PortalId = PortalId(1);

    fn user(name: &str) -> OwnedUserId {
        OwnedUserId::try_from(format!("@{name}:x")).unwrap()
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What `who` hears of commands at these seconds: `y`es, what he is `t`old, or nothing.
    fn hears(asks: &mut Asks, who: &str, at: impl IntoIterator<Item = u64>) -> String {
        let heard = |second| match asks.take(s(second), ROOM, &user(who), false) {
            Answered::Yes => 'y',
            Answered::Told(Words::TooMuch) => 't',
            Answered::Told(_) => 'r',
            Answered::InSilence => 's',
            Answered::No => '-',
        };
        at.into_iter().map(heard).collect()
    }

    #[test]
    fn one_person_is_answered_so_often_told_once_and_then_nothing() {
        let table: [(&[u64], &str); 5] = [
            (&[0, 0, 0, 0, 0, 0, 0, 0], "yyyyyt--"),
            // One more every ten seconds, and no word more about the rest.
            (&[0, 0, 0, 0, 0, 9, 10, 11, 19, 20, 21], "yyyyyty--y-"),
            // Who has let it be for long enough is told again.
            (&[0, 0, 0, 0, 0, 0, 50, 50, 50, 50, 50, 50, 50], "yyyyytyyyyyt-"),
            (&[0, 10, 20, 30, 40, 50, 60, 70], "yyyyyyyy"),
            (&[0, 0, 0, 0, 0, 0, 40, 40, 40, 40, 40], "yyyyytyyyy-"),
        ];
        for (at, expected) in table {
            assert_eq!(hears(&mut Asks::default(), "al", at.iter().copied()), expected, "{at:?}");
        }
    }

    #[test]
    fn a_room_is_answered_so_often_whoever_asks_and_others_are_not_its_business() {
        let mut asks = Asks::default();
        for who in ["al", "bo", "cy", "di"] {
            assert_eq!(hears(&mut asks, who, [0; 5]), "yyyyy", "{who}");
        }
        assert_eq!(hears(&mut asks, "eve", [0, 0, 2, 2, 4, 4]), "r-y-y-");
        assert_eq!(asks.take(s(4), PortalId(2), &user("eve"), false), Answered::Yes);
    }

    #[test]
    fn what_is_his_own_nobody_else_uses_up() {
        let mut asks = Asks::default();
        for who in ["al", "bo", "cy", "di"] {
            hears(&mut asks, who, [0; 5]);
        }
        assert_eq!(hears(&mut asks, "eve", [0]), "r");
        let mut own = |who| asks.take(s(0), ROOM, &user(who), true);
        let owns: Vec<_> = (0..7).map(|_| own("eve")).collect();
        assert_eq!(owns[..5], [Answered::InSilence; 5]);
        assert_eq!(owns[5..], [Answered::Told(Words::TooMuch), Answered::No]);
        assert_eq!(own("al"), Answered::Told(Words::TooMuch), "what he has is used up by himself");
    }

    #[test]
    fn names_that_nobody_has_are_answered_for_a_few_times_a_day() {
        const HOUR: u64 = 60 * 60;
        let mut asks = Asks::default();
        let mut made = |who: &str, at: u64, times: usize| {
            (0..times).filter(|_| asks.take_name(s(at), &user(who))).count()
        };
        assert_eq!(made("al", 0, 10), 3);
        assert_eq!((made("al", 7 * HOUR, 5), made("al", 8 * HOUR, 5)), (0, 1));
        let of_all: usize = (0..100).map(|n| made(&format!("u{n}"), 8 * HOUR, 3)).sum();
        assert!((16..=20).contains(&of_all), "{of_all}");
        let a_day: usize = (9..33).map(|hour| made(&format!("v{hour}"), hour * HOUR, 3)).sum();
        assert!(a_day <= 20, "{a_day}");
    }

    #[test]
    fn nobody_is_remembered_who_has_not_asked_for_long() {
        let mut asks = Asks::default();
        for number in 0..2_000 {
            asks.take(s(number / 4), ROOM, &user(&format!("u{number}")), false);
        }
        let most = asks.people.len();
        assert!(most < 50, "{most}");
        assert_eq!(asks.take(s(10_000), PortalId(2), &user("al"), false), Answered::Yes);
        assert_eq!((asks.people.len(), asks.rooms.len()), (1, 1));
    }
}

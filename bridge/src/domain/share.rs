//! What the bridge does for one account: whether it lets itself be asked into groups by it, and how
//! many rooms and invitations it makes for it in a day.

use std::fmt;

use causeway_protocol::ids::{AccountId, Timestamp};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// What every account gets, as the operator has set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Whom the bridge lets itself be asked by.
    pub allow: Vec<Pattern>,
    /// Rooms that are made for one account in a day; `None`: as many as it likes.
    pub rooms: Option<u32>,
    /// Invitations that are sent for one account in a day; `None`: as many as it likes.
    pub invites: Option<u32>,
}

/// Accounts by their names: `ann:b.example`, `*:b.example`, `staff-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

/// What an account had of the bridge on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    /// Rooms.
    pub rooms: u32,
    /// Invitations.
    pub invites: u32,
}

/// What an account may still have today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Whether the bridge lets itself be asked by it at all.
    pub may_ask: bool,
    /// Rooms.
    pub rooms: u32,
    /// Invitations.
    pub invites: u32,
}

/// Why an account gets nothing, or no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The operator does not let it ask.
    NotAllowed,
    /// It had its rooms for today.
    Rooms,
    /// It had its invitations for today.
    Invites,
}

/// What an account was given, and what not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The account.
    pub to: AccountId,
    /// What it had more.
    pub used: Used,
    /// Why it did not get all that it asked for.
    pub refused: Option<Refusal>,
}

impl Terms {
    /// What an account may still have that had so much today. Whose name is not known is nobody
    /// whom the operator lets ask.
    pub fn share(&self, account: Option<&AccountId>, used: Used) -> Share {
        let left = |most: Option<u32>, used: u32| most.map_or(u32::MAX, |m| m.saturating_sub(used));
        Share {
            may_ask: account.is_some_and(|who| self.allow.iter().any(|p| p.covers(who))),
            rooms: left(self.rooms, used.rooms),
            invites: left(self.invites, used.invites),
        }
    }
}

impl Share {
    /// Why the bridge does not come where it asks it to, if so; whether a room has to be made there.
    pub fn refuses(&self, needs_room: bool) -> Option<Refusal> {
        match self {
            Self { may_ask: false, .. } => Some(Refusal::NotAllowed),
            Self { rooms: 0, .. } if needs_room => Some(Refusal::Rooms),
            _ => None,
        }
    }

    /// How many of so many invitations it gets, and why not all.
    pub fn invites_of(&self, wanted: usize) -> (usize, Option<Refusal>) {
        if wanted > 0 && !self.may_ask {
            return (0, Some(Refusal::NotAllowed));
        }
        let left = usize::try_from(self.invites).unwrap_or(usize::MAX);
        (wanted.min(left), (wanted > left).then_some(Refusal::Invites))
    }
}

impl Refusal {
    /// The key of the configuration that says so.
    pub fn key(self) -> &'static str {
        match self {
            Self::NotAllowed => "bridge.allow",
            Self::Rooms => "bridge.rooms_per_day",
            Self::Invites => "bridge.invites_per_day",
        }
    }
}

impl Pattern {
    /// Reads one; `server` is whose account is meant where none is named. `None` if no account can
    /// have such a name.
    pub fn parse(text: &str, server: &str) -> Option<Self> {
        let (local, of) = text.split_once(':').unwrap_or((text, server));
        let fits =
            |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '=' | '/' | '+' | '-' | '*');
        let is_server = !of.is_empty() && !of.contains(char::is_whitespace);
        (!local.is_empty() && local.chars().all(fits) && is_server)
            .then(|| Self(format!("{local}:{of}")))
    }

    /// Whether `account` is one of those that are meant; `*` is any run of characters.
    pub fn covers(&self, account: &AccountId) -> bool {
        is_like(&self.0, account.as_str())
    }
}

fn is_like(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    // The earliest place of each leaves most for those behind it.
    for part in parts {
        let Some((_, behind)) = name.split_once(part) else { return false };
        name = behind;
    }
    name.ends_with(last)
}

/// Which day it is, counted from 1970 in UTC.
pub fn day(now: Timestamp) -> u64 {
    now.0 / DAY_MS
}

impl fmt::Display for Refusal {
    /// What to do about it, for the group to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAllowed => {
                "This server's operator does not let that account ask (bridge.allow): another \
                 admin may, or ask the operator."
            }
            Self::Rooms => {
                "That account had as many rooms made today as this server's operator lets one have \
                 (bridge.rooms_per_day): ask again after midnight UTC."
            }
            Self::Invites => {
                "That account had as many people invited today as this server's operator lets one \
                 have (bridge.invites_per_day): ask again after midnight UTC."
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_whom_they_name() {
        let table = [
            ("*", "ann:b.example", true),
            ("*", "ann:c.example", false),
            ("*:*", "ann:c.example", true),
            ("ann", "ann:b.example", true),
            ("ann", "anna:b.example", false),
            ("staff-*", "staff-ann:b.example", true),
            ("staff-*", "ann:b.example", false),
            ("*-x*y", "a-xy-xay:b.example", true),
            ("*-x*y", "a-xyz:b.example", false),
            ("ann:c.example", "ann:b.example", false),
            // No part is used twice.
            ("ab*ba", "aba:b.example", false),
            ("a*a:b.example", "a:b.example", false),
        ];
        for (pattern, account, covers) in table {
            let parsed = Pattern::parse(pattern, "b.example").unwrap();
            assert_eq!(parsed.covers(&account.parse().unwrap()), covers, "{pattern} {account}");
        }
        for wrong in ["", ":b.example", "Ann", "@ann:b.example", "a b", "ann:", "ann:b c"] {
            assert_eq!(Pattern::parse(wrong, "b.example"), None, "{wrong}");
        }
    }

    #[test]
    fn a_share_is_what_is_left_of_the_day() {
        let allow = vec![Pattern::parse("ann", "b.example").unwrap()];
        let terms = Terms { allow, rooms: Some(2), invites: None };
        let ann: AccountId = "ann:b.example".parse().unwrap();
        let bob: AccountId = "bob:b.example".parse().unwrap();
        let share = terms.share(Some(&ann), Used { rooms: 1, invites: 7 });
        assert_eq!(share, Share { may_ask: true, rooms: 1, invites: u32::MAX });
        assert_eq!((share.refuses(true), share.invites_of(9)), (None, (9, None)));
        let share = terms.share(Some(&ann), Used { rooms: 3, invites: 0 });
        assert_eq!((share.refuses(true), share.refuses(false)), (Some(Refusal::Rooms), None));
        for stranger in [Some(&bob), None] {
            let share = terms.share(stranger, Used::default());
            assert_eq!(share.refuses(false), Some(Refusal::NotAllowed));
            assert_eq!(share.invites_of(1), (0, Some(Refusal::NotAllowed)));
            assert_eq!(share.invites_of(0), (0, None));
        }
        let few = Share { may_ask: true, rooms: 0, invites: 2 };
        assert_eq!(few.invites_of(2), (2, None));
        assert_eq!(few.invites_of(3), (2, Some(Refusal::Invites)));
    }

    #[test]
    fn days_begin_at_midnight() {
        assert_eq!([0, DAY_MS - 1, DAY_MS].map(|ms| day(Timestamp(ms))), [0, 0, 1]);
    }
}

//! A leave of a call that a client has scheduled at its homeserver and left to us (MSC4195, "delegation of
//! delayed leave events"): put off while its device is on the server for calls, sent when it is gone.

use causeway_protocol::ids::{GroupId, Timestamp};
use ruma::{OwnedRoomId, OwnedUserId};

/// How long a device that asked for a token may take to come.
const COMES_MS: u64 = 60_000;
/// How long one that was there may be away.
const GRACE_MS: u64 = 15_000;
/// Shortest and longest that a leave may wait.
pub const SHORTEST_MS: u64 = 10_000;
/// A day, which is what the homeserver is told to allow.
pub const LONGEST_MS: u64 = 24 * 60 * 60 * 1_000;
/// Longest name of a delayed event, in bytes.
const MAX_ID: usize = 255;

/// One such leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    /// Of which room's call.
    pub room: OwnedRoomId,
    /// What the device is called there.
    pub identity: String,
    /// Whose it is.
    pub user: OwnedUserId,
    /// Whose room it is; none where that is no group's.
    pub group: Option<GroupId>,
    /// What the homeserver calls it; whoever knows it may send it.
    pub delay: String,
    /// After how many ms it is sent if nobody puts it off.
    pub timeout_ms: u64,
    /// Since when it is ours.
    pub began: Timestamp,
    /// When it was put off last.
    pub put_off: Timestamp,
    /// Whether the device was there.
    pub is_seen: bool,
    /// Since when it is not any more.
    pub gone: Option<Timestamp>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing yet.
    Wait,
    /// It is put off.
    PutOff,
    /// It is sent.
    Send,
}

/// Whether this may be what a homeserver calls a delayed event: it becomes a part of a path.
pub fn is_delay(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(is_plain)
}

impl Delegated {
    /// Takes in whether the device is there; `None`: nobody knows. What then is to be done.
    pub fn look(&mut self, is_there: Option<bool>, now: Timestamp) -> Act {
        match is_there {
            Some(true) => (self.is_seen, self.gone) = (true, None),
            Some(false) => self.gone = self.gone.or(Some(now)),
            // What is said may go on without whoever could tell.
            None => {}
        }
        let since = |at: Timestamp| now.0.saturating_sub(at.0);
        let is_gone = if self.is_seen {
            self.gone.is_some_and(|at| since(at) >= GRACE_MS)
        } else {
            is_there.is_some() && since(self.began) >= COMES_MS
        };
        // At four fifths, as often as it has to be.
        let is_due = since(self.put_off) >= self.timeout_ms / 5 * 4;
        match (is_gone, is_due) {
            (true, _) => Act::Send,
            (false, true) => Act::PutOff,
            (false, false) => Act::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(timeout_ms: u64) -> Delegated {
        Delegated {
            room: "!r:b.example".try_into().unwrap(),
            identity: "@mia:b.example:PHONE".to_owned(),
            user: "@mia:b.example".try_into().unwrap(),
            group: Some(GroupId::new([1; 32])),
            delay: "syd_1".to_owned(),
            timeout_ms,
            began: Timestamp(0),
            put_off: Timestamp(0),
            is_seen: false,
            gone: None,
        }
    }

    #[test]
    fn it_is_put_off_while_the_device_is_there_and_sent_when_it_is_gone() {
        let mut it = one(100_000);
        for (at, is_there, act) in [
            (0, Some(false), Act::Wait),
            (59_999, Some(false), Act::Wait),
            (60_000, Some(true), Act::Wait),
            (80_000, Some(true), Act::PutOff),
            // Away for a moment, and back.
            (81_000, Some(false), Act::PutOff),
            (95_999, Some(false), Act::PutOff),
            (96_000, Some(true), Act::PutOff),
            (97_000, Some(false), Act::PutOff),
            // Nobody knows: that is no reason.
            (111_999, None, Act::PutOff),
            (112_000, Some(false), Act::Send),
        ] {
            assert_eq!(it.look(is_there, Timestamp(at)), act, "{at}");
        }
        it.put_off = Timestamp(112_000);
        it.look(Some(true), Timestamp(112_000));
        assert_eq!(it.look(Some(true), Timestamp(191_999)), Act::Wait);
        assert_eq!(it.look(Some(true), Timestamp(192_000)), Act::PutOff);
    }

    #[test]
    fn who_never_comes_is_not_shown_for_an_hour() {
        let mut it = one(3_600_000);
        assert_eq!(it.look(None, Timestamp(60_000)), Act::Wait);
        assert_eq!(it.look(Some(false), Timestamp(60_000)), Act::Send);
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for good in ["syd_VYOdPJpCRJMJRDVDvZfS", "a-1"] {
            assert!(is_delay(good), "{good}");
        }
        for bad in ["", "..", "a/b", "a%2Fb", "a?b", "ä", "a b", &"a".repeat(256)] {
            assert!(!is_delay(bad), "{bad}");
        }
    }
}

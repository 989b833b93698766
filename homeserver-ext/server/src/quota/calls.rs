//! How much one device, and one member, may do with calls. Not in the configuration: what a person does is far below.

use causeway_protocol::ids::{AccountId, DeviceId, GroupId, Timestamp};
use sha2::{Digest as _, Sha256};

use super::{Buckets, Quota, hits::Hits};

/// Calls that a device starts or joins, in a short time and in a long one.
const A_MINUTE: Quota = Quota::per_minute(5, 5);
const AN_HOUR: Quota = Quota::per_hour(20, 20);
/// Likewise all devices of one account: who has many rings nobody more often.
const OF_MEMBER: Quota = Quota::per_hour(40, 10);
/// Calls of one group that one of Matrix begins, and that all of them do.
const A_GUEST: Quota = Quota::per_hour(10, 3);
const OF_GUESTS: Quota = Quota::per_hour(30, 6);
/// What it says in calls: reports, microphone, hand, that it declines.
const WORDS: Quota = Quota::per_minute(120, 60);

/// A device did something in calls too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooOften {
    /// Again after so many milliseconds.
    #[error(
        "a device starts or joins {} calls a minute and {} an hour at most, all of a member {} and {} \
         at once (`{CALLS}`)",
        A_MINUTE.in_a_minute(), AN_HOUR.per_hour, OF_MEMBER.per_hour, OF_MEMBER.burst
    )]
    Join(u64),
    /// Again after so many milliseconds.
    #[error("Matrix users begin {} calls of one group an hour, and one of them {}, at most", OF_GUESTS.per_hour, A_GUEST.per_hour)]
    Guest(u64),
    /// Again after so many milliseconds.
    #[error(
        "a device says {} things a minute in calls at most, {} at once (`{WORDS_OF_CALLS}`)",
        WORDS.in_a_minute(), WORDS.burst
    )]
    Word(u64),
}

const CALLS: &str = "calls";
const WORDS_OF_CALLS: &str = "call_words";

impl TooOften {
    /// Milliseconds after which it may do so again.
    pub(crate) const fn again_ms(self) -> u64 {
        match self {
            Self::Join(ms) | Self::Word(ms) | Self::Guest(ms) => ms,
        }
    }
}

/// What each device has left.
#[derive(Debug)]
pub(crate) struct CallShares {
    minute: Buckets<DeviceId>,
    hour: Buckets<DeviceId>,
    members: Buckets<AccountId>,
    words: Buckets<DeviceId>,
    /// Of those of Matrix, by group and user.
    guests: Buckets<[u8; 32]>,
    guest_words: Buckets<[u8; 32]>,
    hits: Hits,
}

impl CallShares {
    pub(crate) fn new(hits: Hits) -> Self {
        let (minute, hour, words) = (Buckets::default(), Buckets::default(), Buckets::default());
        Self {
            minute,
            hour,
            members: Buckets::default(),
            words,
            guests: Buckets::default(),
            guest_words: Buckets::default(),
            hits,
        }
    }

    /// Takes a call of a group that one of Matrix begins, in the group and of him: who begins many has
    /// nobody's device ring all day.
    pub(crate) fn guest(
        &self,
        now: Timestamp,
        (group, user): (&GroupId, &str),
    ) -> Result<(), TooOften> {
        let his = Sha256::new().chain_update(group).chain_update(user).finalize().into();
        let groups = Sha256::new().chain_update(group).finalize().into();
        let taken = self.guests.take(now, his, Some(A_GUEST), 1);
        let taken = taken.and_then(|()| self.guests.take(now, groups, Some(OF_GUESTS), 1));
        taken.map_err(TooOften::Guest)
    }

    /// Takes what one of Matrix says in the calls of a group: his hand, a sign, that he does not come.
    pub(crate) fn guest_word(
        &self,
        now: Timestamp,
        (group, user): (&GroupId, &str),
    ) -> Result<(), TooOften> {
        let his = Sha256::new().chain_update(group).chain_update(user).finalize().into();
        self.guest_words.take(now, his, Some(WORDS), 1).map_err(TooOften::Word)
    }

    /// Takes a start or a join, whatever becomes of it.
    pub(crate) fn join(
        &self,
        now: Timestamp,
        (account, device): (&AccountId, DeviceId),
    ) -> Result<(), TooOften> {
        let taken = self.minute.take(now, device, Some(A_MINUTE), 1);
        let taken = taken.and_then(|()| self.hour.take(now, device, Some(AN_HOUR), 1));
        let taken =
            taken.and_then(|()| self.members.take(now, account.clone(), Some(OF_MEMBER), 1));
        taken.map_err(|again_ms| {
            self.hits.note(now, CALLS, account);
            TooOften::Join(again_ms)
        })
    }

    /// Takes a word in a call.
    pub(crate) fn word(
        &self,
        now: Timestamp,
        (account, device): (&AccountId, DeviceId),
    ) -> Result<(), TooOften> {
        let taken = self.words.take(now, device, Some(WORDS), 1);
        taken.map_err(|again_ms| {
            self.hits.note(now, WORDS_OF_CALLS, account);
            TooOften::Word(again_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_many_devices_joins_no_more_often_than_one_of_few() {
        let shares = CallShares::new(Hits::default());
        let account: AccountId = "mallory:a.example".parse().unwrap();
        let other: AccountId = "ann:a.example".parse().unwrap();
        let join =
            |account: &AccountId, n| shares.join(Timestamp(1), (account, DeviceId::new([n; 32])));
        assert!((0..10).all(|n| join(&account, n).is_ok()));
        assert!(matches!(join(&account, 10), Err(TooOften::Join(1..))));
        assert_eq!(join(&other, 11), Ok(()));
    }

    #[test]
    fn the_limits_are_said_as_they_are() {
        assert_eq!(
            TooOften::Join(1).to_string(),
            "a device starts or joins 5 calls a minute and 20 an hour at most, all of a member 40 and 10 \
             at once (`calls`)"
        );
        assert_eq!(
            TooOften::Word(1).to_string(),
            "a device says 120 things a minute in calls at most, 60 at once (`call_words`)"
        );
    }
}

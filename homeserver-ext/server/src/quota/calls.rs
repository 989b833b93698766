//! How much one device may do with calls. Not in the configuration: what a person does is far below.

use causeway_protocol::ids::{AccountId, DeviceId, Timestamp};

use super::{Buckets, Quota, UsedUp, hits::Hits};

/// Calls that a device starts or joins, in a short time and in a long one.
const A_MINUTE: Quota = Quota::per_minute(5, 5);
const AN_HOUR: Quota = Quota::per_hour(20, 20);
/// What it says in calls: reports, microphone, hand, that it declines.
const WORDS: Quota = Quota::per_minute(120, 60);

/// What each device has left.
#[derive(Debug)]
pub(crate) struct CallShares {
    minute: Buckets<DeviceId>,
    hour: Buckets<DeviceId>,
    words: Buckets<DeviceId>,
    hits: Hits,
}

impl CallShares {
    pub(crate) fn new(hits: Hits) -> Self {
        let (minute, hour, words) = (Buckets::default(), Buckets::default(), Buckets::default());
        Self { minute, hour, words, hits }
    }

    /// Takes a start or a join, whatever becomes of it.
    pub(crate) fn join(
        &self,
        now: Timestamp,
        (account, device): (&AccountId, DeviceId),
    ) -> Result<(), UsedUp> {
        let taken = self.minute.take(now, device, Some(A_MINUTE), 1);
        let taken = taken.and_then(|()| self.hour.take(now, device, Some(AN_HOUR), 1));
        taken.map_err(|again_ms| self.used_up(now, account, "calls", again_ms))
    }

    /// Takes a word in a call.
    pub(crate) fn word(
        &self,
        now: Timestamp,
        (account, device): (&AccountId, DeviceId),
    ) -> Result<(), UsedUp> {
        let taken = self.words.take(now, device, Some(WORDS), 1);
        taken.map_err(|again_ms| self.used_up(now, account, "call_words", again_ms))
    }

    fn used_up(
        &self,
        now: Timestamp,
        who: &AccountId,
        limit: &'static str,
        again_ms: u64,
    ) -> UsedUp {
        self.hits.note(now, limit, who);
        UsedUp { limit, again_ms }
    }
}

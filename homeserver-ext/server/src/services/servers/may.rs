//! What one server may do now.

use causeway_protocol::ids::Timestamp;

use super::Servers;
use crate::{quota::Quota, storage::logs::Size};

/// Groups that one server may make known: more than several of its accounts begin in an hour, since what is
/// beyond it holds up what comes after.
const NEW_GROUPS: Quota = Quota::per_hour(600, 600);
/// Accounts that one server may show without being asked.
const SHOWN: Quota = Quota::per_minute(600, 20_000);
/// What one server may ask.
const ASKS: Quota = Quota::per_minute(20 * 60, 100);
/// Requests to join of one server's accounts, and of which it tells as a group's home.
const JOINS: Quota = Quota::per_minute(60, 1_000);
/// Changes of calls of which one server tells as the home of groups.
const CALLS_TOLD: Quota = Quota::per_minute(3_000, 3_000);

/// Bytes of what is kept of a server's groups for each op, and each thing that an op names.
const ENTRY_BYTES: u64 = 256;

impl Servers {
    /// How much is kept of the groups of one server.
    pub(crate) fn logs(&self) -> Size {
        let bytes = self.rules.log_bytes;
        Size { entries: bytes / ENTRY_BYTES, bytes }
    }

    /// Whether `from` may ask now; else after how many milliseconds.
    pub(crate) fn may_ask(&self, now: Timestamp, from: &str) -> Result<(), u64> {
        self.asks.take(now, from.to_owned(), Some(ASKS), 1)
    }

    /// Whether `from` may make one more group known now; else its frames wait.
    pub(crate) fn may_begin_group(&self, now: Timestamp, from: &str) -> bool {
        self.new_groups.take(now, from.to_owned(), Some(NEW_GROUPS), 1).is_ok()
    }

    /// Whether `from` may show so many accounts now; else its frames wait.
    pub(crate) fn may_show(&self, now: Timestamp, from: &str, count: usize) -> bool {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.shown.take(now, from.to_owned(), Some(SHOWN), count).is_ok()
    }

    /// Whether one more request to join may come of `from` now.
    pub(crate) fn may_join(&self, now: Timestamp, from: &str) -> bool {
        self.joins.take(now, from.to_owned(), Some(JOINS), 1).is_ok()
    }

    /// Whether one more change of a call may come of `from` now.
    pub(crate) fn may_tell_calls(&self, now: Timestamp, from: &str) -> bool {
        self.calls_told.take(now, from.to_owned(), Some(CALLS_TOLD), 1).is_ok()
    }
}

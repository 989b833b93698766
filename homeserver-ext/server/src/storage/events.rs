//! How much happened, by hour and kind: counters that outlive the process, for seven days.

use causeway_protocol::ids::Timestamp;
use causeway_store::{Conn, Script};

use super::{Error, ms};

const HOUR_MS: i64 = 3_600_000;
const KEPT_MS: u64 = 7 * 24 * 3_600_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A broadcast or fan-out was taken in.
    MessagePublished,
    /// A mailbox row was acknowledged.
    MessageDelivered,
    /// A mailbox row waited too long.
    MessageExpired,
    /// What nobody needs any more was deleted.
    MessageCleaned,
    /// Key material for one device was taken in.
    KeyDistributed,
    /// A member came.
    GroupJoined,
    /// A member went.
    GroupLeft,
    /// An op was taken in.
    RosterChanged,
}

impl Event {
    /// Its name in protocol §2.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::MessagePublished => "message.published",
            Self::MessageDelivered => "message.delivered",
            Self::MessageExpired => "message.expired",
            Self::MessageCleaned => "message.cleaned",
            Self::KeyDistributed => "key.distributed",
            Self::GroupJoined => "group.joined",
            Self::GroupLeft => "group.left",
            Self::RosterChanged => "roster.changed",
        }
    }
}

/// Counts `count` more.
pub(crate) fn add(script: &mut Script, now: Timestamp, event: Event, count: u64) {
    if count == 0 {
        return;
    }
    let hour = ms(now) / HOUR_MS * HOUR_MS;
    let query = script.add(
        "INSERT INTO events (hour_ms, kind, count) VALUES ($1, $2, $3)
         ON CONFLICT (hour_ms, kind) DO UPDATE SET count = events.count + excluded.count",
    );
    query.bind(hour).bind(event.name()).bind(i64::try_from(count).unwrap_or(i64::MAX));
}

/// Drops what is older than seven days.
pub(crate) async fn prune(conn: &mut Conn, now: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM events WHERE hour_ms < $1")
        .bind(ms(now.minus_ms(KEPT_MS)))
        .execute(conn)
        .await?;
    Ok(())
}

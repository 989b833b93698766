//! How much happened, by hour and kind: counters that outlive the process. After seven days they are
//! counted together.

use std::collections::BTreeMap;

use causeway_protocol::ids::Timestamp;
use causeway_store::{Conn, Script};

use super::{Error, ms, number};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: u64 = 24 * 3_600_000;
/// What is from before.
const LONG_AGO: i64 = 0;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A broadcast or fan-out was taken in.
    MessagePublished,
    /// A mailbox row was acknowledged.
    MessageDelivered,
    /// A row cannot arrive: its recipient could not hold it.
    MessageFailed,
    /// A mailbox row waited too long.
    MessageExpired,
    /// What nobody needs any more was deleted.
    MessageCleaned,
    /// Key material for one device was taken in.
    KeyDistributed,
    /// A device said that it has begun a chain.
    KeyRotated,
    /// A group was begun.
    GroupCreated,
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
            Self::MessageFailed => "message.failed",
            Self::MessageExpired => "message.expired",
            Self::MessageCleaned => "message.cleaned",
            Self::KeyDistributed => "key.distributed",
            Self::KeyRotated => "key.rotated",
            Self::GroupCreated => "group.created",
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

/// Counts what is older than seven days together.
pub(crate) async fn prune(conn: &mut Conn, now: Timestamp) -> Result<(), Error> {
    let before = ms(now.minus_ms(7 * DAY_MS));
    sqlx::query(
        "INSERT INTO events (hour_ms, kind, count)
         SELECT $1, kind, CAST(sum(count) AS BIGINT) FROM events
         WHERE hour_ms > $1 AND hour_ms < $2 GROUP BY kind
         ON CONFLICT (hour_ms, kind) DO UPDATE SET count = events.count + excluded.count",
    )
    .bind(LONG_AGO)
    .bind(before)
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM events WHERE hour_ms > $1 AND hour_ms < $2")
        .bind(LONG_AGO)
        .bind(before)
        .execute(conn)
        .await?;
    Ok(())
}

/// How much happened in all, and in the last 24 hours.
#[derive(Debug, Default)]
pub(crate) struct Totals(BTreeMap<String, (u64, u64)>);

impl Totals {
    /// In all, and in the last 24 hours.
    pub(crate) fn of(&self, event: Event) -> (u64, u64) {
        self.0.get(event.name()).copied().unwrap_or_default()
    }
}

/// How much of everything happened.
pub(crate) async fn totals(conn: &mut Conn, now: Timestamp) -> Result<Totals, Error> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT kind, CAST(sum(count) AS BIGINT),
            CAST(sum(CASE WHEN hour_ms > $1 THEN count ELSE 0 END) AS BIGINT)
         FROM events GROUP BY kind",
    )
    .bind(ms(now.minus_ms(DAY_MS)))
    .fetch_all(conn)
    .await?;
    let row = |(kind, all, lately)| Ok((kind, (number(all, "count")?, number(lately, "count")?)));
    rows.into_iter().map(row).collect::<Result<_, Error>>().map(Totals)
}

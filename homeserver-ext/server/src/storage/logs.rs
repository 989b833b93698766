//! How much is kept of groups of which another server is the home, and the end of those that have named nobody
//! here.

use causeway_protocol::{
    ids::Timestamp,
    roster::{Body, Op},
};
use causeway_store::Conn;

use super::{Error, GroupRow, ms, number};

/// What a row takes beside what an op says, in bytes.
const ROW_BYTES: u64 = 300;

/// How much something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Size {
    /// Ops, and members and devices that they bring in.
    pub(crate) entries: u64,
    /// Bytes of all that, about.
    pub(crate) bytes: u64,
}

impl Size {
    /// What an op takes: it stands in the log, and what it says of members in the roster as well.
    pub(crate) fn of(op: &Op) -> Self {
        let named = match op.body() {
            Ok(Body::Create(create)) => 1 + create.devices.ids.len(),
            Ok(Body::Add(all)) => all.iter().map(|entry| 1 + entry.devices.ids.len()).sum(),
            Ok(Body::Devices(devices)) => devices.ids.len(),
            Ok(Body::Remove(_) | Body::Role(..) | Body::Policy(_) | Body::Leave | Body::Close)
            | Err(_) => 0,
        };
        let entries = 1 + named as u64;
        Self { entries, bytes: 2 * op.as_bytes().len() as u64 + entries * ROW_BYTES }
    }

    /// Whether so much more is no more than `most`.
    pub(crate) fn fits(self, more: Self, most: Self) -> bool {
        self.entries.saturating_add(more.entries) <= most.entries
            && self.bytes.saturating_add(more.bytes) <= most.bytes
    }
}

/// How much is kept of the groups of this home.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kept {
    pub(crate) all: Size,
    /// Of this what came while nobody here was in the group.
    pub(crate) idle: Size,
}

/// How much is kept of the groups of `home`.
pub(crate) async fn kept(conn: &mut Conn, home: &str) -> Result<Kept, Error> {
    let (entries, bytes, idle_entries, idle_bytes): (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT CAST(COALESCE(sum(entries), 0) AS BIGINT), CAST(COALESCE(sum(bytes), 0) AS BIGINT),
            CAST(COALESCE(sum(idle_entries), 0) AS BIGINT),
            CAST(COALESCE(sum(idle_bytes), 0) AS BIGINT)
         FROM kept_logs WHERE home = $1",
    )
    .bind(home)
    .fetch_one(conn)
    .await?;
    Ok(Kept {
        all: Size { entries: number(entries, "entries")?, bytes: number(bytes, "bytes")? },
        idle: Size {
            entries: number(idle_entries, "idle_entries")?,
            bytes: number(idle_bytes, "idle_bytes")?,
        },
    })
}

/// Counts what came of a group now; since when nobody here is in it, where nobody is.
pub(crate) async fn add(
    conn: &mut Conn,
    (group, home): (GroupRow, &str),
    size: Size,
    idle: Option<Timestamp>,
) -> Result<(), Error> {
    let [entries, bytes] =
        [size.entries, size.bytes].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let is_idle = i64::from(idle.is_some());
    sqlx::query(
        "INSERT INTO kept_logs
            (grp, home, entries, bytes, idle_entries, idle_bytes, idle_ms, named)
         VALUES ($1, $2, $3, $4, $3 * $5, $4 * $5, $6, $7)
         ON CONFLICT (grp) DO UPDATE SET entries = kept_logs.entries + excluded.entries,
            bytes = kept_logs.bytes + excluded.bytes,
            idle_entries = kept_logs.idle_entries * $5 + excluded.idle_entries,
            idle_bytes = kept_logs.idle_bytes * $5 + excluded.idle_bytes,
            idle_ms = excluded.idle_ms, named = kept_logs.named OR excluded.named",
    )
    .bind(group)
    .bind(home)
    .bind(entries)
    .bind(bytes)
    .bind(is_idle)
    .bind(idle.map(ms))
    .bind(idle.is_none())
    .execute(conn)
    .await?;
    Ok(())
}

/// Groups that have named nobody here, and in which nothing was said, and nothing came since `before`; so many.
pub(crate) async fn unnamed(
    conn: &mut Conn,
    before: Timestamp,
    most: u32,
) -> Result<Vec<GroupRow>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT k.grp FROM kept_logs k WHERE k.named = FALSE AND k.idle_ms < $1
            AND NOT EXISTS (SELECT 1 FROM broadcasts b
                WHERE b.grp = k.grp AND b.ended IS NULL AND b.sender IS NOT NULL)
            AND NOT EXISTS (SELECT 1 FROM broadcasts b
                WHERE b.grp = k.grp AND b.ended IS NOT NULL)
         ORDER BY k.idle_ms LIMIT $2",
    )
    .bind(ms(before))
    .bind(i64::from(most))
    .fetch_all(conn)
    .await?)
}

/// Forgets a group, unless something of it came since `before`; its number is free then. Whether it did.
pub(crate) async fn forget(
    conn: &mut Conn,
    group: GroupRow,
    before: Timestamp,
) -> Result<bool, Error> {
    let is_over: Option<GroupRow> = sqlx::query_scalar(
        "UPDATE kept_logs SET home = '', entries = 0, bytes = 0, idle_entries = 0, idle_bytes = 0,
            idle_ms = NULL, named = TRUE
         WHERE grp = $1 AND named = FALSE AND idle_ms < $2 RETURNING grp",
    )
    .bind(group)
    .bind(ms(before))
    .fetch_optional(&mut *conn)
    .await?;
    if is_over.is_none() {
        return Ok(false);
    }
    for of_it in [
        sqlx::query("DELETE FROM ops WHERE grp = $1"),
        sqlx::query("DELETE FROM group_members WHERE grp = $1"),
        sqlx::query("DELETE FROM group_devices WHERE grp = $1"),
        sqlx::query("DELETE FROM broadcasts WHERE grp = $1 AND ended IS NULL AND sender IS NULL"),
        sqlx::query("DELETE FROM event_log WHERE grp = $1"),
        sqlx::query("DELETE FROM events_gone WHERE grp = $1"),
        sqlx::query("DELETE FROM replicas WHERE grp = $1"),
        sqlx::query("DELETE FROM relay_rooms WHERE grp = $1"),
        sqlx::query("DELETE FROM waiting_guests WHERE grp = $1"),
        sqlx::query("DELETE FROM group_rooms WHERE grp = $1"),
    ] {
        of_it.bind(group).execute(&mut *conn).await?;
    }
    // No group has an id of eight bytes.
    sqlx::query(
        "UPDATE groups SET group_id = $2, epoch = 0, roster = $3, roster_hash = $3, name = '',
            members = 0, closed = TRUE, stale_below = 0, devices = 0, creator = NULL
         WHERE grp = $1",
    )
    .bind(group)
    .bind(group.0.to_be_bytes().to_vec())
    .bind(Vec::new())
    .execute(conn)
    .await?;
    Ok(true)
}

/// Takes the number of a group that was forgotten.
pub(crate) async fn take_free(conn: &mut Conn) -> Result<Option<GroupRow>, Error> {
    Ok(sqlx::query_scalar(
        "DELETE FROM kept_logs WHERE grp = (SELECT grp FROM kept_logs WHERE home = '' LIMIT 1)
         RETURNING grp",
    )
    .fetch_optional(conn)
    .await?)
}

//! Groups, their ops and rosters, and where ops stand in the mailbox.

use causeway_store::{Conn, Row};
use std::sync::Arc;

use causeway_protocol::{
    device::DeviceOf,
    ids::{AccountId, DeviceId, Epoch, GroupId, MemberId, OpHash, RosterHash, Seq, Timestamp},
    roster::{Kind, Log, LogEntry, Op, Removed, Roster},
};
use sqlx::Row as _;

use super::{Error, Whole as _, json, ms, signed, unsigned};

/// Row of a group.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Random, new with every change of the log: what is cached under it is still true.
    pub(crate) revision: [u8; 8],
    /// `None` while it was only heard of.
    pub(crate) head: Option<Epoch>,
    /// An undecided second history, as JSON.
    pub(crate) fork: Option<String>,
    pub(crate) rotate: bool,
    pub(crate) active: Timestamp,
}

pub(crate) async fn group(conn: &mut Conn, group: &GroupId) -> Result<Option<Group>, Error> {
    let row = sqlx::query(
        "SELECT revision, head_epoch, fork, rotate, active_ms FROM groups WHERE group_id = $1",
    )
    .bind(group.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(Group {
            revision: row.try_get::<&[u8], _>(0)?.try_into().ok().whole("groups")?,
            head: row.try_get::<Option<u32>, _>(1)?.map(Epoch),
            fork: row.try_get(2)?,
            rotate: row.try_get(3)?,
            active: Timestamp(unsigned(row.try_get(4)?)),
        })
    })
    .transpose()
}

/// Every group that was ever heard of.
pub(crate) async fn all(conn: &mut Conn) -> Result<Vec<GroupId>, Error> {
    let ids: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT group_id FROM groups ORDER BY group_id").fetch_all(conn).await?;
    ids.iter().map(|id| GroupId::from_slice(id).whole("groups")).collect()
}

/// Notes a group that is heard of for the first time.
pub(crate) async fn hear_of(
    conn: &mut Conn,
    group: &GroupId,
    revision: [u8; 8],
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO groups (group_id, revision, joined) VALUES ($1, $2, FALSE) ON CONFLICT DO NOTHING",
    )
    .bind(group.as_bytes().as_slice())
    .bind(revision.as_slice())
    .execute(conn)
    .await?;
    Ok(())
}

/// The log has changed.
pub(crate) async fn save_head(
    conn: &mut Conn,
    group: &GroupId,
    revision: [u8; 8],
    head: Epoch,
    joined: bool,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE groups SET revision = $2, head_epoch = $3, joined = $4,
             fetch_from = CASE WHEN fetch_from <= $3 THEN NULL ELSE fetch_from END
         WHERE group_id = $1",
    )
    .bind(group.as_bytes().as_slice())
    .bind(revision.as_slice())
    .bind(i64::from(head.0))
    .bind(joined)
    .execute(conn)
    .await?;
    Ok(())
}

/// Ops from `epoch` on are to be fetched, or from before it where that was asked for; `None`: none.
pub(crate) async fn fetch_from(
    conn: &mut Conn,
    group: &GroupId,
    epoch: Option<Epoch>,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE groups SET fetch_from = CASE WHEN fetch_from < $2 THEN fetch_from ELSE $2 END
         WHERE group_id = $1",
    )
    .bind(group.as_bytes().as_slice())
    .bind(epoch.map(|epoch| i64::from(epoch.0)))
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn to_fetch(conn: &mut Conn) -> Result<Vec<(GroupId, Epoch)>, Error> {
    let rows = sqlx::query("SELECT group_id, fetch_from FROM groups WHERE fetch_from IS NOT NULL")
        .fetch_all(conn)
        .await?;
    let entry = |row: Row| {
        Ok((GroupId::from_slice(row.try_get(0)?).whole("groups")?, Epoch(row.try_get(1)?)))
    };
    rows.into_iter().map(entry).collect()
}

pub(crate) async fn set_fork(
    conn: &mut Conn,
    group: &GroupId,
    fork: Option<&str>,
) -> Result<(), Error> {
    sqlx::query("UPDATE groups SET fork = $2 WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .bind(fork)
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether the requests that wait at the server are to be fetched.
pub(crate) async fn set_fetch_requests(
    conn: &mut Conn,
    group: &GroupId,
    fetch: bool,
) -> Result<(), Error> {
    sqlx::query("UPDATE groups SET fetch_requests = $2 WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .bind(fetch)
        .execute(conn)
        .await?;
    Ok(())
}

/// Groups whose waiting requests are to be fetched.
pub(crate) async fn requests_to_fetch(conn: &mut Conn) -> Result<Vec<GroupId>, Error> {
    let ids: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT group_id FROM groups WHERE fetch_requests = TRUE AND joined = TRUE",
    )
    .fetch_all(conn)
    .await?;
    ids.iter().map(|id| GroupId::from_slice(id).whole("groups")).collect()
}

/// Whether the next message begins a new chain, whatever else is so.
pub(crate) async fn set_rotate(
    conn: &mut Conn,
    group: &GroupId,
    rotate: bool,
) -> Result<(), Error> {
    sqlx::query("UPDATE groups SET rotate = $2 WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .bind(rotate)
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn set_active(
    conn: &mut Conn,
    group: &GroupId,
    at: Timestamp,
) -> Result<(), Error> {
    // The first hour begins with the first message.
    sqlx::query(
        "UPDATE groups SET active_ms = $2,
             synced_ms = CASE WHEN synced_ms = 0 THEN $2 ELSE synced_ms END
         WHERE group_id = $1",
    )
    .bind(group.as_bytes().as_slice())
    .bind(ms(at))
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn set_synced(
    conn: &mut Conn,
    group: &GroupId,
    at: Timestamp,
) -> Result<(), Error> {
    sqlx::query("UPDATE groups SET synced_ms = $2 WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .bind(ms(at))
        .execute(conn)
        .await?;
    Ok(())
}

/// Groups that this device spoke in since `hour_ago`, and did not say its roster in.
pub(crate) async fn sync_due(conn: &mut Conn, hour_ago: Timestamp) -> Result<Vec<GroupId>, Error> {
    let ids: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT group_id FROM groups
         WHERE joined = TRUE AND active_ms > synced_ms AND synced_ms <= $1 AND active_ms > $1",
    )
    .bind(ms(hour_ago))
    .fetch_all(conn)
    .await?;
    ids.iter().map(|id| GroupId::from_slice(id).whole("groups")).collect()
}

/// Notes in which row an op came; the first one said stays.
pub(crate) async fn insert_place(
    conn: &mut Conn,
    group: &GroupId,
    op: &OpHash,
    place: Seq,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO places (group_id, op_hash, seq) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(group.as_bytes().as_slice())
    .bind(op.as_bytes().as_slice())
    .bind(signed(place.0))
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn place(
    conn: &mut Conn,
    group: &GroupId,
    op: &OpHash,
) -> Result<Option<Seq>, Error> {
    let seq: Option<i64> =
        sqlx::query_scalar("SELECT seq FROM places WHERE group_id = $1 AND op_hash = $2")
            .bind(group.as_bytes().as_slice())
            .bind(op.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(seq.map(|seq| Seq(unsigned(seq))))
}

pub(crate) async fn set_place(
    conn: &mut Conn,
    group: &GroupId,
    epoch: Epoch,
    place: Seq,
) -> Result<(), Error> {
    sqlx::query("UPDATE ops SET place = $3 WHERE group_id = $1 AND epoch = $2 AND place IS NULL")
        .bind(group.as_bytes().as_slice())
        .bind(i64::from(epoch.0))
        .bind(signed(place.0))
        .execute(conn)
        .await?;
    Ok(())
}

/// Keeps an installed op, what is remembered of it, and the roster that it made.
pub(crate) async fn insert_op(
    conn: &mut Conn,
    op: &Op,
    entry: &LogEntry,
    roster: &Roster,
    now: Timestamp,
) -> Result<(), Error> {
    let taken_out: Vec<u8> = entry
        .taken_out
        .iter()
        .flat_map(|d| [*d.member_id.as_bytes(), *d.device_id.as_bytes()].concat())
        .collect();
    let removed: Vec<_> = entry.removed.iter().map(|r| (&r.member_id, &r.account)).collect();
    sqlx::query(
        "INSERT INTO ops (group_id, epoch, op, roster_hash, op_hash, kind, taken_out, removed,
             roster, place, at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(op.group().as_bytes().as_slice())
    .bind(i64::from(entry.epoch.0))
    .bind(op.as_bytes())
    .bind(entry.roster_hash.as_bytes().as_slice())
    .bind(entry.op_hash.as_bytes().as_slice())
    .bind(i64::from(entry.kind as u8))
    .bind(taken_out)
    .bind(json(&removed))
    .bind(roster.to_row())
    .bind(entry.place.map(|place| signed(place.0)))
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// A group's history; `None` while none of it is known.
pub(crate) async fn log(conn: &mut Conn, group: &GroupId) -> Result<Option<Log>, Error> {
    const TABLE: &str = "ops";
    let rows = sqlx::query(
        "SELECT epoch, roster_hash, op_hash, kind, taken_out, removed, roster, place
         FROM ops WHERE group_id = $1 ORDER BY epoch",
    )
    .bind(group.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    let mut entries = Vec::with_capacity(rows.len());
    let mut kept = Vec::new();
    for row in rows {
        let removed: Vec<(MemberId, AccountId)> =
            serde_json::from_str(row.try_get(5)?).whole(TABLE)?;
        let removed = removed.into_iter();
        entries.push(LogEntry {
            epoch: Epoch(row.try_get(0)?),
            roster_hash: RosterHash::from_slice(row.try_get(1)?).whole(TABLE)?,
            op_hash: OpHash::from_slice(row.try_get(2)?).whole(TABLE)?,
            kind: Kind::from_number(row.try_get(3)?).whole(TABLE)?,
            taken_out: devices_of(row.try_get(4)?).whole(TABLE)?,
            removed: removed.map(|(member_id, account)| Removed { member_id, account }).collect(),
            place: row.try_get::<Option<i64>, _>(7)?.map(|place| Seq(unsigned(place))),
        });
        if let Some(roster) = row.try_get::<Option<&[u8]>, _>(6)? {
            kept.push(Arc::new(Roster::from_row(roster).ok().whole(TABLE)?));
        }
    }
    let Some(head) = kept.last().cloned() else { return Ok(None) };
    Log::from_rows(entries, head, kept).whole(TABLE).map(Some)
}

fn devices_of(bytes: &[u8]) -> Option<Vec<DeviceOf>> {
    let (devices, rest) = bytes.as_chunks::<64>();
    let device = |bytes: &[u8; 64]| {
        let (member, device) = bytes.split_at(32);
        Some(DeviceOf {
            member_id: MemberId::from_slice(member).ok()?,
            device_id: DeviceId::from_slice(device).ok()?,
        })
    };
    rest.is_empty().then(|| devices.iter().map(device).collect::<Option<_>>())?
}

/// Ops as they travel, from `epoch` on.
pub(crate) async fn ops_from(
    conn: &mut Conn,
    group: &GroupId,
    epoch: Epoch,
) -> Result<Vec<Vec<u8>>, Error> {
    Ok(sqlx::query_scalar("SELECT op FROM ops WHERE group_id = $1 AND epoch >= $2 ORDER BY epoch")
        .bind(group.as_bytes().as_slice())
        .bind(i64::from(epoch.0))
        .fetch_all(conn)
        .await?)
}

/// Takes the ops from `epoch` on out of the log: the person has chosen the other branch.
pub(crate) async fn drop_ops(conn: &mut Conn, group: &GroupId, epoch: Epoch) -> Result<(), Error> {
    sqlx::query("DELETE FROM ops WHERE group_id = $1 AND epoch >= $2")
        .bind(group.as_bytes().as_slice())
        .bind(i64::from(epoch.0))
        .execute(conn)
        .await?;
    Ok(())
}

/// Lets go of rosters that were followed by another before `before`.
pub(crate) async fn forget_rosters(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "UPDATE ops SET roster = NULL WHERE roster IS NOT NULL AND EXISTS (
             SELECT 1 FROM ops AS next WHERE next.group_id = ops.group_id
             AND next.epoch = ops.epoch + 1 AND next.at_ms < $1)",
    )
    .bind(ms(before))
    .execute(conn)
    .await?;
    Ok(())
}

/// Nothing of the log is known any more: it is to be fetched anew.
pub(crate) async fn unlearn(
    conn: &mut Conn,
    group: &GroupId,
    revision: [u8; 8],
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE groups SET revision = $2, head_epoch = NULL, joined = FALSE WHERE group_id = $1",
    )
    .bind(group.as_bytes().as_slice())
    .bind(revision.as_slice())
    .execute(conn)
    .await?;
    Ok(())
}

//! Ops as they were installed, where they stand in the mailbox, and the rosters that they made.
//!
//! Ops are the truth. A roster is kept whole only where the ops since the last such one are as many
//! bytes as it has, so that all of them together are no more bytes than the ops; any other is made
//! again from the last one before it, for which at most that much is read. So is the newest, once
//! for each process that opens the database.

use std::sync::Arc;

use causeway_protocol::{
    device::DeviceOf,
    ids::{AccountId, DeviceId, Epoch, GroupId, MemberId, OpHash, RosterHash, Seq, Timestamp},
    roster::{Kind, Log, LogEntry, Op, Removed, Roster},
};
use causeway_store::Conn;
use sqlx::Row as _;

use super::{Error, Whole as _, json, ms, signed, unsigned};

const TABLE: &str = "ops";
/// Bytes of ops that are read again without a thought, however small the roster is.
const REPLAYED: i64 = 64 << 10;

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

/// Keeps an installed op, what is remembered of it, and sometimes the roster that it made.
pub(crate) async fn insert(
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
    let whole = whole(conn, op, roster).await?;
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
    .bind(whole)
    .bind(entry.place.map(|place| signed(place.0)))
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts the bytes of `op`; the row of `roster` if it is to be kept whole.
async fn whole(conn: &mut Conn, op: &Op, roster: &Roster) -> Result<Option<Vec<u8>>, Error> {
    let since: i64 = sqlx::query_scalar(
        "UPDATE groups SET since_whole = since_whole + $2 WHERE group_id = $1
         RETURNING since_whole",
    )
    .bind(op.group().as_bytes().as_slice())
    .bind(i64::try_from(op.as_bytes().len()).unwrap_or(i64::MAX))
    .fetch_one(&mut *conn)
    .await?;
    if since < REPLAYED {
        return Ok(None);
    }
    let row = roster.to_row();
    if i64::try_from(row.len()).is_ok_and(|len| since < len) {
        return Ok(None);
    }
    sqlx::query("UPDATE groups SET since_whole = 0 WHERE group_id = $1")
        .bind(op.group().as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(Some(row))
}

/// A group's history; `None` while none of it is known.
pub(crate) async fn log(conn: &mut Conn, group: &GroupId) -> Result<Option<Log>, Error> {
    let rows = sqlx::query(
        "SELECT epoch, roster_hash, op_hash, kind, taken_out, removed, place
         FROM ops WHERE group_id = $1 ORDER BY epoch",
    )
    .bind(group.as_bytes().as_slice())
    .fetch_all(&mut *conn)
    .await?;
    let mut entries = Vec::with_capacity(rows.len());
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
            place: row.try_get::<Option<i64>, _>(6)?.map(|place| Seq(unsigned(place))),
        });
    }
    let Some(last) = entries.last().map(|entry| entry.epoch) else { return Ok(None) };
    let head = roster(conn, group, last).await?;
    let kept_from: u32 = sqlx::query_scalar("SELECT rosters_from FROM groups WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .fetch_one(conn)
        .await?;
    Log::from_rows(entries, Arc::new(head), Epoch(kept_from)).whole(TABLE).map(Some)
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

/// The roster at an installed epoch, made again; its hash is the caller's to compare.
pub(crate) async fn roster(
    conn: &mut Conn,
    group: &GroupId,
    epoch: Epoch,
) -> Result<Roster, Error> {
    let whole: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT roster FROM ops WHERE group_id = $1 AND epoch <= $2 AND roster IS NOT NULL
         ORDER BY epoch DESC LIMIT 1",
    )
    .bind(group.as_bytes().as_slice())
    .bind(i64::from(epoch.0))
    .fetch_optional(&mut *conn)
    .await?;
    let base = whole.map(|row| Roster::from_row(&row).ok().whole(TABLE)).transpose()?;
    let rows: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "SELECT op, op_hash FROM ops WHERE group_id = $1 AND epoch > $2 AND epoch <= $3
         ORDER BY epoch",
    )
    .bind(group.as_bytes().as_slice())
    .bind(base.as_ref().map_or(-1, |base| i64::from(base.epoch().0)))
    .bind(i64::from(epoch.0))
    .fetch_all(conn)
    .await?;
    let mut ops = Vec::with_capacity(rows.len());
    for (op, hash) in rows {
        let op = Op::parse(&op).whole(TABLE)?;
        // As it was when it was judged.
        (op.hash().as_bytes().as_slice() == hash).then_some(()).whole(TABLE)?;
        ops.push(op);
    }
    Roster::replay(base, ops).filter(|roster| roster.epoch() == epoch).whole(TABLE)
}

/// Who signed the op of an epoch, and when it was installed here.
pub(crate) async fn signer(
    conn: &mut Conn,
    group: &GroupId,
    epoch: Epoch,
) -> Result<Option<(DeviceOf, Timestamp)>, Error> {
    let row: Option<(Vec<u8>, i64)> =
        sqlx::query_as("SELECT op, at_ms FROM ops WHERE group_id = $1 AND epoch = $2")
            .bind(group.as_bytes().as_slice())
            .bind(i64::from(epoch.0))
            .fetch_optional(conn)
            .await?;
    let Some((op, at)) = row else { return Ok(None) };
    Ok(Some((Op::parse(&op).whole(TABLE)?.signer(), Timestamp(unsigned(at)))))
}

/// Ops as they travel, from `epoch` on.
pub(crate) async fn from(
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

/// The op that began a group, as it travels.
pub(crate) async fn first(conn: &mut Conn, group: &GroupId) -> Result<Option<Vec<u8>>, Error> {
    Ok(sqlx::query_scalar("SELECT op FROM ops WHERE group_id = $1 AND epoch = 0")
        .bind(group.as_bytes().as_slice())
        .fetch_optional(conn)
        .await?)
}

/// Takes the ops from `epoch` on out of the log: the person has chosen the other branch.
pub(crate) async fn drop_from(conn: &mut Conn, group: &GroupId, epoch: Epoch) -> Result<(), Error> {
    sqlx::query("DELETE FROM ops WHERE group_id = $1 AND epoch >= $2")
        .bind(group.as_bytes().as_slice())
        .bind(i64::from(epoch.0))
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "UPDATE groups SET
             rosters_from = CASE WHEN rosters_from > $2 THEN $2 ELSE rosters_from END,
             since_whole = (SELECT COALESCE(SUM(LENGTH(op)), 0) FROM ops
                 WHERE ops.group_id = $1 AND epoch > COALESCE((SELECT MAX(epoch) FROM ops
                     WHERE ops.group_id = $1 AND roster IS NOT NULL), -1))
         WHERE group_id = $1",
    )
    .bind(group.as_bytes().as_slice())
    .bind(i64::from(epoch.0.saturating_sub(1)))
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets rosters that were followed by another before `before`.
pub(crate) async fn forget_rosters(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    let followed = sqlx::query_scalar(
        "UPDATE groups SET rosters_from = (SELECT MAX(epoch) FROM ops
             WHERE ops.group_id = groups.group_id AND ops.epoch > groups.rosters_from
             AND ops.at_ms < $1)
         WHERE EXISTS (SELECT 1 FROM ops WHERE ops.group_id = groups.group_id
             AND ops.epoch > groups.rosters_from AND ops.at_ms < $1)
         RETURNING group_id",
    );
    let groups: Vec<Vec<u8>> = followed.bind(ms(before)).fetch_all(&mut *conn).await?;
    for group in groups {
        // The last whole one before those that are kept is what they are made from.
        sqlx::query(
            "UPDATE ops SET roster = NULL WHERE group_id = $1 AND roster IS NOT NULL
                 AND epoch < (SELECT MAX(last.epoch) FROM ops AS last
                     JOIN groups ON groups.group_id = last.group_id
                     WHERE last.group_id = $1 AND last.roster IS NOT NULL
                     AND last.epoch <= groups.rosters_from)",
        )
        .bind(group)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

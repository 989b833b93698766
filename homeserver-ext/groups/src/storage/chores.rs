//! What is to be done for others, and what is finished and not sent yet.

use std::collections::HashSet;

use causeway_protocol::{
    envelope::{Kind, Piece, Recipient},
    ids::{ChainId, DeviceId, EnvelopeId, Epoch, GroupId, Timestamp},
    olm_plaintext::Missing,
};
use causeway_store::{Conn, Row};
use sqlx::Row as _;

use super::{Error, Whole as _, ms, signed, unsigned};

/// A key request is answered at most three times in an hour (protocol §4.3): sooner is of no use.
const FIRST_WAIT_MS: u64 = 5 * 60_000;
const LONGEST_WAIT_MS: u64 = 24 * 3_600_000;

/// An acknowledgement that is due: chain, and the first index that it opened here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AckDue {
    pub(crate) group: GroupId,
    pub(crate) device: DeviceId,
    pub(crate) chain: ChainId,
    pub(crate) start: u32,
}

pub(crate) async fn ack_due(conn: &mut Conn, ack: &AckDue, now: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO acks_due (group_id, device, chain_id, start, since_ms)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(ack.group.as_bytes().as_slice())
    .bind(ack.device.as_bytes().as_slice())
    .bind(ack.chain.as_bytes().as_slice())
    .bind(i64::from(ack.start))
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Acknowledgements of before `before`, by group and device.
pub(crate) async fn acks_due(conn: &mut Conn, before: Timestamp) -> Result<Vec<AckDue>, Error> {
    let rows = sqlx::query(
        "SELECT group_id, device, chain_id, start FROM acks_due WHERE since_ms <= $1
         ORDER BY group_id, device LIMIT 1000",
    )
    .bind(ms(before))
    .fetch_all(conn)
    .await?;
    let ack = |row: Row| {
        Ok(AckDue {
            group: GroupId::from_slice(row.try_get(0)?).whole("acks_due")?,
            device: DeviceId::from_slice(row.try_get(1)?).whole("acks_due")?,
            chain: ChainId::from_slice(row.try_get(2)?).whole("acks_due")?,
            start: row.try_get(3)?,
        })
    };
    rows.into_iter().map(ack).collect()
}

pub(crate) async fn ack_done(conn: &mut Conn, ack: &AckDue) -> Result<(), Error> {
    sqlx::query("DELETE FROM acks_due WHERE group_id = $1 AND device = $2 AND chain_id = $3")
        .bind(ack.group.as_bytes().as_slice())
        .bind(ack.device.as_bytes().as_slice())
        .bind(ack.chain.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// A key that is missing, and who has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyRequest {
    pub(crate) group: GroupId,
    /// Its sender; this device itself, where all of the group share the key: whoever may give it is
    /// asked.
    pub(crate) device: DeviceId,
    pub(crate) missing: Missing,
}

/// Notes that a key is to be asked for, from `first` on, while what needs it lives.
pub(crate) async fn request_key(
    conn: &mut Conn,
    request: &KeyRequest,
    (first, until): (Timestamp, Timestamp),
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO key_requests (group_id, device, tag, idx, epoch, until_ms, next_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (group_id, device, tag) DO UPDATE SET until_ms = excluded.until_ms
         WHERE excluded.until_ms > key_requests.until_ms",
    )
    .bind(request.group.as_bytes().as_slice())
    .bind(request.device.as_bytes().as_slice())
    .bind(request.missing.tag.as_slice())
    .bind(i64::from(request.missing.index))
    .bind(i64::from(request.missing.epoch.0))
    .bind(ms(until))
    .bind(ms(first))
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether a chain of this device is asked for.
pub(crate) async fn is_requested(
    conn: &mut Conn,
    group: &GroupId,
    device: &DeviceId,
) -> Result<bool, Error> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM key_requests WHERE group_id = $1 AND device = $2 LIMIT 1",
    )
    .bind(group.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

/// Devices of which a key is asked for, by group.
pub(crate) async fn all_requested(conn: &mut Conn) -> Result<HashSet<(GroupId, DeviceId)>, Error> {
    let rows =
        sqlx::query("SELECT DISTINCT group_id, device FROM key_requests").fetch_all(conn).await?;
    let of = |row: Row| {
        let group = GroupId::from_slice(row.try_get(0)?).whole("key_requests")?;
        Ok((group, DeviceId::from_slice(row.try_get(1)?).whole("key_requests")?))
    };
    rows.into_iter().map(of).collect()
}

/// The chain has come.
pub(crate) async fn key_came(
    conn: &mut Conn,
    group: &GroupId,
    device: &DeviceId,
    tag: [u8; 4],
) -> Result<(), Error> {
    sqlx::query("DELETE FROM key_requests WHERE group_id = $1 AND device = $2 AND tag = $3")
        .bind(group.as_bytes().as_slice())
        .bind(device.as_bytes().as_slice())
        .bind(tag.as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// Requests to be sent, and how often each was before; few for each device, so that one that cannot
/// be asked stands in nobody's way.
pub(crate) async fn requests_due(
    conn: &mut Conn,
    now: Timestamp,
) -> Result<Vec<(KeyRequest, i64)>, Error> {
    let rows = sqlx::query(
        "SELECT group_id, device, tag, idx, epoch, tries FROM (
             SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY group_id, tag) AS place
             FROM key_requests WHERE next_ms <= $1 AND until_ms > $1) AS waiting
         WHERE place <= 16 LIMIT 1024",
    )
    .bind(ms(now))
    .fetch_all(conn)
    .await?;
    let request = |row: Row| {
        let request = KeyRequest {
            group: GroupId::from_slice(row.try_get(0)?).whole("key_requests")?,
            device: DeviceId::from_slice(row.try_get(1)?).whole("key_requests")?,
            missing: Missing {
                tag: row.try_get::<&[u8], _>(2)?.try_into().ok().whole("key_requests")?,
                index: row.try_get(3)?,
                epoch: Epoch(row.try_get(4)?),
            },
        };
        Ok((request, row.try_get(5)?))
    };
    rows.into_iter().map(request).collect()
}

/// It was asked for once more than `tries` times: the request or its answer may be lost.
pub(crate) async fn requested(
    conn: &mut Conn,
    request: &KeyRequest,
    tries: i64,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE key_requests SET tries = $4, next_ms = $5
         WHERE group_id = $1 AND device = $2 AND tag = $3",
    )
    .bind(request.group.as_bytes().as_slice())
    .bind(request.device.as_bytes().as_slice())
    .bind(request.missing.tag.as_slice())
    .bind(tries.saturating_add(1))
    .bind(ms(now.plus_ms(wait_ms(tries))))
    .execute(conn)
    .await?;
    Ok(())
}

/// How long is waited for an answer after so many requests without one.
fn wait_ms(tries: i64) -> u64 {
    let doublings = u32::try_from(tries.clamp(0, 20)).unwrap_or(0);
    (FIRST_WAIT_MS << doublings).min(LONGEST_WAIT_MS)
}

/// There is a new session with this device: what was asked in a former one may never be read.
pub(crate) async fn session_came(conn: &mut Conn, device: &DeviceId) -> Result<(), Error> {
    sqlx::query("UPDATE key_requests SET next_ms = 0 WHERE device = $1 AND next_ms > 0")
        .bind(device.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// Counts one more answer to `device`; `false` if it had `limit` since `since`.
pub(crate) async fn may_answer(
    conn: &mut Conn,
    device: &DeviceId,
    now: Timestamp,
    since: Timestamp,
    limit: i64,
) -> Result<bool, Error> {
    let had: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM answers WHERE device = $1 AND at_ms > $2")
            .bind(device.as_bytes().as_slice())
            .bind(ms(since))
            .fetch_one(&mut *conn)
            .await?;
    if had >= limit {
        return Ok(false);
    }
    sqlx::query("INSERT INTO answers (device, at_ms) VALUES ($1, $2)")
        .bind(device.as_bytes().as_slice())
        .bind(ms(now))
        .execute(conn)
        .await?;
    Ok(true)
}

/// A finished envelope to one device.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) id: EnvelopeId,
    pub(crate) group: GroupId,
    pub(crate) device: DeviceId,
    pub(crate) kind: Kind,
    pub(crate) payload: Vec<u8>,
    pub(crate) ttl_ms: u64,
    /// Of a fan-out: the piece, and the epoch under which it was sealed. What goes over Olm alone goes
    /// under any.
    pub(crate) piece: Option<(Epoch, Piece)>,
}

pub(crate) async fn finish(
    conn: &mut Conn,
    finished: &Finished,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO outgoing (id, seq, group_id, device, kind, payload, ttl_ms, at_ms, piece, epoch)
         VALUES ($1, (SELECT COALESCE(MAX(seq), 0) + 1 FROM outgoing), $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(finished.id.as_bytes().as_slice())
    .bind(finished.group.as_bytes().as_slice())
    .bind(finished.device.as_bytes().as_slice())
    .bind(i64::from(finished.kind.number()))
    .bind(&finished.payload)
    .bind(signed(finished.ttl_ms))
    .bind(ms(now))
    .bind(finished.piece.as_ref().map(|(_, piece)| piece.0.as_slice()))
    .bind(finished.piece.as_ref().map(|(epoch, _)| i64::from(epoch.0)))
    .execute(conn)
    .await?;
    Ok(())
}

/// Groups with finished envelopes.
pub(crate) async fn groups_with_finished(conn: &mut Conn) -> Result<Vec<GroupId>, Error> {
    let ids: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT DISTINCT group_id FROM outgoing").fetch_all(conn).await?;
    ids.iter().map(|id| GroupId::from_slice(id).whole("outgoing")).collect()
}

/// Finished envelopes of a group, in the order in which they were made.
pub(crate) async fn finished(conn: &mut Conn, group: &GroupId) -> Result<Vec<Finished>, Error> {
    let rows = sqlx::query(
        "SELECT id, device, kind, payload, ttl_ms, piece, epoch FROM outgoing WHERE group_id = $1
         ORDER BY seq LIMIT 2000",
    )
    .bind(group.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    let finished = |row: Row| {
        let device = DeviceId::from_slice(row.try_get(1)?).whole("outgoing")?;
        let (piece, epoch): (Option<Vec<u8>>, Option<u32>) = (row.try_get(5)?, row.try_get(6)?);
        Ok(Finished {
            id: EnvelopeId::from_slice(row.try_get(0)?).whole("outgoing")?,
            group: *group,
            device,
            kind: kind(row.try_get(2)?, device).whole("outgoing")?,
            payload: row.try_get(3)?,
            ttl_ms: unsigned(row.try_get(4)?),
            piece: epoch.map(Epoch).zip(piece.map(Piece)),
        })
    };
    rows.into_iter().map(finished).collect()
}

/// A kind that one device sends to another.
fn kind(number: u8, device: DeviceId) -> Option<Kind> {
    let to = Recipient::Device(device);
    Kind::from_number(number).filter(|kind| !kind.is_of_server() && kind.takes(&to))
}

/// The server has it, or it has nobody to go to.
pub(crate) async fn sent(conn: &mut Conn, id: &EnvelopeId) -> Result<(), Error> {
    sqlx::query("DELETE FROM outgoing WHERE id = $1")
        .bind(id.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// Lets go of finished envelopes of a group that takes none any more.
pub(crate) async fn drop_finished(conn: &mut Conn, group: &GroupId) -> Result<(), Error> {
    sqlx::query("DELETE FROM outgoing WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// Lets go of the counts of an hour ago, of what is too old to be sent, and of what nothing needs any
/// more.
pub(crate) async fn expire(
    conn: &mut Conn,
    answers: Timestamp,
    envelopes: Timestamp,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM answers WHERE at_ms < $1")
        .bind(ms(answers))
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM outgoing WHERE at_ms < $1")
        .bind(ms(envelopes))
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM key_requests WHERE until_ms <= $1")
        .bind(ms(now))
        .execute(conn)
        .await?;
    Ok(())
}

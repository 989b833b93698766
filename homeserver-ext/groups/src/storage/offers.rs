//! What came in groups that are offered: unopened, sealed, and not more than so much.

use std::collections::HashSet;

use causeway_protocol::{
    api::StreamRow,
    envelope::Envelope,
    ids::{DeviceId, EnvelopeId, GroupId, Seq, Timestamp},
};
use causeway_store::{Conn, Row};
use sqlx::Row as _;
use zeroize::Zeroizing;

use super::{Error, KEPT_MS, Whole as _, ms, signed, unsigned};
use crate::vault::{Class, Vault};

/// Most rows kept of one group.
pub(crate) const MAX_ROWS: i64 = 256;
/// Most bytes kept of one group.
const MAX_BYTES: i64 = 1 << 20;
/// Most bytes kept in all.
const MAX_ALL_BYTES: i64 = 4 << 20;

/// Keeps a row, once however often it comes; `false` if there is no room.
pub(crate) async fn keep(
    conn: &mut Conn,
    vault: &Vault,
    row: &StreamRow,
    now: Timestamp,
) -> Result<bool, Error> {
    let envelope = &row.envelope;
    let bytes = Zeroizing::new(serde_json::to_vec(envelope).whole("offered_rows")?);
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let group = envelope.group.as_bytes().as_slice();
    let (rows, kept): (i64, i64) = sqlx::query_as(
        "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM offered_rows WHERE group_id = $1",
    )
    .bind(group)
    .fetch_one(&mut *conn)
    .await?;
    let all: i64 = sqlx::query_scalar("SELECT COALESCE(SUM(bytes), 0) FROM offered_rows")
        .fetch_one(&mut *conn)
        .await?;
    if rows >= MAX_ROWS || kept + size > MAX_BYTES || all.saturating_add(size) > MAX_ALL_BYTES {
        return Ok(false);
    }
    let place = place(&envelope.group, envelope.id, row.seq);
    let sender = envelope.sender.as_ref().filter(|_| envelope.piece.is_some());
    sqlx::query(
        "INSERT INTO offered_rows (group_id, seq, envelope, bytes, expires_ms, sealed, unopened)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    )
    .bind(group)
    .bind(signed(row.seq.0))
    .bind(envelope.id.as_bytes().as_slice())
    .bind(size)
    .bind(ms(now.plus_ms(envelope.ttl_ms.min(KEPT_MS))))
    .bind(vault.seal(Class::Content, "offered_rows", "sealed", &place, &bytes)?)
    .bind(sender.map(|sender| sender.device.as_bytes().as_slice()))
    .execute(conn)
    .await?;
    Ok(true)
}

/// The devices whose pieces wait unopened.
pub(crate) async fn with_unopened(conn: &mut Conn) -> Result<HashSet<DeviceId>, Error> {
    let devices: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT DISTINCT unopened FROM offered_rows WHERE unopened IS NOT NULL")
            .fetch_all(conn)
            .await?;
    devices.iter().map(|device| DeviceId::from_slice(device).whole("offered_rows")).collect()
}

/// What came of `sender` before `seq` with a piece that is unopened, in the mailbox's order.
pub(crate) async fn unopened(
    conn: &mut Conn,
    vault: &Vault,
    sender: &DeviceId,
    seq: Seq,
) -> Result<Vec<StreamRow>, Error> {
    let rows = sqlx::query(
        "SELECT group_id, seq, envelope, sealed FROM offered_rows
         WHERE unopened = $1 AND seq < $2 ORDER BY seq",
    )
    .bind(sender.as_bytes().as_slice())
    .bind(signed(seq.0))
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| kept(vault, row)).collect()
}

/// The piece of a row was looked at; if it opened, it is kept as it is now: Olm opens once.
pub(crate) async fn looked_at(
    conn: &mut Conn,
    vault: &Vault,
    StreamRow { seq, envelope }: &StreamRow,
    opened: bool,
) -> Result<(), Error> {
    let bytes = Zeroizing::new(serde_json::to_vec(envelope).whole("offered_rows")?);
    let place = place(&envelope.group, envelope.id, *seq);
    sqlx::query(
        "UPDATE offered_rows SET unopened = NULL, is_opened = $4, sealed = $5
         WHERE group_id = $1 AND seq = $2 AND envelope = $3",
    )
    .bind(envelope.group.as_bytes().as_slice())
    .bind(signed(seq.0))
    .bind(envelope.id.as_bytes().as_slice())
    .bind(opened)
    .bind(vault.seal(Class::Content, "offered_rows", "sealed", &place, &bytes)?)
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes out what came in a group, in the mailbox's order; and whether its piece was opened.
pub(crate) async fn take(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
) -> Result<Vec<(StreamRow, bool)>, Error> {
    let rows = sqlx::query(
        "DELETE FROM offered_rows WHERE group_id = $1
         RETURNING group_id, seq, envelope, sealed, is_opened",
    )
    .bind(group.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    let taken = |row: &Row| Ok((kept(vault, row)?, row.try_get(4)?));
    let mut rows = rows.iter().map(taken).collect::<Result<Vec<_>, Error>>()?;
    rows.sort_by_key(|(row, _)| row.seq);
    Ok(rows)
}

fn kept(vault: &Vault, row: &Row) -> Result<StreamRow, Error> {
    let group = GroupId::from_slice(row.try_get(0)?).whole("offered_rows")?;
    let seq = Seq(unsigned(row.try_get(1)?));
    let id = EnvelopeId::from_slice(row.try_get(2)?).whole("offered_rows")?;
    let (place, sealed) = (place(&group, id, seq), row.try_get::<&[u8], _>(3)?);
    let bytes = vault.unseal(Class::Content, "offered_rows", "sealed", &place, sealed)?;
    let envelope: Envelope = serde_json::from_slice(&bytes).whole("offered_rows")?;
    Ok(StreamRow { seq, envelope })
}

fn place(group: &GroupId, id: EnvelopeId, seq: Seq) -> Vec<u8> {
    [group.as_bytes().as_slice(), id.as_bytes(), &seq.0.to_be_bytes()].concat()
}

/// How many rows of a group are kept.
pub(crate) async fn count(conn: &mut Conn, group: &GroupId) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM offered_rows WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .fetch_one(conn)
        .await?)
}

/// Drops what came in a group.
pub(crate) async fn drop_of(conn: &mut Conn, group: &GroupId) -> Result<(), Error> {
    sqlx::query("DELETE FROM offered_rows WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// Drops what has waited too long.
pub(crate) async fn expire(conn: &mut Conn, now: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM offered_rows WHERE expires_ms <= $1")
        .bind(ms(now))
        .execute(conn)
        .await?;
    Ok(())
}

//! Rows that cannot be judged yet, sealed; and the names of what was seen.

use std::collections::HashSet;

use causeway_protocol::{
    api::StreamRow,
    envelope::Envelope,
    ids::{ClientId, DeviceId, EnvelopeId, GroupId, Seq, Timestamp},
};
use causeway_store::{Conn, Row, Script};
use sqlx::Row as _;
use zeroize::Zeroizing;

use super::{Error, KEPT_MS, Whole as _, ms, signed, unsigned};
use crate::vault::{Class, Vault};

/// Most rows held for one sender in one group.
const MAX_ROWS: i64 = 256;
/// Most bytes held for one sender in one group.
const MAX_BYTES: i64 = 1 << 20;
/// Most bytes held in all.
const MAX_ALL_BYTES: i64 = 16 << 20;

/// What a row waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitsFor {
    /// A distribution.
    Chain,
    /// An op.
    Roster,
    /// The sending device's record.
    Device,
}

impl WaitsFor {
    const fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Roster => "roster",
            Self::Device => "device",
        }
    }
}

/// Holds a row, `opened` or not, once however often it comes; `false` if there is no room.
pub(crate) async fn hold(
    conn: &mut Conn,
    vault: &Vault,
    (row, opened): (&StreamRow, bool),
    sender: &DeviceId,
    waits_for: WaitsFor,
    now: Timestamp,
) -> Result<bool, Error> {
    let envelope = &row.envelope;
    if is_held(conn, row, sender).await? {
        return Ok(true);
    }
    // An opened distribution is held as the secret that it is.
    let bytes = Zeroizing::new(serde_json::to_vec(envelope).whole("holds")?);
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let (rows, held): (i64, i64) = sqlx::query_as(
        "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM holds WHERE group_id = $1 AND sender = $2",
    )
    .bind(envelope.group.as_bytes().as_slice())
    .bind(sender.as_bytes().as_slice())
    .fetch_one(&mut *conn)
    .await?;
    let all: i64 = sqlx::query_scalar("SELECT COALESCE(SUM(bytes), 0) FROM holds")
        .fetch_one(&mut *conn)
        .await?;
    let fits =
        rows < MAX_ROWS && held + size <= MAX_BYTES && all.saturating_add(size) <= MAX_ALL_BYTES;
    if !fits {
        return Ok(false);
    }
    let place = place(&envelope.group, envelope.id, row.seq);
    sqlx::query(
        "INSERT INTO holds (group_id, sender, seq, waits_for, bytes, expires_ms, sealed, is_opened)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(envelope.group.as_bytes().as_slice())
    .bind(sender.as_bytes().as_slice())
    .bind(signed(row.seq.0))
    .bind(waits_for.name())
    .bind(size)
    .bind(ms(now.plus_ms(envelope.ttl_ms.min(KEPT_MS))))
    .bind(sealed(vault, &place, envelope.id, &bytes)?)
    .bind(opened)
    .execute(conn)
    .await?;
    Ok(true)
}

async fn is_held(conn: &mut Conn, row: &StreamRow, sender: &DeviceId) -> Result<bool, Error> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM holds WHERE group_id = $1 AND sender = $2 AND seq = $3
         AND substr(sealed, 1, 16) = $4",
    )
    .bind(row.envelope.group.as_bytes().as_slice())
    .bind(sender.as_bytes().as_slice())
    .bind(signed(row.seq.0))
    .bind(row.envelope.id.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

fn place(group: &GroupId, id: EnvelopeId, seq: Seq) -> Vec<u8> {
    [group.as_bytes().as_slice(), id.as_bytes(), &seq.0.to_be_bytes()].concat()
}

/// The record, with the envelope's id before it: it is part of the place.
fn sealed(vault: &Vault, place: &[u8], id: EnvelopeId, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let record = vault.seal(Class::Content, "holds", "sealed", place, bytes)?;
    Ok([id.as_bytes().as_slice(), &record].concat())
}

/// Takes out what waits in `group` for this, in the mailbox's order, and whether it was opened; `sender`
/// narrows it.
pub(crate) async fn take(
    conn: &mut Conn,
    vault: &Vault,
    group: Option<&GroupId>,
    sender: Option<&DeviceId>,
    waits_for: WaitsFor,
) -> Result<Vec<(StreamRow, bool)>, Error> {
    let mut rows = sqlx::query(
        "DELETE FROM holds WHERE group_id = COALESCE($1, group_id) AND sender = COALESCE($2, sender)
         AND waits_for = $3 RETURNING group_id, seq, sealed, is_opened",
    )
    .bind(group.map(|group| group.as_bytes().as_slice()))
    .bind(sender.map(|sender| sender.as_bytes().as_slice()))
    .bind(waits_for.name())
    .fetch_all(conn)
    .await?
    .iter()
    .map(|row| Ok((held(vault, row)?, row.try_get(3)?)))
    .collect::<Result<Vec<_>, Error>>()?;
    rows.sort_by_key(|(row, _)| row.seq);
    Ok(rows)
}

fn held(vault: &Vault, row: &Row) -> Result<StreamRow, Error> {
    let group = GroupId::from_slice(row.try_get(0)?).whole("holds")?;
    let seq = Seq(unsigned(row.try_get(1)?));
    let (id, record) = row.try_get::<&[u8], _>(2)?.split_first_chunk().whole("holds")?;
    let place = place(&group, EnvelopeId::new(*id), seq);
    let bytes = vault.unseal(Class::Content, "holds", "sealed", &place, record)?;
    let envelope: Envelope = serde_json::from_slice(&bytes).whole("holds")?;
    Ok(StreamRow { seq, envelope })
}

/// Takes out what waited too long, in the mailbox's order.
pub(crate) async fn expire(
    conn: &mut Conn,
    vault: &Vault,
    now: Timestamp,
) -> Result<Vec<StreamRow>, Error> {
    let mut rows =
        sqlx::query("DELETE FROM holds WHERE expires_ms <= $1 RETURNING group_id, seq, sealed")
            .bind(ms(now))
            .fetch_all(conn)
            .await?
            .iter()
            .map(|row| held(vault, row))
            .collect::<Result<Vec<_>, Error>>()?;
    rows.sort_by_key(|row| row.seq);
    Ok(rows)
}

/// Notes that this was received; `false` if it was before.
pub(crate) async fn see(
    conn: &mut Conn,
    sender: &DeviceId,
    name: [u8; 16],
    envelope: EnvelopeId,
    now: Timestamp,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "INSERT INTO seen (sender, name, envelope, at_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(sender.as_bytes().as_slice())
    .bind(name.as_slice())
    .bind(envelope.as_bytes().as_slice())
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Something that is received once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sighting {
    pub(crate) sender: DeviceId,
    /// What its sender calls it.
    pub(crate) name: [u8; 16],
    pub(crate) envelope: EnvelopeId,
}

/// Notes that these were received, no two of one name, once the script is run, whose rows are for
/// [`new_of`].
pub(crate) fn see_all(script: &mut Script, sightings: &[Sighting], now: Timestamp) {
    script.insert(
        "INSERT INTO seen (sender, name, envelope, at_ms) ",
        sightings,
        " ON CONFLICT DO NOTHING RETURNING sender, name",
        |row, Sighting { sender, name, envelope }| {
            row.bind(sender.as_bytes().as_slice())
                .bind(name.as_slice())
                .bind(envelope.as_bytes().as_slice())
                .bind(ms(now));
        },
    );
}

/// Those that were not received before, by sender and name.
pub(crate) fn new_of(rows: &[Row]) -> Result<HashSet<(DeviceId, [u8; 16])>, Error> {
    let names = rows.iter().map(|row| {
        let (sender, name): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        let sender = DeviceId::from_slice(&sender).whole("seen.sender")?;
        Ok((sender, <[u8; 16]>::try_from(name).map_err(|_| Error::Broken("seen.name"))?))
    });
    names.collect()
}

/// Whether an envelope with this id was received.
pub(crate) async fn was_seen(
    conn: &mut Conn,
    sender: &DeviceId,
    envelope: EnvelopeId,
) -> Result<bool, Error> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM seen WHERE envelope = $1 AND sender = $2 LIMIT 1")
            .bind(envelope.as_bytes().as_slice())
            .bind(sender.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// Whether a message that `sender` calls this was received.
pub(crate) async fn was_said(
    conn: &mut Conn,
    sender: &DeviceId,
    name: &ClientId,
) -> Result<bool, Error> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM seen WHERE sender = $1 AND name = $2")
            .bind(sender.as_bytes().as_slice())
            .bind(name.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

pub(crate) async fn forget_seen(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM seen WHERE at_ms < $1").bind(ms(before)).execute(conn).await?;
    Ok(())
}

//! What was accepted from a device, so that it is accepted once, and how far it came.

use causeway_store::{Conn, Script};
use std::collections::BTreeMap;

use causeway_protocol::ids::{DeviceId, EnvelopeId, Timestamp};

use super::Places;
use crate::storage::{DeviceRow, Error, many, ms, name_of, number};

pub(super) type AcceptedColumns = (Vec<u8>, Vec<u8>, Option<i64>, i64);

/// What was accepted from `sender` under these ids, with where it was put.
pub(crate) async fn accepted(
    conn: &mut Conn,
    sender: DeviceRow,
    ids: &[EnvelopeId],
) -> Result<BTreeMap<EnvelopeId, Places>, Error> {
    let ids: Vec<Vec<u8>> = ids.iter().map(|id| id.as_ref().to_vec()).collect();
    let rows: Vec<AcceptedColumns> = many::fetch_in(
        conn,
        "SELECT id, places, broadcast, recipients FROM accepted
         WHERE sender = $1 AND id IN (",
        sender,
        &ids,
    )
    .await?;
    rows.into_iter().map(place_of).collect()
}

pub(super) fn place_of(
    (id, places, broadcast, recipients): AcceptedColumns,
) -> Result<(EnvelopeId, Places), Error> {
    let places = match broadcast {
        Some(seq) => Places::Group(seq, number(recipients, "recipients")?),
        None => Places::Devices(read_places(&places)?),
    };
    Ok((name_of!(EnvelopeId, &id, "id")?, places))
}

/// Remembers what was accepted.
pub(crate) fn put_accepted(
    script: &mut Script,
    sender: DeviceRow,
    rows: &[(EnvelopeId, Timestamp, Places)],
) {
    script.insert(
        "INSERT INTO accepted (sender, id, keep_until_ms, places, broadcast, recipients) ",
        rows,
        "",
        |values, (id, keep_until, places)| {
            let (devices, broadcast) = match places {
                Places::Devices(places) => (write_places(places), None),
                Places::Group(seq, _) => (Vec::new(), Some(*seq)),
            };
            values
                .bind(sender)
                .bind(id.as_ref().to_vec())
                .bind(ms(*keep_until))
                .bind(devices)
                .bind(broadcast)
                .bind(i64::from(places.recipients()));
        },
    );
}

fn write_places(places: &[(DeviceRow, i64)]) -> Vec<u8> {
    places
        .iter()
        .flat_map(|(device, seq)| [device.0.to_be_bytes(), seq.to_be_bytes()])
        .flatten()
        .collect()
}

fn read_places(bytes: &[u8]) -> Result<Vec<(DeviceRow, i64)>, Error> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    let (pairs, odd) = numbers.as_chunks::<2>();
    if !rest.is_empty() || !odd.is_empty() {
        return Err(Error::Row("places"));
    }
    let place = |[device, seq]: &[[u8; 8]; 2]| {
        (DeviceRow(i64::from_be_bytes(*device)), i64::from_be_bytes(*seq))
    };
    Ok(pairs.iter().map(place).collect())
}

/// What is known of what waits for one device, or waited.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are asked for one by one")]
pub(crate) struct Progress {
    pub(crate) device_id: DeviceId,
    /// Written to a stream that has ended.
    pub(crate) sent: bool,
    pub(crate) acked: bool,
    /// Of another server: who acknowledges is that server.
    pub(crate) is_elsewhere: bool,
    /// By that server's word: it was given to the device,
    pub(crate) told_sent: bool,
    /// and that has it.
    pub(crate) told_acked: bool,
    pub(crate) expired: bool,
    /// Why it failed; none: it did not.
    pub(crate) failed: Option<Failed>,
}

/// Why something failed at a device that cannot hold it, with too much of the sender parked there.
pub(crate) const MAILBOX_FULL: &str = "mailbox_full";

/// Why a row did not come to its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It could not hold it, and too much of the sender was parked for it already.
    Full,
    /// It could not hold it, and its account has left the group since.
    Left,
    /// As its server says.
    There(String),
}

impl Failed {
    /// Of the columns `has_left` and `reason`.
    pub(super) fn of((has_left, reason): (Option<bool>, Option<String>)) -> Option<Self> {
        Some(match (has_left?, reason) {
            (_, Some(reason)) => Self::There(reason),
            (true, None) => Self::Left,
            (false, None) => Self::Full,
        })
    }
}

type ProgressColumns = (Vec<u8>, bool, bool, bool, bool, bool, bool, Option<bool>, Option<String>);

impl Progress {
    pub(super) const fn of(
        device_id: DeviceId,
        (sent, acked, expired): (bool, bool, bool),
        (is_elsewhere, (told_sent, told_acked)): (bool, (bool, bool)),
        failed: Option<Failed>,
    ) -> Self {
        Self { device_id, sent, acked, is_elsewhere, told_sent, told_acked, expired, failed }
    }
}

/// How far the row came that was put at this place.
pub(crate) async fn progress(
    conn: &mut Conn,
    (device, seq): (DeviceRow, i64),
) -> Result<Option<Progress>, Error> {
    let row: Option<ProgressColumns> = sqlx::query_as(
        "SELECT d.device_id, b.sent_seq >= $2 OR b.acked_seq >= $2,
            b.acked_seq >= $2 AND NOT EXISTS (SELECT 1 FROM parked p
                WHERE p.device = $1 AND p.seq = $2 AND p.taken_ms IS NULL),
            EXISTS (SELECT 1 FROM expired e WHERE e.device = $1 AND e.seq = $2),
            d.server IS NOT NULL, b.told_sent >= $2, b.told_acked >= $2, r.has_left, r.reason
         FROM devices d JOIN mailboxes b ON b.device = d.device
         LEFT JOIN refused r ON r.device = d.device AND r.seq = $2
         WHERE d.device = $1",
    )
    .bind(device)
    .bind(seq)
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let (id, sent, acked, expired, is_elsewhere, told_sent, told_acked, has_left, reason) = row;
        let device_id = name_of!(DeviceId, &id, "device_id")?;
        let failed = Failed::of((has_left, reason));
        let told = (told_sent, told_acked);
        Ok(Progress::of(device_id, (sent, acked, expired), (is_elsewhere, told), failed))
    })
    .transpose()
}

/// Forgets what was accepted, or ended, long ago, at most `limit` rows of each kind; how many of the
/// kind of which there were most.
pub(crate) async fn forget(conn: &mut Conn, now: Timestamp, limit: u32) -> Result<u64, Error> {
    let accepted = sqlx::query(
        "DELETE FROM accepted WHERE (sender, id) IN
            (SELECT sender, id FROM accepted WHERE keep_until_ms <= $1 LIMIT $2)",
    )
    .bind(ms(now))
    .bind(i64::from(limit))
    .execute(&mut *conn)
    .await?;
    let expired = sqlx::query(
        "DELETE FROM expired WHERE (device, seq) IN
            (SELECT device, seq FROM expired WHERE keep_until_ms <= $1 LIMIT $2)",
    )
    .bind(ms(now))
    .bind(i64::from(limit))
    .execute(&mut *conn)
    .await?;
    let passed = sqlx::query(
        "DELETE FROM passed WHERE (device, after_seq) IN
            (SELECT device, after_seq FROM passed WHERE keep_until_ms <= $1 LIMIT $2)",
    )
    .bind(ms(now))
    .bind(i64::from(limit))
    .execute(&mut *conn)
    .await?;
    let refused = sqlx::query(
        "DELETE FROM refused WHERE (device, seq) IN
            (SELECT device, seq FROM refused WHERE keep_until_ms <= $1 LIMIT $2)",
    )
    .bind(ms(now))
    .bind(i64::from(limit))
    .execute(&mut *conn)
    .await?;
    let broadcasts = sqlx::query(
        "DELETE FROM broadcasts WHERE seq IN (SELECT seq FROM broadcasts
            WHERE keep_until_ms <= $1 AND ended IS NOT NULL LIMIT $2)",
    )
    .bind(ms(now))
    .bind(i64::from(limit))
    .execute(conn)
    .await?;
    let all = [accepted, expired, passed, refused, broadcasts];
    let mut most = 0;
    for done in all {
        most = done.rows_affected().max(most);
    }
    Ok(most)
}

//! What was accepted from a device, so that it is accepted once, and how far it came.

use causeway_store::Conn;
use std::collections::BTreeMap;

use causeway_protocol::ids::{DeviceId, EnvelopeId, Timestamp};

use super::Places;
use crate::storage::{DeviceRow, Error, many, ms, name_of};

/// What was accepted from `sender` under these ids, with where it was put.
pub(crate) async fn accepted(
    conn: &mut Conn,
    sender: DeviceRow,
    ids: &[EnvelopeId],
) -> Result<BTreeMap<EnvelopeId, Places>, Error> {
    let ids: Vec<Vec<u8>> = ids.iter().map(|id| id.as_ref().to_vec()).collect();
    let rows: Vec<(Vec<u8>, Vec<u8>)> = many::fetch_in(
        conn,
        "SELECT id, places FROM accepted WHERE sender = ",
        sender,
        " AND id",
        &ids,
    )
    .await?;
    rows.into_iter()
        .map(|(id, places)| Ok((name_of!(EnvelopeId, &id, "id")?, read_places(&places)?)))
        .collect()
}

/// Remembers what was accepted.
pub(crate) async fn put_accepted(
    conn: &mut Conn,
    sender: DeviceRow,
    rows: &[(EnvelopeId, Timestamp, Places)],
) -> Result<(), Error> {
    many::insert(
        conn,
        "INSERT INTO accepted (sender, id, keep_until_ms, places) ",
        rows,
        "",
        |values, (id, keep_until, places)| {
            values
                .push_bind(sender)
                .push_bind(id.as_ref().to_vec())
                .push_bind(ms(*keep_until))
                .push_bind(write_places(places));
        },
    )
    .await?;
    Ok(())
}

fn write_places(places: &Places) -> Vec<u8> {
    places
        .iter()
        .flat_map(|(device, seq)| [device.0.to_be_bytes(), seq.to_be_bytes()])
        .flatten()
        .collect()
}

fn read_places(bytes: &[u8]) -> Result<Places, Error> {
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

/// What is known of one mailbox row, gone or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) device_id: DeviceId,
    /// Written to a stream that has ended.
    pub(crate) sent: bool,
    pub(crate) acked: bool,
    pub(crate) expired: bool,
}

/// How far the row came that was put at this place.
pub(crate) async fn progress(
    conn: &mut Conn,
    (device, seq): (DeviceRow, i64),
) -> Result<Option<Progress>, Error> {
    let row: Option<(Vec<u8>, bool, bool, bool)> = sqlx::query_as(
        "SELECT d.device_id, b.sent_seq >= $2, b.acked_seq >= $2,
            EXISTS (SELECT 1 FROM expired e WHERE e.device = $1 AND e.seq = $2)
         FROM devices d JOIN mailboxes b ON b.device = d.device WHERE d.device = $1",
    )
    .bind(device)
    .bind(seq)
    .fetch_optional(conn)
    .await?;
    row.map(|(id, sent, acked, expired)| {
        Ok(Progress { device_id: name_of!(DeviceId, &id, "device_id")?, sent, acked, expired })
    })
    .transpose()
}

/// Forgets what was accepted, or expired, long ago; how many rows, at most `limit` of each.
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
    .execute(conn)
    .await?;
    Ok(accepted.rows_affected() + expired.rows_affected())
}

//! Broadcasts that have ended: everybody has read them, or their time is over.
//!
//! An acknowledgement is one number, which goes past what had ended before. So a device has read an
//! ended broadcast if it acknowledged it before that, and which acknowledgements came later and went
//! past one is kept for a day, as what has ended is: then nobody asks any more.

use causeway_protocol::ids::{DeviceId, Seq, Timestamp};
use causeway_store::Conn;

use super::accepted::{Failed, Progress};
use crate::storage::{DeviceRow, Error, devices::Device, ms, name_of};

/// Ends a broadcast at the number `at`; whether it had not ended before.
pub(crate) async fn end(conn: &mut Conn, seq: i64, at: i64) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE broadcasts SET ended = $2 WHERE seq = $1 AND ended IS NULL")
        .bind(seq)
        .bind(at)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM envelopes WHERE envelope = $1").bind(seq).execute(conn).await?;
    Ok(done.rows_affected() > 0)
}

/// Remembers, until `keep_until`, that a device, which has acknowledged up to `acked`, is about to
/// acknowledge up to `seq`, past what has ended on this server; if any of its groups is concerned.
pub(crate) async fn passed(
    conn: &mut Conn,
    device: &Device,
    (acked, seq): (i64, Seq),
    keep_until: Timestamp,
) -> Result<(), Error> {
    let seq = i64::try_from(seq.0).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO passed (device, after_seq, until_seq, at_seq, keep_until_ms)
         SELECT $1, $2, $3, n.last, $4 FROM numbers n
         WHERE EXISTS (SELECT 1 FROM group_devices g CROSS JOIN broadcasts b
            WHERE g.device_id = $5 AND g.member_id = $6 AND g.until_seq > $2
            AND b.grp = g.grp AND b.ended IS NOT NULL AND b.seq <= $3
            AND b.seq > CASE WHEN g.after_seq > $2 THEN g.after_seq ELSE $2 END
            AND b.seq <= g.until_seq)
         ON CONFLICT DO NOTHING",
    )
    .bind(device.row)
    .bind(acked)
    .bind(seq)
    .bind(ms(keep_until))
    .bind(device.device_id.as_ref())
    .bind(device.member_id.as_ref())
    .execute(conn)
    .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
#[expect(clippy::struct_excessive_bools, reason = "columns")]
struct ProgressColumns {
    device: DeviceRow,
    device_id: Vec<u8>,
    sent: bool,
    acked: bool,
    expired: bool,
    is_elsewhere: bool,
    told_sent: bool,
    told_acked: bool,
    has_left: Option<bool>,
    reason: Option<String>,
}

/// How far a broadcast came, by device.
pub(crate) async fn progress_of_broadcast(
    conn: &mut Conn,
    seq: i64,
) -> Result<Vec<(DeviceRow, Progress)>, Error> {
    let rows: Vec<ProgressColumns> = sqlx::query_as(
        "SELECT d.device, d.device_id, m.sent_seq >= b.seq OR m.acked_seq >= b.seq AS sent,
            m.acked_seq >= b.seq AND NOT EXISTS (SELECT 1 FROM parked p
                WHERE p.device = d.device AND p.seq = b.seq AND p.taken_ms IS NULL) AS acked,
            EXISTS (SELECT 1 FROM expired e WHERE e.device = d.device AND e.seq = b.seq)
                OR b.ended IS NOT NULL AND (m.acked_seq < b.seq
                OR EXISTS (SELECT 1 FROM passed p
                    WHERE p.device = d.device AND p.after_seq < b.seq AND p.until_seq >= b.seq
                    AND p.at_seq >= b.ended)) AS expired,
            d.server IS NOT NULL AS is_elsewhere, m.told_sent >= b.seq AS told_sent,
            m.told_acked >= b.seq AS told_acked, r.has_left, r.reason
         FROM broadcasts b
         JOIN group_devices g ON g.grp = b.grp AND g.from_epoch <= b.epoch
            AND g.after_seq < b.seq AND g.until_seq >= b.seq
         JOIN devices d ON d.device_id = g.device_id AND d.member_id = g.member_id
         JOIN mailboxes m ON m.device = d.device
         LEFT JOIN refused r ON r.device = d.device AND r.seq = b.seq
         WHERE b.seq = $1 AND (b.sender IS NULL OR b.sender <> d.device)",
    )
    .bind(seq)
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let device_id = name_of!(DeviceId, &row.device_id, "device_id")?;
            let elsewhere = (row.is_elsewhere, (row.told_sent, row.told_acked));
            let failed = Failed::of((row.has_left, row.reason));
            let came = (row.sent, row.acked, row.expired);
            Ok((row.device, Progress::of(device_id, came, elsewhere, failed)))
        })
        .collect()
}

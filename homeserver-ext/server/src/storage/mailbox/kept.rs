//! What a device has acknowledged and may have to read again.
//!
//! It is not moved: a device has two more places in its mailbox. Up to the first (`kept_seq`) what it
//! acknowledged is gone; from the second on (`again_seq`), which is there while it reads again, it is
//! handed out once more. How far it has acknowledged, which is what senders are told, never goes back.

use causeway_protocol::ids::{Generation, Seq, Timestamp};
use causeway_store::{Conn, Row, Script};
use sqlx::FromRow;

use super::fetch;
use crate::storage::{
    DeviceRow, Error,
    devices::Device,
    events::{self, Event},
    number,
};

const MINUTE_MS: u64 = 60_000;
/// Starts that are remembered.
const STARTS: i64 = 1_000;

/// Where a device is in its mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Place {
    /// Up to here it has acknowledged.
    pub(crate) acked: i64,
    /// Up to here that is gone; none: all of it is.
    pub(crate) kept: Option<i64>,
}

/// Where a device is that is about to acknowledge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlaceBefore {
    pub(crate) place: Place,
    /// Up to here at once: so many rows of its own, or all.
    pub(crate) step: Seq,
    /// That is all.
    pub(crate) is_all: bool,
    /// Whether that goes past something that has ended on this server.
    pub(crate) may_pass: bool,
}

/// Asks where a device is that is about to acknowledge up to `seq`, at most `limit` rows of its own at
/// once.
pub(crate) fn select_place(script: &mut Script, device: DeviceRow, seq: Seq, limit: u32) {
    let until = i64::try_from(seq.0).unwrap_or(i64::MAX);
    let query = script.add(
        "SELECT m.acked_seq, m.kept_seq, m.step, EXISTS (SELECT 1 FROM broadcasts b
            WHERE b.ended IS NOT NULL AND b.seq > m.acked_seq AND b.seq <= m.step)
         FROM (SELECT p.acked_seq, p.kept_seq, COALESCE((SELECT o.seq FROM mailbox o
                WHERE o.device = $1 AND o.seq > p.acked_seq AND o.seq <= $2
                ORDER BY o.seq LIMIT 1 OFFSET $3), $2) AS step
            FROM mailboxes p WHERE p.device = $1) m",
    );
    query.bind(device).bind(until).bind(i64::from(limit) - 1);
}

/// Reads what [`select_place`] asked for.
pub(crate) fn read_place(rows: &[Row], seq: Seq) -> Result<PlaceBefore, Error> {
    let until = i64::try_from(seq.0).unwrap_or(i64::MAX);
    let row = rows.first().ok_or(Error::Row("mailboxes"))?;
    let (acked, kept, step, may_pass): (i64, Option<i64>, i64, bool) = FromRow::from_row(row)?;
    let (place, is_all) = (Place { acked, kept }, step >= until);
    Ok(PlaceBefore { place, step: Seq(number(step, "step")?), is_all, may_pass })
}

/// Where a device is.
pub(crate) async fn place(conn: &mut Conn, device: DeviceRow) -> Result<Place, Error> {
    let place = sqlx::query_as(
        "SELECT acked_seq AS acked, kept_seq AS kept FROM mailboxes WHERE device = $1",
    );
    Ok(place.bind(device).fetch_one(conn).await?)
}

/// Whether a row of a device's own waits for it.
pub(crate) async fn any_waits(conn: &mut Conn, device: DeviceRow) -> Result<bool, Error> {
    let waits = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM mailboxes p, mailbox o
            WHERE p.device = $1 AND o.device = p.device AND o.seq > p.acked_seq)",
    );
    Ok(waits.bind(device).fetch_one(conn).await?)
}

/// Keeps what a device acknowledges from now on.
pub(crate) async fn keep(conn: &mut Conn, device: DeviceRow) -> Result<(), Error> {
    sqlx::query("UPDATE mailboxes SET kept_seq = acked_seq WHERE device = $1 AND kept_seq IS NULL")
        .bind(device)
        .execute(conn)
        .await?;
    Ok(())
}

/// A device for which it is kept has everything up to and with `seq`, which it can have seen: so
/// many rows more than before.
pub(crate) fn read(
    script: &mut Script,
    device: &Device,
    place: Place,
    (seq, count): (Seq, u64),
    now: Timestamp,
) {
    let until = i64::try_from(seq.0).unwrap_or(i64::MAX);
    if until > place.acked {
        let query = script.add(
            "INSERT INTO kept (device, minute, seq, bytes)
             SELECT $1, $6, $5, CAST(COALESCE(SUM(length(e.payload)), 0) AS BIGINT) FROM envelopes e
             WHERE e.envelope IN (
                SELECT m.envelope FROM mailbox m WHERE m.device = $1 AND m.seq > $4 AND m.seq <= $5
                UNION ALL
                SELECT b.seq FROM broadcasts b CROSS JOIN group_devices g
                    WHERE b.seq > $4 AND b.seq <= $5 AND b.ended IS NULL
                    AND g.device_id = $2 AND g.grp = b.grp AND g.member_id = $3
                    AND b.seq > g.after_seq AND b.seq <= g.until_seq AND b.epoch >= g.from_epoch
                    AND b.sender <> $1 AND NOT EXISTS (SELECT 1 FROM parked p
                        WHERE p.device = $1 AND p.seq = b.seq))
             ON CONFLICT (device, minute) DO UPDATE
             SET seq = excluded.seq, bytes = kept.bytes + excluded.bytes",
        );
        query
            .bind(device.row)
            .bind(device.device_id.as_ref())
            .bind(device.member_id.as_ref())
            .bind(place.acked)
            .bind(until)
            .bind(minute(now));
    }
    let query = script.add(
        "UPDATE mailboxes SET acked_seq = CASE WHEN acked_seq < $2 THEN $2 ELSE acked_seq END,
            again_seq = CASE WHEN $2 >= acked_seq THEN NULL
                WHEN again_seq < $2 THEN $2 ELSE again_seq END
         WHERE device = $1",
    );
    query.bind(device.row).bind(until);
    events::add(script, now, Event::MessageDelivered, count);
}

fn minute(time: Timestamp) -> i64 {
    i64::try_from(time.0 / MINUTE_MS).unwrap_or(i64::MAX)
}

/// A device reads again from behind `after`, as far as that is there: it was acknowledged.
pub(crate) async fn read_again(
    conn: &mut Conn,
    device: DeviceRow,
    after: i64,
) -> Result<(), Error> {
    sqlx::query("UPDATE mailboxes SET again_seq = $2 WHERE device = $1 AND acked_seq > $2")
        .bind(device)
        .bind(after)
        .execute(&mut *conn)
        .await?;
    // What was parked and taken since is parked once more: where it was taken says only when.
    sqlx::query(
        "UPDATE parked SET taken_seq = NULL, taken_ms = NULL WHERE device = $1 AND taken_seq >= $2",
    )
    .bind(device)
    .bind(after)
    .execute(conn)
    .await?;
    Ok(())
}

/// Devices for which more is kept than is to be, and up to where it is to go: what was acknowledged
/// before `since`, and what is beyond `max_bytes` of one device's.
pub(crate) async fn due(
    conn: &mut Conn,
    since: Timestamp,
    max_bytes: u64,
) -> Result<Vec<(DeviceRow, i64)>, Error> {
    let due = sqlx::query_as(
        "SELECT device, MAX(seq) FROM (SELECT device, minute, seq,
            SUM(bytes) OVER (PARTITION BY device ORDER BY seq DESC) AS held FROM kept) k
         WHERE minute < $1 OR held > $2 GROUP BY device",
    );
    Ok(due
        .bind(minute(since))
        .bind(i64::try_from(max_bytes).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await?)
}

/// Lets go of what is kept for a device up to `until`, at most about `limit` rows of it; whether that
/// is all.
pub(crate) async fn let_go(
    conn: &mut Conn,
    device: DeviceRow,
    until: i64,
    limit: u32,
) -> Result<bool, Error> {
    let rows: Vec<(i64, bool)> = sqlx::query_as(
        "SELECT seq, is_broadcast FROM (
            SELECT seq, FALSE AS is_broadcast FROM (SELECT m.seq FROM mailbox m
                WHERE m.device = $1 AND m.seq <= $2 ORDER BY m.seq LIMIT $3) own
            UNION ALL
            SELECT seq, TRUE AS is_broadcast FROM (SELECT b.seq
                FROM mailboxes p JOIN devices d ON d.device = p.device
                JOIN group_devices g ON g.device_id = d.device_id AND g.member_id = d.member_id
                JOIN broadcasts b ON b.grp = g.grp AND b.ended IS NULL AND b.read_seq IS NOT NULL
                    AND b.seq > p.kept_seq AND b.seq <= $2
                WHERE p.device = $1 AND g.until_seq > p.kept_seq ORDER BY b.seq LIMIT $3) everyones
         ) k ORDER BY seq LIMIT $3",
    )
    .bind(device)
    .bind(until)
    .bind(i64::from(limit))
    .fetch_all(&mut *conn)
    .await?;
    let is_all = rows.len() < limit as usize;
    let until = rows.last().filter(|_| !is_all).map_or(until, |(seq, _)| *seq);
    fetch::delete(conn, device, until).await?;
    sqlx::query("UPDATE mailboxes SET kept_seq = $2 WHERE device = $1 AND kept_seq < $2")
        .bind(device)
        .bind(until)
        .execute(&mut *conn)
        .await?;
    for (seq, _) in rows.iter().filter(|(_, is_broadcast)| *is_broadcast) {
        end_unless_kept(conn, *seq).await?;
    }
    sqlx::query("DELETE FROM kept WHERE device = $1 AND seq <= $2")
        .bind(device)
        .bind(until)
        .execute(conn)
        .await?;
    Ok(is_all)
}

/// Ends a broadcast that was kept for somebody, unless another may read it again.
pub(super) async fn end_if_read(conn: &mut Conn, seq: i64) -> Result<(), Error> {
    let is_read = sqlx::query_scalar::<_, bool>(
        "SELECT EXISTS (SELECT 1 FROM broadcasts b
            WHERE b.seq = $1 AND b.ended IS NULL AND b.read_seq IS NOT NULL)",
    );
    if is_read.bind(seq).fetch_one(&mut *conn).await? {
        end_unless_kept(conn, seq).await?;
    }
    Ok(())
}

/// Ends a broadcast that all have read, unless somebody may read it again.
async fn end_unless_kept(conn: &mut Conn, seq: i64) -> Result<(), Error> {
    let is_kept: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM parked k WHERE k.envelope = $1)
         OR EXISTS (SELECT 1 FROM broadcasts b CROSS JOIN mailboxes p
            JOIN devices d ON d.device = p.device
            JOIN group_devices g ON g.device_id = d.device_id AND g.member_id = d.member_id
                AND g.grp = b.grp
            WHERE b.seq = $1 AND p.kept_seq < b.seq AND b.seq > g.after_seq AND b.seq <= g.until_seq
            AND b.epoch >= g.from_epoch AND b.sender <> p.device)",
    )
    .bind(seq)
    .fetch_one(&mut *conn)
    .await?;
    if !is_kept {
        let at = super::last_number(conn).await?;
        super::end(conn, seq, at).await?;
    }
    Ok(())
}

/// Notes that all have read a broadcast that somebody may read again.
pub(crate) async fn set_kept(conn: &mut Conn, seq: i64, at: i64) -> Result<(), Error> {
    sqlx::query("UPDATE broadcasts SET read_seq = $2 WHERE seq = $1 AND ended IS NULL")
        .bind(seq)
        .bind(at)
        .execute(conn)
        .await?;
    Ok(())
}

/// How many bytes of payload are kept for those who may read again, each device's for itself.
pub(crate) async fn kept_bytes(conn: &mut Conn) -> Result<u64, Error> {
    let bytes = sqlx::query_scalar("SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM kept");
    number(bytes.fetch_one(conn).await?, "bytes")
}

/// This database is opened once more: numbers that are given from now on are this generation's.
pub(crate) async fn begin(
    conn: &mut Conn,
    generation: &Generation,
) -> Result<(), causeway_store::Error> {
    sqlx::query("INSERT INTO generations (generation, after_seq) SELECT $1, last FROM numbers")
        .bind(generation.as_ref())
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM generations WHERE start <= (SELECT MAX(start) FROM generations) - $1")
        .bind(STARTS)
        .execute(conn)
        .await?;
    Ok(())
}

/// The last number that this generation gave for certain, as far as this database knows; `None` where
/// it does not know the generation, whose numbers say nothing here then.
pub(crate) async fn last_of(
    conn: &mut Conn,
    generation: &Generation,
) -> Result<Option<i64>, Error> {
    let last = sqlx::query_scalar(
        "SELECT COALESCE((SELECT n.after_seq FROM generations n WHERE n.start > g.start
            ORDER BY n.start LIMIT 1), 9223372036854775807)
         FROM generations g WHERE g.generation = $1",
    );
    Ok(last.bind(generation.as_ref()).fetch_optional(conn).await?)
}

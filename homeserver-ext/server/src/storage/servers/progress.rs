//! How far what crosses servers came: what their servers are to be told of what was taken, and what they told
//! of what was sent.

use causeway_protocol::{
    ids::{DeviceId, EnvelopeId, GroupId, Timestamp},
    link::{RowProgress, RowState},
};
use causeway_store::{Conn, Script};
use sqlx::Row as _;

use crate::storage::{
    DeviceRow, Error, GroupRow,
    mailbox::{Parkable, Places, progress_of_broadcast, take_numbers},
    ms, name_of,
};

/// What is owed to one server at most; what fails beyond that it is not told.
const MAX_OWED: i64 = 4_096;
/// Nobody here has it.
const NOBODY: DeviceRow = DeviceRow(0);

/// What was taken of another server's device.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) seq: i64,
    pub(crate) id: EnvelopeId,
    pub(crate) keep_until: Timestamp,
}

/// On which other server a device is; none: on this one.
pub(crate) async fn server_of(conn: &mut Conn, device: DeviceRow) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar("SELECT server FROM devices WHERE device = $1 AND server IS NOT NULL")
        .bind(device)
        .fetch_optional(conn)
        .await?)
}

/// Notes what was taken of a server's device, so that it is told how far that comes.
pub(crate) fn note_taken(
    script: &mut Script,
    (server, group, sender): (i64, GroupRow, DeviceRow),
    taken: &[Taken],
) {
    script.insert(
        "INSERT INTO taken (server, grp, seq, sender, id, keep_until_ms) ",
        taken,
        "",
        |values, taken| {
            let Taken { seq, id, keep_until } = taken;
            let id = id.as_ref().to_vec();
            let columns = values.bind(server).bind(group).bind(*seq).bind(sender);
            columns.bind(id).bind(ms(*keep_until));
        },
    );
}

/// The devices here that are in groups with some of the server, so many at most.
pub(crate) async fn readers(
    conn: &mut Conn,
    server: i64,
    most: usize,
) -> Result<Vec<DeviceRow>, Error> {
    Ok(sqlx::query_scalar(
        "SELECT DISTINCT l.device FROM group_devices g
         JOIN devices l ON l.device_id = g.device_id AND l.member_id = g.member_id
         WHERE l.server IS NULL AND g.until_epoch IS NULL AND g.grp IN (
            SELECT o.grp FROM devices d JOIN group_devices o
                ON o.device_id = d.device_id AND o.member_id = d.member_id WHERE d.server = $1)
         LIMIT $2",
    )
    .bind(server)
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?)
}

/// How far a device here has read.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) device_id: DeviceId,
    member_id: Vec<u8>,
    /// Written to a stream that has ended.
    pub(crate) sent: i64,
    /// All of it, but for what is parked.
    pub(crate) acked: i64,
}

/// How far this device has read of what came of the server: before the first that is parked of it.
pub(crate) async fn reader(
    conn: &mut Conn,
    server: i64,
    device: DeviceRow,
) -> Result<Option<Reader>, Error> {
    let row = sqlx::query(
        "SELECT d.device_id, d.member_id, b.sent_seq, b.acked_seq,
            (SELECT min(p.seq) FROM parked p JOIN devices s ON s.device = p.sender
                WHERE p.device = $1 AND p.taken_ms IS NULL AND s.server = $2)
         FROM devices d JOIN mailboxes b ON b.device = d.device
         WHERE d.device = $1 AND d.server IS NULL",
    )
    .bind(device)
    .bind(server)
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (sent, acked): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
    let parked: Option<i64> = row.try_get(4)?;
    Ok(Some(Reader {
        device_id: name_of!(DeviceId, row.try_get(0)?, "device_id")?,
        member_id: row.try_get(1)?,
        sent: sent.max(acked),
        acked: parked.map_or(acked, |parked| acked.min(parked - 1)),
    }))
}

/// What the server calls the last that was taken of it, up to the number `until`, in groups of this reader while
/// it was in them: its own number here, the sender, the envelope.
pub(crate) async fn last_taken(
    conn: &mut Conn,
    server: i64,
    reader: &Reader,
    until: i64,
) -> Result<Option<(i64, DeviceId, EnvelopeId)>, Error> {
    let last: Option<(GroupRow, Option<i64>)> = sqlx::query_as(
        "SELECT g.grp, (SELECT max(t.seq) FROM taken t
                WHERE t.server = $1 AND t.grp = g.grp AND t.seq > g.after_seq
                AND t.seq <= CASE WHEN g.until_seq < $2 THEN g.until_seq ELSE $2 END) AS last
         FROM group_devices g WHERE g.device_id = $3 AND g.member_id = $4
         ORDER BY COALESCE((SELECT max(t.seq) FROM taken t
                WHERE t.server = $1 AND t.grp = g.grp AND t.seq > g.after_seq
                AND t.seq <= CASE WHEN g.until_seq < $2 THEN g.until_seq ELSE $2 END), 0)
            DESC LIMIT 1",
    )
    .bind(server)
    .bind(until)
    .bind(reader.device_id.as_ref())
    .bind(&reader.member_id)
    .fetch_optional(&mut *conn)
    .await?;
    let Some((group, Some(seq))) = last else { return Ok(None) };
    let named: Option<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "SELECT d.device_id, t.id FROM taken t JOIN devices d ON d.device = t.sender
         WHERE t.server = $1 AND t.grp = $2 AND t.seq = $3",
    )
    .bind(server)
    .bind(group)
    .bind(seq)
    .fetch_optional(conn)
    .await?;
    let Some((sender, id)) = named else { return Ok(None) };
    Ok(Some((seq, name_of!(DeviceId, &sender, "device_id")?, name_of!(EnvelopeId, &id, "id")?)))
}

/// Has a server told that what its device, which is known here, sent is not put down for anybody, and why.
pub(crate) async fn owe_refusal(
    conn: &mut Conn,
    server: i64,
    place: (i64, GroupId),
    what: (&DeviceId, EnvelopeId),
    reason: &str,
) -> Result<(), Error> {
    owe_failed(conn, server, place, what, (NOBODY, reason)).await
}

/// Likewise, not for a device here.
pub(super) async fn owe_failed(
    conn: &mut Conn,
    server: i64,
    (n, group): (i64, GroupId),
    (sender, id): (&DeviceId, EnvelopeId),
    (device, reason): (DeviceRow, &str),
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO owed_progress (server, sender, id, device, n, group_id, reason)
         SELECT $1, $2, $3, $4, $5, $6, $7 WHERE (SELECT count(*) FROM (
            SELECT 1 FROM owed_progress WHERE server = $1 LIMIT $8) full_of) < $8
            AND EXISTS (SELECT 1 FROM devices WHERE device_id = $2 AND server = $1)
         ON CONFLICT DO NOTHING",
    )
    .bind(server)
    .bind(sender.as_ref())
    .bind(id.as_ref())
    .bind(device)
    .bind(n)
    .bind(group.as_ref())
    .bind(reason)
    .bind(MAX_OWED)
    .execute(conn)
    .await?;
    Ok(())
}

/// Has the sender's server told for which devices here a row of single devices ended, or a broadcast.
pub(crate) async fn owe_expired(
    conn: &mut Conn,
    (server, sender, id): (i64, DeviceRow, EnvelopeId),
    (seq, group, is_broadcast): (i64, GroupRow, bool),
) -> Result<(), Error> {
    let devices: Vec<DeviceRow> = if is_broadcast {
        let all = progress_of_broadcast(conn, seq).await?;
        let lack = all.into_iter().filter(|(_, of)| of.expired && !of.is_elsewhere);
        lack.map(|(device, _)| device).collect()
    } else {
        let query = sqlx::query_scalar(
            "SELECT d.device FROM accepted a JOIN expired e ON e.seq = $3
             JOIN devices d ON d.device = e.device
             WHERE a.sender = $1 AND a.id = $2 AND d.server IS NULL",
        );
        let query = query.bind(sender).bind(id.as_ref()).bind(seq);
        query.fetch_all(&mut *conn).await?
    };
    let first = take_numbers(conn, devices.len()).await?;
    for (n, device) in (first..).zip(devices) {
        sqlx::query(
            "INSERT INTO owed_progress (server, sender, id, device, n, group_id)
             SELECT $1, s.device_id, $3, $4, $5, g.group_id FROM devices s JOIN groups g ON g.grp = $6
             WHERE s.device = $2 AND (SELECT count(*) FROM (
                SELECT 1 FROM owed_progress WHERE server = $1 LIMIT $7) full_of) < $7
             ON CONFLICT DO NOTHING",
        )
        .bind(server)
        .bind(sender)
        .bind(id.as_ref())
        .bind(device)
        .bind(n)
        .bind(group)
        .bind(MAX_OWED)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// Has the servers of their senders told that rows did not fit into what is parked for a device here.
pub(crate) async fn owe_full(
    conn: &mut Conn,
    device: DeviceRow,
    rows: &[Parkable],
    reason: &str,
) -> Result<(), Error> {
    let first = take_numbers(conn, rows.len()).await?;
    for (n, row) in (first..).zip(rows) {
        sqlx::query(
            "INSERT INTO owed_progress (server, sender, id, device, n, group_id, reason)
             SELECT t.server, s.device_id, t.id, $3, $4, g.group_id, $5 FROM devices s
             JOIN taken t ON t.server = s.server AND t.grp = $2 AND t.seq = $6
             JOIN groups g ON g.grp = t.grp
             WHERE s.device = $1 AND (SELECT count(*) FROM (
                SELECT 1 FROM owed_progress o WHERE o.server = s.server LIMIT $7) full_of) < $7
             ON CONFLICT DO NOTHING",
        )
        .bind(row.sender)
        .bind(row.grp)
        .bind(device)
        .bind(n)
        .bind(reason)
        .bind(row.seq)
        .bind(MAX_OWED)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

/// What a server is to be told of, in order, so much at most; and up to which number that is.
pub(crate) async fn owed(
    conn: &mut Conn,
    server: i64,
    most: u32,
) -> Result<(Vec<RowProgress>, i64), Error> {
    let rows = sqlx::query(
        "SELECT o.n, o.sender, o.id, o.group_id, o.reason, d.device_id FROM owed_progress o
         LEFT JOIN devices d ON d.device = o.device
         WHERE o.server = $1 ORDER BY o.n, o.device LIMIT $2",
    )
    .bind(server)
    .bind(i64::from(most))
    .fetch_all(conn)
    .await?;
    let mut owed = Vec::new();
    let mut until = 0;
    for row in &rows {
        let n: i64 = row.try_get(0)?;
        let device: Option<&[u8]> = row.try_get(5)?;
        let reason: Option<String> = row.try_get(4)?;
        owed.push(RowProgress {
            id: name_of!(EnvelopeId, row.try_get(2)?, "id")?,
            sender: Some(name_of!(DeviceId, row.try_get(1)?, "sender")?),
            group: Some(name_of!(GroupId, row.try_get(3)?, "group_id")?),
            device: device.map(|id| name_of!(DeviceId, id, "device_id")).transpose()?,
            state: if reason.is_some() { RowState::Failed } else { RowState::Expired },
            reason,
        });
        until = n;
    }
    Ok((owed, until))
}

/// The server knows what it was owed, up to and with this number.
pub(crate) async fn told(conn: &mut Conn, server: i64, until: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM owed_progress WHERE server = $1 AND n <= $2")
        .bind(server)
        .bind(until)
        .execute(conn)
        .await?;
    Ok(())
}

/// What another server calls a fan-out of which it has its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) id: EnvelopeId,
    pub(crate) whole: EnvelopeId,
    pub(crate) keep_until: Timestamp,
}

/// Remembers what the server calls it.
pub(crate) async fn note_cut(conn: &mut Conn, server: i64, cut: &Cut) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO cut_fan_outs (server, id, whole_id, keep_until_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(server)
    .bind(cut.id.as_ref())
    .bind(cut.whole.as_ref())
    .bind(ms(cut.keep_until))
    .execute(conn)
    .await?;
    Ok(())
}

/// What a device here sent, as it was accepted.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) sender: DeviceRow,
    /// What the sender calls it.
    pub(crate) id: EnvelopeId,
    pub(crate) keep_until_ms: i64,
    pub(crate) places: Places,
}

/// What this device here sent that the server knows under that name.
pub(crate) async fn sent(
    conn: &mut Conn,
    server: i64,
    sender: &DeviceId,
    id: EnvelopeId,
) -> Result<Option<Sent>, Error> {
    let whole: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT whole_id FROM cut_fan_outs WHERE server = $1 AND id = $2")
            .bind(server)
            .bind(id.as_ref())
            .fetch_optional(&mut *conn)
            .await?;
    let id = match whole {
        Some(whole) => name_of!(EnvelopeId, &whole, "whole_id")?,
        None => id,
    };
    let row: Option<(DeviceRow, i64)> = sqlx::query_as(
        "SELECT d.device, a.keep_until_ms FROM devices d
         JOIN accepted a ON a.sender = d.device AND a.id = $2
         WHERE d.device_id = $1 AND d.server IS NULL",
    )
    .bind(sender.as_ref())
    .bind(id.as_ref())
    .fetch_optional(&mut *conn)
    .await?;
    let Some((sender, keep_until_ms)) = row else { return Ok(None) };
    let mut known = crate::storage::mailbox::accepted(conn, sender, &[id]).await?;
    Ok(known.remove(&id).map(|places| Sent { sender, id, keep_until_ms, places }))
}

/// A device of the server has all that was for it up to this number, or was given it.
pub(crate) async fn has_read(
    conn: &mut Conn,
    server: i64,
    device: &DeviceId,
    (seq, is_acked): (i64, bool),
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE mailboxes SET told_sent = CASE WHEN told_sent < $3 THEN $3 ELSE told_sent END,
            told_acked = CASE WHEN $4 AND told_acked < $3 THEN $3 ELSE told_acked END
         WHERE device = (SELECT device FROM devices WHERE device_id = $1 AND server = $2)",
    )
    .bind(device.as_ref())
    .bind(server)
    .bind(seq)
    .bind(is_acked)
    .execute(conn)
    .await?;
    Ok(())
}

/// The devices of the server for which that was, each with its number; `one`: that alone.
pub(crate) async fn recipients(
    conn: &mut Conn,
    server: i64,
    sent: &Sent,
    one: Option<&DeviceId>,
) -> Result<Vec<(DeviceRow, i64)>, Error> {
    let places = match &sent.places {
        Places::Devices(places) => places.clone(),
        Places::Group(seq, _) => {
            let all = progress_of_broadcast(conn, *seq).await?;
            all.into_iter().map(|(device, _)| (device, *seq)).collect()
        }
    };
    let mut its = Vec::new();
    for (device, seq) in places {
        let id: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT device_id FROM devices WHERE device = $1 AND server = $2")
                .bind(device)
                .bind(server)
                .fetch_optional(&mut *conn)
                .await?;
        let is_meant = |id: &Vec<u8>| one.is_none_or(|one| id == one.as_ref());
        its.extend(id.filter(is_meant).map(|_| (device, seq)));
    }
    Ok(its)
}

/// A row did not come to a device of another server, and why; none: it ended before. Whether that is new.
pub(crate) async fn ended(
    conn: &mut Conn,
    (device, seq): (DeviceRow, i64),
    keep_until_ms: i64,
    reason: Option<&str>,
) -> Result<bool, Error> {
    let query = match reason {
        Some(reason) => sqlx::query(
            "INSERT INTO refused (device, seq, keep_until_ms, reason) VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
        )
        .bind(device)
        .bind(seq)
        .bind(keep_until_ms)
        .bind(reason),
        None => sqlx::query(
            "INSERT INTO expired (device, seq, keep_until_ms) VALUES ($1, $2, $3)
             ON CONFLICT DO NOTHING",
        )
        .bind(device)
        .bind(seq)
        .bind(keep_until_ms),
    };
    Ok(query.execute(conn).await?.rows_affected() > 0)
}

/// Whether something of this sending is known to have ended at another server, but for whom was taken out.
pub(crate) async fn has_ended(conn: &mut Conn, among: &[(DeviceRow, i64)]) -> Result<bool, Error> {
    for (device, seq) in among {
        let has: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM refused WHERE device = $1 AND seq = $2
                    AND COALESCE(reason, '') <> 'left')
                OR EXISTS (SELECT 1 FROM expired WHERE device = $1 AND seq = $2)",
        )
        .bind(device)
        .bind(seq)
        .fetch_one(&mut *conn)
        .await?;
        if has {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The group, where the device is or was in it, and its epoch now.
pub(crate) async fn group_of(
    conn: &mut Conn,
    group: GroupId,
    device: DeviceRow,
) -> Result<Option<(GroupRow, i64)>, Error> {
    Ok(sqlx::query_as(
        "SELECT g.grp, g.epoch FROM groups g WHERE g.group_id = $1 AND EXISTS (
            SELECT 1 FROM group_devices o JOIN devices d ON d.device_id = o.device_id
            WHERE d.device = $2 AND o.grp = g.grp)",
    )
    .bind(group.as_ref())
    .bind(device)
    .fetch_optional(conn)
    .await?)
}

/// Forgets what was taken long ago, so many at most; how many there were.
pub(crate) async fn forget_taken(conn: &mut Conn, now: Timestamp, most: u32) -> Result<u64, Error> {
    let gone = sqlx::query(
        "DELETE FROM taken WHERE (server, grp, seq) IN
            (SELECT server, grp, seq FROM taken WHERE keep_until_ms <= $1 LIMIT $2)",
    )
    .bind(ms(now))
    .bind(i64::from(most))
    .execute(&mut *conn)
    .await?;
    let cut = sqlx::query(
        "DELETE FROM cut_fan_outs WHERE (server, id) IN
            (SELECT server, id FROM cut_fan_outs WHERE keep_until_ms <= $1 LIMIT $2)",
    )
    .bind(ms(now))
    .bind(i64::from(most))
    .execute(conn)
    .await?;
    Ok(gone.rows_affected().max(cut.rows_affected()))
}

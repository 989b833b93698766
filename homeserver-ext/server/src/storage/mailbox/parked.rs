//! What a device cannot hold yet: set aside for it, row by row, until it asks for it.
//!
//! A parked row is not read, so its envelope stays: a broadcast is lacked, and what is for the device
//! alone has moved here from `mailbox`.

use causeway_protocol::ids::{AccountId, Seq, Timestamp};
use causeway_store::Conn;

use super::{fetch::Key, kept};
use crate::storage::{DeviceRow, Error, GroupRow, devices::Device, many, ms, number};

/// Devices and accounts that one step looks at, however little is parked for each.
const LOOKS: u32 = 64;

/// A row that a device may park.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Parkable {
    pub(crate) seq: i64,
    envelope: i64,
    pub(crate) grp: GroupRow,
    pub(crate) sender: DeviceRow,
    /// Of payload and piece.
    pub(crate) bytes: i64,
    piece: Option<Vec<u8>>,
    /// Whose account sent it.
    pub(crate) account: String,
}

/// Those of `rows` that wait for a device and were not made by the server, in order: what is for it
/// alone, and what is broadcast.
pub(crate) async fn parkable(
    conn: &mut Conn,
    device: &Device,
    rows: &[i64],
) -> Result<Vec<Parkable>, Error> {
    let mut own: Vec<Parkable> = many::fetch_in(
        conn,
        "SELECT m.seq, m.envelope, e.grp, e.sender, m.piece, d.account,
            length(e.payload) + COALESCE(length(m.piece), 0) AS bytes
         FROM mailbox m JOIN envelopes e ON e.envelope = m.envelope
         JOIN devices d ON d.device = e.sender
         WHERE m.device = $1 AND m.seq IN (",
        device.row,
        rows,
    )
    .await?;
    let broadcast: Vec<Parkable> = many::fetch_in(
        conn,
        "SELECT b.seq, b.seq AS envelope, b.grp, b.sender, NULL AS piece, d.account,
            length(e.payload) AS bytes
         FROM devices me JOIN broadcasts b ON b.sender <> me.device
         JOIN envelopes e ON e.envelope = b.seq JOIN devices d ON d.device = b.sender
         WHERE EXISTS (SELECT 1 FROM group_devices g
            WHERE g.device_id = me.device_id AND g.member_id = me.member_id AND g.grp = b.grp
            AND b.seq > g.after_seq AND b.seq <= g.until_seq AND b.epoch >= g.from_epoch)
         AND b.ended IS NULL AND me.device = $1 AND b.seq IN (",
        device.row,
        rows,
    )
    .await?;
    own.extend(broadcast);
    own.sort_by_key(|row| row.seq);
    Ok(own)
}

/// How many rows of an account, and how many bytes, are parked for a device.
pub(crate) async fn shares_parked(
    conn: &mut Conn,
    device: DeviceRow,
    account: &str,
) -> Result<(u64, u64), Error> {
    let (rows, bytes): (i64, i64) = sqlx::query_as(
        "SELECT count(*), CAST(COALESCE(SUM(p.bytes), 0) AS BIGINT) FROM parked p
         WHERE p.device = $1 AND p.sender IN (SELECT d.device FROM devices d WHERE d.account = $2)",
    )
    .bind(device)
    .bind(account)
    .fetch_one(conn)
    .await?;
    Ok((number(rows, "count")?, number(bytes, "bytes")?))
}

/// Parks rows of a device.
pub(crate) async fn park(
    conn: &mut Conn,
    device: DeviceRow,
    rows: &[Parkable],
) -> Result<(), Error> {
    many::insert(
        conn,
        "INSERT INTO parked (device, seq, envelope, grp, sender, bytes, piece) ",
        rows,
        " ON CONFLICT DO NOTHING",
        |values, row| {
            values
                .bind(device)
                .bind(row.seq)
                .bind(row.envelope)
                .bind(row.grp)
                .bind(row.sender)
                .bind(row.bytes)
                .bind(row.piece.clone());
        },
    )
    .await?;
    let seqs: Vec<i64> = rows.iter().map(|row| row.seq).collect();
    many::run_in(conn, "DELETE FROM mailbox WHERE device = $1 AND seq IN (", device, &seqs).await?;
    Ok(())
}

/// Remembers, until `keep_until`, that these rows were refused: too much of their sender is parked.
pub(crate) async fn refuse(
    conn: &mut Conn,
    device: DeviceRow,
    rows: &[Parkable],
    keep_until: Timestamp,
) -> Result<(), Error> {
    many::insert(
        conn,
        "INSERT INTO refused (device, seq, keep_until_ms) ",
        rows,
        " ON CONFLICT DO NOTHING",
        |values, row| {
            values.bind(device).bind(row.seq).bind(ms(keep_until));
        },
    )
    .await?;
    Ok(())
}

/// Of whom rows are parked for a device: by the first of each, from the number `from` on.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Of {
    pub(crate) first: i64,
    pub(crate) rows: i64,
    pub(crate) bytes: i64,
    pub(crate) group_id: Vec<u8>,
    pub(crate) account: String,
    pub(crate) device_id: Vec<u8>,
}

pub(crate) async fn parked_of(
    conn: &mut Conn,
    device: DeviceRow,
    from: Seq,
    limit: u32,
) -> Result<Vec<Of>, Error> {
    let of = sqlx::query_as(
        "SELECT k.first, k.count AS rows, k.bytes, g.group_id, d.account, d.device_id FROM (
            SELECT p.sender, p.grp, MIN(p.seq) AS first, count(*) AS count,
                CAST(SUM(p.bytes) AS BIGINT) AS bytes
            FROM parked p WHERE p.device = $1 AND p.taken_ms IS NULL
            GROUP BY p.sender, p.grp HAVING MIN(p.seq) >= $2 ORDER BY MIN(p.seq) LIMIT $3) k
         JOIN groups g ON g.grp = k.grp JOIN devices d ON d.device = k.sender ORDER BY k.first",
    );
    let from = i64::try_from(from.0).unwrap_or(i64::MAX);
    Ok(of.bind(device).bind(from).bind(i64::from(limit)).fetch_all(conn).await?)
}

/// How many rows are parked, each device's for itself, and bytes of what they carry.
pub(crate) async fn parked_in_all(conn: &mut Conn) -> Result<(u64, u64), Error> {
    let (rows, bytes): (i64, i64) = sqlx::query_as(
        "SELECT count(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM parked
         WHERE taken_ms IS NULL",
    )
    .fetch_one(conn)
    .await?;
    Ok((number(rows, "count")?, number(bytes, "bytes")?))
}

/// What is parked of one device in one group for another, after `after`, in order.
pub(crate) async fn parked(
    conn: &mut Conn,
    device: DeviceRow,
    (group, sender): (&[u8], &[u8]),
    after: Seq,
    limit: u32,
) -> Result<Vec<Key>, Error> {
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT p.seq, p.envelope FROM parked p
         WHERE p.device = $1 AND p.sender = (SELECT d.device FROM devices d WHERE d.device_id = $2)
         AND p.grp = (SELECT g.grp FROM groups g WHERE g.group_id = $3)
         AND p.seq > $4 AND p.taken_ms IS NULL ORDER BY p.seq LIMIT $5",
    )
    .bind(device)
    .bind(sender)
    .bind(group)
    .bind(i64::try_from(after.0).unwrap_or(i64::MAX))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|(seq, envelope)| Key::of_envelope(seq, envelope)).collect())
}

/// A device lacks these parked rows no more; how many of them were parked. Where what it reads is
/// kept, so are they, since `now`.
pub(crate) async fn take_parked(
    conn: &mut Conn,
    device: DeviceRow,
    rows: &[i64],
    keep: Option<Timestamp>,
) -> Result<u64, Error> {
    let envelopes: Vec<(i64,)> = many::fetch_in(
        conn,
        "SELECT envelope FROM parked WHERE taken_ms IS NULL AND device = $1 AND seq IN (",
        device,
        rows,
    )
    .await?;
    if let Some(now) = keep {
        for seq in rows {
            sqlx::query(
                "UPDATE parked SET taken_ms = $3, taken_seq = (SELECT m.acked_seq FROM mailboxes m
                    WHERE m.device = $1) WHERE device = $1 AND seq = $2 AND taken_ms IS NULL",
            )
            .bind(device)
            .bind(seq)
            .bind(ms(now))
            .execute(&mut *conn)
            .await?;
        }
    } else {
        many::run_in(conn, "DELETE FROM parked WHERE device = $1 AND seq IN (", device, rows)
            .await?;
        for (envelope,) in &envelopes {
            delete_unless_lacked(conn, *envelope).await?;
        }
    }
    Ok(envelopes.len() as u64)
}

/// Deletes an envelope that was for single devices and that nobody has to read any more.
async fn delete_unless_lacked(conn: &mut Conn, envelope: i64) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM envelopes WHERE envelope = $1
         AND NOT EXISTS (SELECT 1 FROM broadcasts b WHERE b.seq = $1)
         AND NOT EXISTS (SELECT 1 FROM mailbox m WHERE m.envelope = $1)
         AND NOT EXISTS (SELECT 1 FROM parked p WHERE p.envelope = $1)",
    )
    .bind(envelope)
    .execute(conn)
    .await?;
    Ok(())
}

/// An account leaves a group by the op of this number. What is parked there for its devices is let go
/// of [later](drop_left), and until `keep_until` it is remembered that it was not taken.
pub(crate) async fn leave_parked(
    conn: &mut Conn,
    group: GroupRow,
    account: &AccountId,
    (op, keep_until): (i64, Timestamp),
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO leaving (grp, account, until_seq, keep_until_ms) SELECT $1, $2, $3, $4
         WHERE EXISTS (SELECT 1 FROM devices d JOIN parked p ON p.grp = $1 AND p.device = d.device
            WHERE d.account = $2)
         ON CONFLICT (grp, account) DO UPDATE
         SET until_seq = excluded.until_seq, keep_until_ms = excluded.keep_until_ms",
    )
    .bind(group)
    .bind(account.as_str())
    .bind(op)
    .bind(ms(keep_until))
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether something is parked for an account that has left the group.
pub(crate) async fn is_left(conn: &mut Conn) -> Result<bool, Error> {
    let is_any = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM leaving)");
    Ok(is_any.fetch_one(conn).await?)
}

/// Lets go of at most `limit` rows that are parked for accounts which have left the group; how many, and
/// whether there may be more.
pub(crate) async fn drop_left(conn: &mut Conn, limit: u32) -> Result<(u64, bool), Error> {
    let limit = u64::from(limit);
    let mut left = limit;
    for _ in 0..LOOKS {
        let next = sqlx::query_as(
            "SELECT grp, account, until_seq, keep_until_ms FROM leaving
             ORDER BY grp, account LIMIT 1",
        );
        let next: Option<Leaving> = next.fetch_optional(&mut *conn).await?;
        let Some(one) = next else { return Ok((limit - left, false)) };
        let gone = drop_some(conn, &one, left).await?;
        if gone == 0 {
            sqlx::query("DELETE FROM leaving WHERE grp = $1 AND account = $2")
                .bind(one.grp)
                .bind(&one.account)
                .execute(&mut *conn)
                .await?;
        }
        left = left.saturating_sub(gone);
        if left == 0 {
            break;
        }
    }
    Ok((limit - left, true))
}

#[derive(sqlx::FromRow)]
struct Leaving {
    grp: GroupRow,
    account: String,
    until_seq: i64,
    keep_until_ms: i64,
}

/// Lets go of at most `limit` rows that are parked for one device of an account which has left; how
/// many. None: there are none.
async fn drop_some(conn: &mut Conn, one: &Leaving, limit: u64) -> Result<u64, Error> {
    let first: Option<(DeviceRow, i64)> = sqlx::query_as(
        "SELECT p.device, (SELECT MAX(k.seq) FROM (SELECT q.seq FROM parked q
            WHERE q.grp = $1 AND q.device = p.device AND q.seq <= $3 ORDER BY q.seq LIMIT $4) k)
         FROM devices d JOIN parked p ON p.grp = $1 AND p.device = d.device AND p.seq <= $3
         WHERE d.account = $2 LIMIT 1",
    )
    .bind(one.grp)
    .bind(&one.account)
    .bind(one.until_seq)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_optional(&mut *conn)
    .await?;
    let Some((device, last)) = first else { return Ok(0) };
    sqlx::query(
        "INSERT INTO refused (device, seq, keep_until_ms, has_left)
         SELECT device, seq, $4, TRUE FROM parked
         WHERE grp = $1 AND device = $2 AND seq <= $3 AND taken_ms IS NULL ON CONFLICT DO NOTHING",
    )
    .bind(one.grp)
    .bind(device)
    .bind(last)
    .bind(one.keep_until_ms)
    .execute(&mut *conn)
    .await?;
    // Envelopes first, while the rows still say which.
    sqlx::query(
        "DELETE FROM envelopes WHERE envelope IN
            (SELECT envelope FROM parked WHERE grp = $1 AND device = $2 AND seq <= $3)
         AND NOT EXISTS (SELECT 1 FROM broadcasts b WHERE b.seq = envelopes.envelope)
         AND NOT EXISTS (SELECT 1 FROM mailbox m WHERE m.envelope = envelopes.envelope)
         AND NOT EXISTS (SELECT 1 FROM parked o
            WHERE o.envelope = envelopes.envelope AND o.device <> $2)",
    )
    .bind(one.grp)
    .bind(device)
    .bind(last)
    .execute(&mut *conn)
    .await?;
    let gone = sqlx::query("DELETE FROM parked WHERE grp = $1 AND device = $2 AND seq <= $3")
        .bind(one.grp)
        .bind(device)
        .bind(last)
        .execute(conn)
        .await?;
    Ok(gone.rows_affected())
}

/// What came of an envelope whose time is over, where it was parked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpiredParked {
    /// So many rows went.
    pub(crate) gone: u32,
    /// So many of them nobody had taken.
    pub(crate) lacked: u32,
    /// Those were all.
    pub(crate) is_all: bool,
}

/// The time of an envelope is over: drops at most `limit` of those who have parked it, and remembers
/// that it expired for them. Who lacks it comes last, so that the last step still says that it is so.
pub(crate) async fn expire_parked(
    conn: &mut Conn,
    envelope: i64,
    keep_until: Timestamp,
    limit: u32,
) -> Result<ExpiredParked, Error> {
    let there: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT p.seq FROM parked p WHERE p.envelope = $1 LIMIT $2) k",
    )
    .bind(envelope)
    .bind(i64::from(limit) + 1)
    .fetch_one(&mut *conn)
    .await?;
    if there == 0 {
        return Ok(ExpiredParked { gone: 0, lacked: 0, is_all: true });
    }
    let lacked = sqlx::query(
        "INSERT INTO expired (device, seq, keep_until_ms)
         SELECT p.device, p.seq, $2 FROM (SELECT device, seq, taken_ms FROM parked
            WHERE envelope = $1 ORDER BY taken_ms IS NULL, device, seq LIMIT $3) p
         WHERE p.taken_ms IS NULL ON CONFLICT DO NOTHING",
    )
    .bind(envelope)
    .bind(ms(keep_until))
    .bind(i64::from(limit))
    .execute(&mut *conn)
    .await?;
    let gone = sqlx::query(
        "DELETE FROM parked WHERE (device, seq) IN
            (SELECT device, seq FROM parked WHERE envelope = $1
             ORDER BY taken_ms IS NULL, device, seq LIMIT $2)",
    )
    .bind(envelope)
    .bind(i64::from(limit))
    .execute(conn)
    .await?;
    let count = |rows: u64| u32::try_from(rows).unwrap_or(u32::MAX);
    Ok(ExpiredParked {
        gone: count(gone.rows_affected()),
        lacked: count(lacked.rows_affected()),
        is_all: there <= i64::from(limit),
    })
}

/// Lets go of parked rows that were taken before `before` and kept since, at most `limit`; whether
/// those were all.
pub(crate) async fn let_go_taken(
    conn: &mut Conn,
    before: Timestamp,
    limit: u32,
) -> Result<bool, Error> {
    let rows: Vec<(DeviceRow, i64, i64)> = sqlx::query_as(
        "SELECT device, seq, envelope FROM parked WHERE taken_ms < $1 ORDER BY taken_ms LIMIT $2",
    )
    .bind(ms(before))
    .bind(i64::from(limit))
    .fetch_all(&mut *conn)
    .await?;
    for (device, seq, envelope) in &rows {
        sqlx::query("DELETE FROM parked WHERE device = $1 AND seq = $2")
            .bind(device)
            .bind(seq)
            .execute(&mut *conn)
            .await?;
        kept::end_if_read(conn, *envelope).await?;
        delete_unless_lacked(conn, *envelope).await?;
    }
    Ok(rows.len() < limit as usize)
}

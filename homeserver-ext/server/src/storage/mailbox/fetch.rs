//! Fetching: rows in order, and the acknowledgement that deletes them.

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::{
    envelope::{Kind, MAX_TTL_MS},
    ids::{DeviceId, EnvelopeId, Epoch, GroupId, Seq, Timestamp},
};
use causeway_store::{Conn, Script};
use sqlx::Row as _;

use crate::storage::{
    DeviceRow, Error,
    devices::Device,
    events::{self, Event},
    many, name_of, number, time,
};

/// A row as it waits: everything that its frame says.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) seq: Seq,
    pub(crate) id: Option<EnvelopeId>,
    pub(crate) kind: Kind,
    pub(crate) group: GroupId,
    pub(crate) epoch: Epoch,
    /// Account and device; none where the server made it.
    pub(crate) sender: Option<(String, DeviceId)>,
    pub(crate) recipient: Option<DeviceId>,
    /// When it was accepted; none of an op, and of what is from before that was kept.
    pub(crate) at: Option<Timestamp>,
    pub(crate) ttl_ms: u64,
    pub(crate) payload: Vec<u8>,
    pub(crate) piece: Option<Vec<u8>>,
}

#[derive(sqlx::FromRow)]
struct WaitingColumns {
    number: i64,
    id: Option<Vec<u8>>,
    kind: i64,
    group_id: Vec<u8>,
    epoch: i64,
    account: Option<String>,
    device_id: Option<Vec<u8>>,
    recipient: Option<Vec<u8>>,
    at_ms: i64,
    ttl_ms: i64,
    payload: Vec<u8>,
    piece: Option<Vec<u8>>,
}

impl WaitingColumns {
    fn at(self, seq: i64) -> Result<Waiting, Error> {
        let device = |bytes: &Vec<u8>| name_of!(DeviceId, bytes, "device_id");
        let sender_id = self.device_id.as_ref().map(device).transpose()?;
        Ok(Waiting {
            seq: Seq(number(seq, "seq")?),
            id: self.id.map(|id| name_of!(EnvelopeId, &id, "id")).transpose()?,
            kind: Kind::from_number(number(self.kind, "kind")?).ok_or(Error::Row("kind"))?,
            group: name_of!(GroupId, &self.group_id, "group_id")?,
            epoch: Epoch(number(self.epoch, "epoch")?),
            sender: self.account.zip(sender_id),
            recipient: self.recipient.as_ref().map(device).transpose()?,
            at: (self.at_ms > 0).then(|| time(self.at_ms)),
            ttl_ms: number(self.ttl_ms, "ttl_ms")?,
            payload: self.payload,
            piece: self.piece,
        })
    }
}

/// Something that waits for a device: its number there, and its envelope's; none of an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) seq: i64,
    envelope: Option<i64>,
}

impl Key {
    pub(super) const fn of_envelope(seq: i64, envelope: i64) -> Self {
        Self { seq, envelope: Some(envelope) }
    }
}

/// What is found at most by one look. It stands in the statements: with a parameter in its place
/// SQLite would plan them anew each time.
pub(crate) const KEYS: usize = 1_024;

/// What waits for a device after `after`, in order, at most [`KEYS`]; and up to where it was looked
/// for. `is_many`: the device is in so many groups that most of what is broadcast is for it.
pub(crate) async fn keys(
    conn: &mut Conn,
    device: &Device,
    after: Seq,
    is_many: bool,
) -> Result<(Vec<Key>, Seq), Error> {
    // Group by group, or through all that was broadcast; the first table of a CROSS JOIN is SQLite's
    // outer one.
    let query = if is_many {
        sqlx::query_as(
            "SELECT n.last, k.seq, k.envelope FROM numbers n LEFT JOIN (
            SELECT seq, envelope FROM (SELECT m.seq, m.envelope FROM mailbox m
                WHERE m.device = $1 AND m.seq > $4 ORDER BY m.seq LIMIT 1024) own
            UNION ALL
            SELECT seq, envelope FROM (
                SELECT b.seq, CASE WHEN b.sender IS NULL THEN NULL ELSE b.seq END AS envelope
                FROM broadcasts b CROSS JOIN group_devices g
                WHERE b.seq > $4 AND b.ended IS NULL
                AND g.device_id = $2 AND g.grp = b.grp AND g.member_id = $3
                AND b.seq > g.after_seq AND b.seq <= g.until_seq AND b.epoch >= g.from_epoch
                AND (b.sender IS NULL OR b.sender <> $1) ORDER BY b.seq LIMIT 1024) everyones
         ) k ON TRUE ORDER BY k.seq LIMIT 1024",
        )
    } else {
        sqlx::query_as(
            "SELECT n.last, k.seq, k.envelope FROM numbers n LEFT JOIN (
            SELECT seq, envelope FROM (SELECT m.seq, m.envelope FROM mailbox m
                WHERE m.device = $1 AND m.seq > $4 ORDER BY m.seq LIMIT 1024) own
            UNION ALL
            SELECT seq, envelope FROM (
                SELECT b.seq, CASE WHEN b.sender IS NULL THEN NULL ELSE b.seq END AS envelope
                FROM group_devices g CROSS JOIN broadcasts b
                WHERE g.device_id = $2 AND g.member_id = $3 AND g.until_seq > $4
                AND b.grp = g.grp AND b.ended IS NULL
                AND b.seq > CASE WHEN g.after_seq > $4 THEN g.after_seq ELSE $4 END
                AND b.seq <= g.until_seq AND b.epoch >= g.from_epoch
                AND (b.sender IS NULL OR b.sender <> $1) ORDER BY b.seq LIMIT 1024) everyones
         ) k ON TRUE ORDER BY k.seq LIMIT 1024",
        )
    };
    let rows: Vec<(i64, Option<i64>, Option<i64>)> = query
        .bind(device.row)
        .bind(device.device_id.as_ref())
        .bind(device.member_id.as_ref())
        .bind(i64::try_from(after.0).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await?;
    let last = rows.first().map_or(0, |(last, ..)| *last);
    let key = |(_, seq, envelope): &(i64, Option<i64>, _)| {
        Some(Key { seq: (*seq)?, envelope: *envelope })
    };
    let keys: Vec<Key> = rows.iter().filter_map(key).collect();
    let is_all = keys.len() < KEYS;
    let until = if is_all { last } else { keys.last().map_or(last, |key| key.seq) };
    Ok((keys, after.max(Seq(number(until, "last")?))))
}

/// What these keys stand for, in their order; what has ended meanwhile is left out.
pub(crate) async fn waiting(
    conn: &mut Conn,
    device: DeviceRow,
    keys: &[Key],
) -> Result<Vec<Waiting>, Error> {
    let numbers: Vec<i64> = keys.iter().filter_map(|key| key.envelope).collect();
    let rows: Vec<WaitingColumns> = many::fetch_in(
        conn,
        "SELECT e.envelope AS number, e.id, e.kind, g.group_id, e.epoch, d.account, d.device_id,
                e.recipient, e.at_ms, e.ttl_ms, e.payload, (SELECT m.piece FROM mailbox m
                    WHERE m.envelope = e.envelope AND m.device = $1) AS piece
         FROM envelopes e
         JOIN groups g ON g.grp = e.grp
         LEFT JOIN devices d ON d.device = e.sender
         WHERE e.envelope IN (",
        device,
        &numbers,
    )
    .await?;
    in_order(conn, keys, rows).await
}

/// What parked keys stand for, likewise.
pub(crate) async fn waiting_parked(
    conn: &mut Conn,
    device: DeviceRow,
    keys: &[Key],
) -> Result<Vec<Waiting>, Error> {
    let numbers: Vec<i64> = keys.iter().filter_map(|key| key.envelope).collect();
    let rows: Vec<WaitingColumns> = many::fetch_in(
        conn,
        "SELECT e.envelope AS number, e.id, e.kind, g.group_id, e.epoch, d.account, d.device_id,
                e.recipient, e.at_ms, e.ttl_ms, e.payload, (SELECT p.piece FROM parked p
                    WHERE p.envelope = e.envelope AND p.device = $1) AS piece
         FROM envelopes e
         JOIN groups g ON g.grp = e.grp
         LEFT JOIN devices d ON d.device = e.sender
         WHERE e.envelope IN (",
        device,
        &numbers,
    )
    .await?;
    in_order(conn, keys, rows).await
}

async fn in_order(
    conn: &mut Conn,
    keys: &[Key],
    rows: Vec<WaitingColumns>,
) -> Result<Vec<Waiting>, Error> {
    let mut envelopes: BTreeMap<i64, WaitingColumns> =
        rows.into_iter().map(|row| (row.number, row)).collect();
    let mut found = Vec::new();
    for key in keys {
        let columns = match key.envelope {
            Some(number) => envelopes.remove(&number),
            None => op(conn, key.seq).await?,
        };
        if let Some(columns) = columns {
            found.push(columns.at(key.seq)?);
        }
    }
    Ok(found)
}

/// The op at this place, as a row.
async fn op(conn: &mut Conn, seq: i64) -> Result<Option<WaitingColumns>, Error> {
    let row: Option<(Vec<u8>, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT g.group_id, b.epoch, o.op FROM broadcasts b
         JOIN ops o ON o.grp = b.grp AND o.epoch = b.epoch
         JOIN groups g ON g.grp = b.grp WHERE b.seq = $1",
    )
    .bind(seq)
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|(group_id, epoch, payload)| WaitingColumns {
        number: seq,
        id: None,
        kind: i64::from(Kind::Roster.number()),
        group_id,
        epoch,
        account: None,
        device_id: None,
        recipient: None,
        at_ms: 0,
        ttl_ms: i64::try_from(MAX_TTL_MS).unwrap_or(i64::MAX),
        payload,
        piece: None,
    }))
}

/// Where a device's mailbox begins and ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    /// From behind this on it reads.
    pub(crate) acked: Seq,
    /// The last number that was given.
    pub(crate) last: Seq,
    /// Whether anything is parked for it.
    pub(crate) is_parked: bool,
}

/// From where on a device reads, and the last number that was given.
pub(crate) async fn ends(conn: &mut Conn, device: DeviceRow) -> Result<Ends, Error> {
    let ends: Option<(i64, i64, bool)> = sqlx::query_as(
        "SELECT COALESCE(m.again_seq, m.acked_seq), n.last, EXISTS (SELECT 1 FROM parked p
            WHERE p.device = m.device AND p.taken_ms IS NULL)
         FROM numbers n CROSS JOIN mailboxes m WHERE m.device = $1",
    )
    .bind(device)
    .fetch_optional(conn)
    .await?;
    let (acked, last, is_parked) = ends.unwrap_or_default();
    let (acked, last) = (Seq(number(acked, "acked_seq")?), Seq(number(last, "last")?));
    Ok(Ends { acked, last, is_parked })
}

/// Notes up to which row a device's streams were written.
pub(crate) async fn set_sent(conn: &mut Conn, device: DeviceRow, seq: Seq) -> Result<(), Error> {
    sqlx::query("UPDATE mailboxes SET sent_seq = $2 WHERE device = $1 AND sent_seq < $2")
        .bind(device)
        .bind(i64::try_from(seq.0).unwrap_or(i64::MAX))
        .execute(conn)
        .await?;
    Ok(())
}

/// A device has everything up to and with `seq`, which it can have seen, so many rows more than
/// before: they are deleted.
pub(crate) fn ack(
    script: &mut Script,
    device: DeviceRow,
    (seq, count): (Seq, u64),
    now: Timestamp,
) {
    let seq = i64::try_from(seq.0).unwrap_or(i64::MAX);
    add_delete(script, device, seq);
    let query =
        script.add("UPDATE mailboxes SET acked_seq = $2 WHERE device = $1 AND acked_seq < $2");
    query.bind(device).bind(seq);
    events::add(script, now, Event::MessageDelivered, count);
}

/// Devices have everything up to and with a number of each, which is more than they had, as long as
/// nothing of it is kept for one of them or has ended on this server, and at most eight rows are for it
/// alone, which `script` deletes. Returns those for whom it is.
pub(crate) async fn ack_all(
    conn: &mut Conn,
    script: &mut Script,
    all: &[(DeviceRow, Seq)],
) -> Result<BTreeSet<DeviceRow>, Error> {
    let mut acks = Script::default();
    acks.insert(
        "INSERT INTO mailboxes (device, acked_seq) ",
        all,
        " ON CONFLICT (device) DO UPDATE SET acked_seq = excluded.acked_seq
         WHERE mailboxes.acked_seq < excluded.acked_seq AND mailboxes.kept_seq IS NULL
         AND (SELECT count(*) FROM (SELECT 1 FROM mailbox m
            WHERE m.device = excluded.device AND m.seq <= excluded.acked_seq LIMIT 9) own) < 9
         AND NOT EXISTS (SELECT 1 FROM broadcasts b WHERE b.ended IS NOT NULL
            AND b.seq > mailboxes.acked_seq AND b.seq <= excluded.acked_seq)
         RETURNING device, EXISTS (SELECT 1 FROM mailbox m
            WHERE m.device = mailboxes.device AND m.seq <= mailboxes.acked_seq)",
        |values, (device, seq)| {
            values.bind(*device).bind(i64::try_from(seq.0).unwrap_or(i64::MAX));
        },
    );
    let (mut done, mut own) = (BTreeSet::new(), Vec::new());
    for row in acks.run(conn).await? {
        let device: DeviceRow = row.try_get(0)?;
        done.insert(device);
        if row.try_get(1)? {
            own.push(device);
        }
    }
    for device in own {
        delete_acknowledged(script, device);
    }
    Ok(done)
}

/// Deletes what is for this device alone, and acknowledged.
fn delete_acknowledged(script: &mut Script, device: DeviceRow) {
    // Envelopes first, while the rows still say which; those that others wait for, or keep, stay.
    let query = script.add(
        "DELETE FROM envelopes WHERE envelope IN (
            SELECT m.envelope FROM mailboxes p
            JOIN mailbox m ON m.device = p.device AND m.seq <= p.acked_seq
            WHERE p.device = $1)
         AND NOT EXISTS (SELECT 1 FROM mailbox o JOIN mailboxes q ON q.device = o.device
            WHERE o.envelope = envelopes.envelope
            AND (o.seq > q.acked_seq OR q.kept_seq IS NOT NULL))
         AND NOT EXISTS (SELECT 1 FROM parked p WHERE p.envelope = envelopes.envelope)",
    );
    query.bind(device);
    let query = script.add(
        "DELETE FROM mailbox WHERE device = $1
         AND seq <= (SELECT acked_seq FROM mailboxes WHERE device = $1)",
    );
    query.bind(device);
}

/// Deletes what is for one device alone, up to and with `seq`.
pub(super) async fn delete(conn: &mut Conn, device: DeviceRow, seq: i64) -> Result<(), Error> {
    let mut script = Script::default();
    add_delete(&mut script, device, seq);
    script.run(conn).await?;
    Ok(())
}

fn add_delete(script: &mut Script, device: DeviceRow, seq: i64) {
    // Envelopes first, while the rows still say which; those that others wait for stay.
    let query = script.add(
        "DELETE FROM envelopes WHERE envelope IN
            (SELECT envelope FROM mailbox WHERE device = $1 AND seq <= $2)
         AND NOT EXISTS (SELECT 1 FROM mailbox o
            WHERE o.envelope = envelopes.envelope AND o.device <> $1)
         AND NOT EXISTS (SELECT 1 FROM parked p WHERE p.envelope = envelopes.envelope)",
    );
    query.bind(device).bind(seq);
    script.add("DELETE FROM mailbox WHERE device = $1 AND seq <= $2").bind(device).bind(seq);
}

//! The mailbox: what waits for a device, in order, until it says it has it.
//!
//! Opaque by design: nothing here can open an envelope. Order is per device (`Seq`), not global.
//! One envelope is kept once, however many wait for it, and goes with its last reader.

use std::collections::BTreeMap;

use causeway_protocol::{
    envelope::Kind,
    ids::{DeviceId, EnvelopeId, Epoch, GroupId, Seq, Timestamp},
};
use causeway_store::Tx;
use sqlx::SqliteConnection;

use super::{DeviceRow, Error, GroupRow, many, ms, name_of, number};

/// Topic on which a device's stream listens.
pub(crate) fn topic(device: DeviceRow) -> String {
    format!("mailbox/{}", device.0)
}

/// The mailboxes that a transaction may put something into, each with its last number.
#[derive(Debug, Default)]
pub(crate) struct Boxes(BTreeMap<DeviceId, Place>);

/// The end of one mailbox.
#[derive(Debug, Clone, Copy)]
struct Place {
    device: DeviceRow,
    last: i64,
    /// Epoch since which it counts.
    since: Epoch,
    touched: bool,
}

impl Boxes {
    /// Which devices have one.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.0.keys()
    }

    /// Leaves one device out.
    pub(crate) fn without(mut self, device: &DeviceId) -> Self {
        self.0.remove(device);
        self
    }
}

type BoxColumns = (Vec<u8>, DeviceRow, i64, i64);

fn boxes(rows: Vec<BoxColumns>) -> Result<Boxes, Error> {
    rows.into_iter()
        .map(|(id, device, last, since)| {
            let id = name_of!(DeviceId, &id, "device_id")?;
            let since = Epoch(number(since, "from_epoch")?);
            Ok((id, Place { device, last, since, touched: false }))
        })
        .collect::<Result<_, _>>()
        .map(Boxes)
}

/// Mailboxes of the devices that count now.
pub(crate) async fn boxes_of_group(
    conn: &mut SqliteConnection,
    group: GroupRow,
) -> Result<Boxes, Error> {
    let rows = sqlx::query_as(
        "SELECT d.device_id, d.device, b.last_seq, g.from_epoch
         FROM group_devices g
         JOIN devices d ON d.device_id = g.device_id AND d.member_id = g.member_id
         JOIN mailboxes b ON b.device = d.device
         WHERE g.grp = $1 AND g.until_epoch IS NULL",
    );
    boxes(rows.bind(group).fetch_all(conn).await?)
}

/// Mailboxes of the devices that count now, and of those that `epoch`'s op took out.
pub(crate) async fn boxes_of_op(
    conn: &mut SqliteConnection,
    group: GroupRow,
    epoch: Epoch,
) -> Result<Boxes, Error> {
    let rows = sqlx::query_as(
        "SELECT d.device_id, d.device, b.last_seq, 0
         FROM group_devices g
         JOIN devices d ON d.device_id = g.device_id AND d.member_id = g.member_id
         JOIN mailboxes b ON b.device = d.device
         WHERE g.grp = $1 AND (g.until_epoch IS NULL OR g.until_epoch = $2)",
    );
    boxes(rows.bind(group).bind(i64::from(epoch.0)).fetch_all(conn).await?)
}

/// The mailbox of one device.
pub(crate) async fn box_of(conn: &mut SqliteConnection, device: DeviceRow) -> Result<Boxes, Error> {
    let rows = sqlx::query_as(
        "SELECT d.device_id, d.device, b.last_seq, 0 FROM devices d
         JOIN mailboxes b ON b.device = d.device WHERE d.device = $1",
    );
    boxes(rows.bind(device).fetch_all(conn).await?)
}

/// For whom an envelope is put down.
#[derive(Debug, Clone)]
pub(crate) enum To<'a> {
    /// Every box at hand whose device counted at the parcel's epoch.
    Everyone,
    /// One device, named in the envelope; it gets nothing if it is not among [`To::Everyone`].
    Device(DeviceId),
    /// A piece for each of these, likewise.
    Pieces(&'a BTreeMap<DeviceId, causeway_protocol::envelope::Piece>),
}

/// An envelope to be put down.
#[derive(Debug, Clone)]
pub(crate) struct Parcel<'a> {
    /// None of a fan-out, whose rows have their own.
    pub(crate) id: Option<EnvelopeId>,
    pub(crate) kind: Kind,
    pub(crate) group: GroupRow,
    pub(crate) epoch: Epoch,
    pub(crate) sender: Option<DeviceRow>,
    pub(crate) to: To<'a>,
    pub(crate) ttl_ms: u64,
    /// None: kept until it is acknowledged.
    pub(crate) expires: Option<Timestamp>,
    pub(crate) payload: &'a [u8],
}

/// Where an envelope was put: device and number.
pub(crate) type Places = Vec<(DeviceRow, i64)>;

struct NewRow<'a> {
    device: DeviceRow,
    seq: i64,
    envelope: i64,
    piece: Option<&'a [u8]>,
}

/// Puts parcels into the boxes, in order; wakes the streams on commit. Returns for each where it is.
pub(crate) async fn put(
    tx: &mut Tx,
    boxes: &mut Boxes,
    parcels: &[Parcel<'_>],
) -> Result<Vec<Places>, Error> {
    let mut next: i64 = sqlx::query_scalar("SELECT COALESCE(max(envelope), 0) FROM envelopes")
        .fetch_one(tx.conn())
        .await?;
    let mut envelopes = Vec::new();
    let mut rows: Vec<NewRow<'_>> = Vec::new();
    let mut places = Vec::new();
    for parcel in parcels {
        let first = rows.len();
        next += 1;
        let mut drop_in = |place: &mut Place, piece| {
            if place.since <= parcel.epoch {
                place.last += 1;
                place.touched = true;
                rows.push(NewRow { device: place.device, seq: place.last, envelope: next, piece });
            }
        };
        match &parcel.to {
            To::Everyone => boxes.0.values_mut().for_each(|place| drop_in(place, None)),
            To::Device(device) => {
                if let Some(place) = boxes.0.get_mut(device) {
                    drop_in(place, None);
                }
            }
            To::Pieces(pieces) => {
                for (device, piece) in *pieces {
                    if let Some(place) = boxes.0.get_mut(device) {
                        drop_in(place, Some(piece.0.as_slice()));
                    }
                }
            }
        }
        let put: Places = rows.iter().skip(first).map(|row| (row.device, row.seq)).collect();
        if !put.is_empty() {
            envelopes.push((next, parcel));
        }
        places.push(put);
    }
    insert_envelopes(tx.conn(), &envelopes).await?;
    insert_rows(tx.conn(), &rows).await?;
    let touched: Vec<Place> = boxes.0.values().filter(|place| place.touched).copied().collect();
    many::insert(
        tx.conn(),
        "INSERT INTO mailboxes (device, last_seq, acked_seq) ",
        &touched,
        " ON CONFLICT (device) DO UPDATE SET last_seq = excluded.last_seq",
        |values, place| {
            values.push_bind(place.device).push_bind(place.last).push_bind(0_i64);
        },
    )
    .await?;
    for place in touched {
        tx.wake(topic(place.device));
    }
    Ok(places)
}

async fn insert_envelopes(
    conn: &mut SqliteConnection,
    envelopes: &[(i64, &Parcel<'_>)],
) -> Result<(), Error> {
    many::insert(
        conn,
        "INSERT INTO envelopes (envelope, id, kind, grp, epoch, sender, recipient, ttl_ms,
            expires_ms, payload) ",
        envelopes,
        "",
        |values, (number, parcel)| {
            let recipient = match &parcel.to {
                To::Device(device) => Some(device.as_ref().to_vec()),
                To::Everyone | To::Pieces(_) => None,
            };
            values
                .push_bind(*number)
                .push_bind(parcel.id.map(|id| id.as_ref().to_vec()))
                .push_bind(i16::from(parcel.kind.number()))
                .push_bind(parcel.group)
                .push_bind(i64::from(parcel.epoch.0))
                .push_bind(parcel.sender)
                .push_bind(recipient)
                .push_bind(i64::try_from(parcel.ttl_ms).unwrap_or(i64::MAX))
                .push_bind(parcel.expires.map(ms))
                .push_bind(parcel.payload.to_vec());
        },
    )
    .await?;
    Ok(())
}

async fn insert_rows(conn: &mut SqliteConnection, rows: &[NewRow<'_>]) -> Result<(), Error> {
    many::insert(
        conn,
        "INSERT INTO mailbox (device, seq, envelope, piece) ",
        rows,
        "",
        |values, row| {
            values
                .push_bind(row.device)
                .push_bind(row.seq)
                .push_bind(row.envelope)
                .push_bind(row.piece.map(<[u8]>::to_vec));
        },
    )
    .await?;
    Ok(())
}

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
    pub(crate) ttl_ms: u64,
    pub(crate) payload: Vec<u8>,
    pub(crate) piece: Option<Vec<u8>>,
}

#[derive(sqlx::FromRow)]
struct WaitingColumns {
    seq: i64,
    id: Option<Vec<u8>>,
    kind: i64,
    group_id: Vec<u8>,
    epoch: i64,
    account: Option<String>,
    device_id: Option<Vec<u8>>,
    recipient: Option<Vec<u8>>,
    ttl_ms: i64,
    payload: Vec<u8>,
    piece: Option<Vec<u8>>,
}

impl TryFrom<WaitingColumns> for Waiting {
    type Error = Error;

    fn try_from(columns: WaitingColumns) -> Result<Self, Error> {
        let device = |bytes: &Vec<u8>| name_of!(DeviceId, bytes, "device_id");
        let sender_id = columns.device_id.as_ref().map(device).transpose()?;
        Ok(Self {
            seq: Seq(number(columns.seq, "seq")?),
            id: columns.id.map(|id| name_of!(EnvelopeId, &id, "id")).transpose()?,
            kind: Kind::from_number(number(columns.kind, "kind")?).ok_or(Error::Row("kind"))?,
            group: name_of!(GroupId, &columns.group_id, "group_id")?,
            epoch: Epoch(number(columns.epoch, "epoch")?),
            sender: columns.account.zip(sender_id),
            recipient: columns.recipient.as_ref().map(device).transpose()?,
            ttl_ms: number(columns.ttl_ms, "ttl_ms")?,
            payload: columns.payload,
            piece: columns.piece,
        })
    }
}

/// The next rows of a device after `after`, in order.
pub(crate) async fn after(
    conn: &mut SqliteConnection,
    device: DeviceRow,
    after: Seq,
    limit: u32,
) -> Result<Vec<Waiting>, Error> {
    let rows: Vec<WaitingColumns> = sqlx::query_as(
        "SELECT m.seq, e.id, e.kind, g.group_id, e.epoch, d.account, d.device_id, e.recipient,
                e.ttl_ms, e.payload, m.piece
         FROM mailbox m
         JOIN envelopes e ON e.envelope = m.envelope
         JOIN groups g ON g.grp = e.grp
         LEFT JOIN devices d ON d.device = e.sender
         WHERE m.device = $1 AND m.seq > $2 ORDER BY m.seq LIMIT $3",
    )
    .bind(device)
    .bind(i64::try_from(after.0).unwrap_or(i64::MAX))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Waiting::try_from).collect()
}

/// Up to where a device has acknowledged, and the last row that it was given.
pub(crate) async fn ends(
    conn: &mut SqliteConnection,
    device: DeviceRow,
) -> Result<(Seq, Seq), Error> {
    let ends: Option<(i64, i64)> =
        sqlx::query_as("SELECT acked_seq, last_seq FROM mailboxes WHERE device = $1")
            .bind(device)
            .fetch_optional(conn)
            .await?;
    let (acked, last) = ends.unwrap_or_default();
    Ok((Seq(number(acked, "acked_seq")?), Seq(number(last, "last_seq")?)))
}

/// Deletes a device's rows up to and with `seq`; how many there were.
pub(crate) async fn ack(
    conn: &mut SqliteConnection,
    device: DeviceRow,
    seq: Seq,
) -> Result<u64, Error> {
    let seq = i64::try_from(seq.0).unwrap_or(i64::MAX);
    // Envelopes first, while the rows still say which; those that others wait for stay.
    sqlx::query(
        "DELETE FROM envelopes WHERE envelope IN
            (SELECT envelope FROM mailbox WHERE device = $1 AND seq <= $2)
         AND NOT EXISTS (SELECT 1 FROM mailbox o
            WHERE o.envelope = envelopes.envelope AND o.device <> $1)",
    )
    .bind(device)
    .bind(seq)
    .execute(&mut *conn)
    .await?;
    let done = sqlx::query("DELETE FROM mailbox WHERE device = $1 AND seq <= $2")
        .bind(device)
        .bind(seq)
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "UPDATE mailboxes SET acked_seq = max(acked_seq, min(last_seq, $2)) WHERE device = $1",
    )
    .bind(device)
    .bind(seq)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// What was accepted from `sender` under these ids, with where it was put.
pub(crate) async fn accepted(
    conn: &mut SqliteConnection,
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
    conn: &mut SqliteConnection,
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
    pub(crate) acked: bool,
    pub(crate) expired: bool,
}

/// How far the row came that was put at this place.
pub(crate) async fn progress(
    conn: &mut SqliteConnection,
    (device, seq): (DeviceRow, i64),
) -> Result<Option<Progress>, Error> {
    let row: Option<(Vec<u8>, bool, bool)> = sqlx::query_as(
        "SELECT d.device_id, b.acked_seq >= $2,
            EXISTS (SELECT 1 FROM expired e WHERE e.device = $1 AND e.seq = $2)
         FROM devices d JOIN mailboxes b ON b.device = d.device WHERE d.device = $1",
    )
    .bind(device)
    .bind(seq)
    .fetch_optional(conn)
    .await?;
    row.map(|(id, acked, expired)| {
        Ok(Progress { device_id: name_of!(DeviceId, &id, "device_id")?, acked, expired })
    })
    .transpose()
}

/// An envelope whose time is over.
#[derive(Debug)]
pub(crate) struct Overdue {
    pub(crate) envelope: i64,
    pub(crate) id: Option<EnvelopeId>,
    pub(crate) group: GroupRow,
    pub(crate) epoch: Epoch,
    pub(crate) sender: Option<DeviceRow>,
}

#[derive(sqlx::FromRow)]
struct OverdueColumns {
    envelope: i64,
    id: Option<Vec<u8>>,
    grp: GroupRow,
    epoch: i64,
    sender: Option<DeviceRow>,
}

impl TryFrom<OverdueColumns> for Overdue {
    type Error = Error;

    fn try_from(columns: OverdueColumns) -> Result<Self, Error> {
        Ok(Self {
            envelope: columns.envelope,
            id: columns.id.map(|id| name_of!(EnvelopeId, &id, "id")).transpose()?,
            group: columns.grp,
            epoch: Epoch(number(columns.epoch, "epoch")?),
            sender: columns.sender,
        })
    }
}

/// Envelopes whose time is over, the oldest first.
pub(crate) async fn overdue(
    conn: &mut SqliteConnection,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Overdue>, Error> {
    let rows: Vec<OverdueColumns> = sqlx::query_as(
        "SELECT envelope, id, grp, epoch, sender FROM envelopes
         WHERE expires_ms <= $1 ORDER BY expires_ms LIMIT $2",
    )
    .bind(ms(now))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Overdue::try_from).collect()
}

/// Drops an envelope with the rows that wait for it, and remembers that they expired; how many.
pub(crate) async fn expire(
    conn: &mut SqliteConnection,
    envelope: i64,
    keep_until: Timestamp,
) -> Result<u64, Error> {
    let done = sqlx::query(
        "INSERT INTO expired (device, seq, keep_until_ms)
         SELECT device, seq, $2 FROM mailbox WHERE envelope = $1",
    )
    .bind(envelope)
    .bind(ms(keep_until))
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM mailbox WHERE envelope = $1")
        .bind(envelope)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM envelopes WHERE envelope = $1").bind(envelope).execute(conn).await?;
    Ok(done.rows_affected())
}

/// Forgets what was accepted, or expired, long ago; how many rows, at most `limit` of each.
pub(crate) async fn forget(
    conn: &mut SqliteConnection,
    now: Timestamp,
    limit: u32,
) -> Result<u64, Error> {
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

/// Rows that wait, of all devices.
pub(crate) async fn count(conn: &mut SqliteConnection) -> Result<u64, Error> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM mailbox").fetch_one(conn).await?;
    number(count, "count")
}

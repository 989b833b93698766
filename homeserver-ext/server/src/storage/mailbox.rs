//! The mailbox: what waits for a device, in order, until it says it has it.
//!
//! Opaque by design: nothing here can open an envelope. Every envelope has one number of the whole
//! server (`Seq`), which is its place in each mailbox, so that what a device acknowledges is one
//! number too. What is for one device has a row of `mailbox`; what is for a group is a row of
//! `broadcasts`, however many read it, and who does is said by the numbers between which a device
//! counted. The two are put together when they are read.

mod accepted;
mod before;
mod broadcasts;
mod ended;
mod fetch;
mod kept;
mod overdue;
mod parked;
mod put;
mod shares;

pub(crate) use accepted::{
    Failed, MAILBOX_FULL, Progress, accepted, forget, progress, put_accepted,
};
pub(crate) use before::{Before, read_before, select_before};
pub(crate) use broadcasts::{
    Said, groups_of, is_here, is_parked, next_said, put_op, readers, recipients, said,
};
pub(crate) use ended::{end, passed, progress_of_broadcast};
pub(crate) use fetch::{
    Ends, KEYS, Key, Waiting, ack, ack_all, ends, keys, set_sent, waiting, waiting_parked,
};
pub(crate) use kept::{
    PlaceBefore, any_waits, begin, due, keep, kept_bytes, last_of, let_go, place, read, read_again,
    read_place, select_place, set_kept,
};
pub(crate) use overdue::{Overdue, expire, overdue};
pub(crate) use parked::{
    Parkable, drop_left, expire_parked, is_left, leave_parked, let_go_taken, park, parkable,
    parked, parked_in_all, parked_of, refuse, shares_parked, take_parked,
};
pub(crate) use put::{Parcel, Places, To, put, put_at};
pub(crate) use shares::{Place, beyond, end_early, places_beyond, waits};

use causeway_store::Conn;
use std::collections::BTreeMap;

use causeway_protocol::ids::{DeviceId, Epoch, Timestamp};

use super::{DeviceRow, Error, GroupRow, many, name_of, number, time};

/// Before all groups.
pub(crate) const NO_GROUP: GroupRow = GroupRow(i64::MIN);

/// The next `count` numbers are the caller's: the first of them.
pub(crate) async fn take_numbers(conn: &mut Conn, count: usize) -> Result<i64, Error> {
    if count == 0 {
        return Ok(0);
    }
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let last: i64 = sqlx::query_scalar("UPDATE numbers SET last = last + $1 RETURNING last")
        .bind(count)
        .fetch_one(conn)
        .await?;
    Ok(last - count + 1)
}

/// The last number that was given.
pub(crate) async fn last_number(conn: &mut Conn) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("SELECT last FROM numbers").fetch_one(conn).await?)
}

/// The mailboxes that a transaction may put something into that is for one device.
#[derive(Debug, Default)]
pub(crate) struct Boxes(BTreeMap<DeviceId, (DeviceRow, Epoch)>);

impl Boxes {
    /// Whose it is, if the device has counted since that epoch or longer.
    fn at(&self, device: &DeviceId, epoch: Epoch) -> Option<DeviceRow> {
        self.0.get(device).filter(|(_, since)| *since <= epoch).map(|(row, _)| *row)
    }

    /// Whether a device has one.
    pub(crate) fn has(&self, device: &DeviceId) -> bool {
        self.0.contains_key(device)
    }

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

type BoxColumns = (Vec<u8>, DeviceRow, i64);

fn boxes(rows: Vec<BoxColumns>) -> Result<Boxes, Error> {
    rows.into_iter()
        .map(|(id, device, since)| {
            let id = name_of!(DeviceId, &id, "device_id")?;
            Ok((id, (device, Epoch(number(since, "from_epoch")?))))
        })
        .collect::<Result<_, _>>()
        .map(Boxes)
}

/// Mailboxes of those of `devices` that count now.
pub(crate) async fn boxes_among(
    conn: &mut Conn,
    group: GroupRow,
    devices: &[DeviceId],
) -> Result<Boxes, Error> {
    let ids: Vec<Vec<u8>> = devices.iter().map(|id| id.as_ref().to_vec()).collect();
    let rows = many::fetch_in(
        conn,
        "SELECT d.device_id, d.device, g.from_epoch
         FROM group_devices g
         JOIN devices d ON d.device_id = g.device_id AND d.member_id = g.member_id
         WHERE g.until_epoch IS NULL AND g.grp = $1 AND g.device_id IN (",
        group,
        &ids,
    )
    .await?;
    boxes(rows)
}

/// The mailbox of one device.
pub(crate) async fn box_of(conn: &mut Conn, device: DeviceRow) -> Result<Boxes, Error> {
    let rows = sqlx::query_as("SELECT device_id, device, 0 FROM devices WHERE device = $1");
    boxes(rows.bind(device).fetch_all(conn).await?)
}

/// Rows that wait, ops aside: a broadcast is one, whoever has not read it. What is kept for those who
/// may read it again waits for nobody.
pub(crate) async fn count(conn: &mut Conn) -> Result<u64, Error> {
    let count: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM mailbox m JOIN mailboxes p ON p.device = m.device
                WHERE m.seq > p.acked_seq)
            + (SELECT count(*) FROM broadcasts
                WHERE ended IS NULL AND sender IS NOT NULL AND read_seq IS NULL)",
    )
    .fetch_one(conn)
    .await?;
    number(count, "count")
}

/// When the oldest envelope was accepted that waits and can expire.
pub(crate) async fn oldest(conn: &mut Conn) -> Result<Option<Timestamp>, Error> {
    // Envelopes are numbered in the order in which they came: of each group and mailbox the first.
    let at: Option<i64> = sqlx::query_scalar(
        "SELECT MIN(at_ms) FROM envelopes WHERE expires_ms IS NOT NULL AND at_ms > 0
         AND envelope IN (
            SELECT MIN(seq) FROM broadcasts
            WHERE ended IS NULL AND sender IS NOT NULL AND read_seq IS NULL GROUP BY grp
            UNION ALL
            SELECT MIN(m.envelope) FROM mailbox m JOIN mailboxes p ON p.device = m.device
            JOIN envelopes o ON o.envelope = m.envelope AND o.at_ms > 0
            WHERE m.seq > p.acked_seq GROUP BY m.device)",
    )
    .fetch_one(conn)
    .await?;
    Ok(at.map(time))
}

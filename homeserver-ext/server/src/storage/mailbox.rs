//! The mailbox: what waits for a device, in order, until it says it has it.
//!
//! Opaque by design: nothing here can open an envelope. Order is per device (`Seq`), not global.
//! One envelope is kept once, however many wait for it, and goes with its last reader.

mod accepted;
mod fetch;
mod overdue;
mod put;

pub(crate) use accepted::{accepted, forget, progress, put_accepted};
pub(crate) use fetch::{Waiting, accepted_at, ack, after, ends, set_sent};
pub(crate) use overdue::{Overdue, expire, overdue};
pub(crate) use put::{Parcel, Places, To, put};

use causeway_store::Conn;
use std::collections::BTreeMap;

use causeway_protocol::ids::{DeviceId, Epoch, Timestamp};

use super::{DeviceRow, Error, GroupRow, name_of, number, time};

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
pub(crate) async fn boxes_of_group(conn: &mut Conn, group: GroupRow) -> Result<Boxes, Error> {
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
    conn: &mut Conn,
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
pub(crate) async fn box_of(conn: &mut Conn, device: DeviceRow) -> Result<Boxes, Error> {
    let rows = sqlx::query_as(
        "SELECT d.device_id, d.device, b.last_seq, 0 FROM devices d
         JOIN mailboxes b ON b.device = d.device WHERE d.device = $1",
    );
    boxes(rows.bind(device).fetch_all(conn).await?)
}

/// Rows that wait, of all devices.
pub(crate) async fn count(conn: &mut Conn) -> Result<u64, Error> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM mailbox").fetch_one(conn).await?;
    number(count, "count")
}

/// When the oldest envelope was accepted that waits and can expire.
pub(crate) async fn oldest(conn: &mut Conn) -> Result<Option<Timestamp>, Error> {
    // Envelopes are numbered in the order in which they came.
    let at: Option<i64> = sqlx::query_scalar(
        "SELECT at_ms FROM envelopes WHERE expires_ms IS NOT NULL AND at_ms > 0
         ORDER BY envelope LIMIT 1",
    )
    .fetch_optional(conn)
    .await?;
    Ok(at.map(time))
}

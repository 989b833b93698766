//! Putting down: numbers are given here.

use std::collections::BTreeMap;

use causeway_protocol::{
    envelope::{Kind, Piece},
    ids::{DeviceId, EnvelopeId, Epoch, Timestamp},
};
use causeway_store::{Conn, Script};

use super::{Boxes, take_numbers};
use crate::storage::{DeviceRow, Error, GroupRow, ms};

/// For whom an envelope is put down.
#[derive(Debug, Clone)]
pub(crate) enum To<'a> {
    /// The group as it is now, so many devices of it.
    Everyone(u32),
    /// One device, named in the envelope; nothing is put down if its box is not at hand, or it did
    /// not count at the parcel's epoch.
    Device(DeviceId),
    /// A piece for each of these, likewise.
    Pieces(&'a BTreeMap<DeviceId, Piece>),
    /// The group, by the server itself; the number is one that no device has.
    Server(DeviceRow),
}

/// An envelope to be put down.
#[derive(Debug, Clone)]
pub(crate) struct Parcel<'a> {
    /// What names it as a whole; the rows of a fan-out have ids of their own.
    pub(crate) name: EnvelopeId,
    pub(crate) kind: Kind,
    pub(crate) group: GroupRow,
    pub(crate) epoch: Epoch,
    pub(crate) sender: Option<DeviceRow>,
    pub(crate) to: To<'a>,
    /// When it was accepted.
    pub(crate) at: Timestamp,
    pub(crate) ttl_ms: u64,
    /// None: kept until it is acknowledged.
    pub(crate) expires: Option<Timestamp>,
    /// Until when its sender may ask what became of it.
    pub(crate) keep_until: Timestamp,
    pub(crate) payload: &'a [u8],
}

/// Where an envelope was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Places {
    /// Each device, and its number there.
    Devices(Vec<(DeviceRow, i64)>),
    /// One number, for so many devices.
    Group(i64, u32),
}

impl Places {
    /// How many devices it is for.
    pub(crate) fn recipients(&self) -> u32 {
        match self {
            Self::Devices(places) => u32::try_from(places.len()).unwrap_or(u32::MAX),
            Self::Group(_, recipients) => *recipients,
        }
    }
}

struct NewRow<'a> {
    device: DeviceRow,
    envelope: i64,
    piece: Option<&'a [u8]>,
}

/// Puts parcels down, in order; returns the number of the first.
pub(crate) async fn put(
    conn: &mut Conn,
    boxes: &Boxes,
    parcels: &[Parcel<'_>],
) -> Result<i64, Error> {
    let first = take_numbers(conn, parcels.len()).await?;
    let mut script = Script::default();
    put_at(&mut script, first, boxes, parcels);
    script.run(conn).await?;
    Ok(first)
}

/// Puts parcels down at the numbers from `next` on, which are the caller's. Returns for each where it
/// is.
pub(crate) fn put_at(
    script: &mut Script,
    mut next: i64,
    boxes: &Boxes,
    parcels: &[Parcel<'_>],
) -> Vec<Places> {
    let (mut envelopes, mut broadcasts) = (Vec::new(), Vec::new());
    let mut rows: Vec<NewRow<'_>> = Vec::new();
    let mut places = Vec::new();
    for parcel in parcels {
        let first = rows.len();
        let mut drop_in = |device: &DeviceId, piece| {
            if let Some(row) = boxes.at(device, parcel.epoch) {
                rows.push(NewRow { device: row, envelope: next, piece });
            }
        };
        match &parcel.to {
            To::Everyone(_) | To::Server(_) => {}
            To::Device(device) => drop_in(device, None),
            To::Pieces(pieces) => {
                pieces.iter().for_each(|(device, piece)| drop_in(device, Some(&*piece.0)));
            }
        }
        let put = match parcel.to {
            To::Everyone(recipients) if recipients > 0 => {
                broadcasts.push((next, parcel));
                Places::Group(next, recipients)
            }
            To::Server(_) => {
                broadcasts.push((next, parcel));
                Places::Group(next, 1)
            }
            _ => Places::Devices(rows.iter().skip(first).map(|row| (row.device, next)).collect()),
        };
        if put.recipients() > 0 {
            envelopes.push((next, parcel));
        }
        places.push(put);
        next += 1;
    }
    insert_envelopes(script, &envelopes);
    insert_rows(script, &rows);
    insert_broadcasts(script, &broadcasts);
    places
}

fn insert_envelopes(script: &mut Script, envelopes: &[(i64, &Parcel<'_>)]) {
    script.insert(
        "INSERT INTO envelopes (envelope, id, whole_id, kind, grp, epoch, sender, recipient, at_ms,
            ttl_ms, expires_ms, payload) ",
        envelopes,
        "",
        |values, (number, parcel)| {
            let name = parcel.name.as_ref().to_vec();
            let (id, whole_id, recipient) = match &parcel.to {
                To::Everyone(_) | To::Server(_) => (Some(name), None, None),
                To::Device(device) => (Some(name), None, Some(device.as_ref().to_vec())),
                To::Pieces(_) => (None, Some(name), None),
            };
            values
                .bind(*number)
                .bind(id)
                .bind(whole_id)
                .bind(i16::from(parcel.kind.number()))
                .bind(parcel.group)
                .bind(i64::from(parcel.epoch.0))
                .bind(parcel.sender)
                .bind(recipient)
                .bind(ms(parcel.at))
                .bind(i64::try_from(parcel.ttl_ms).unwrap_or(i64::MAX))
                .bind(parcel.expires.map(ms))
                .bind(parcel.payload.to_vec());
        },
    );
}

fn insert_rows(script: &mut Script, rows: &[NewRow<'_>]) {
    script.insert(
        "INSERT INTO mailbox (device, seq, envelope, piece) ",
        rows,
        "",
        |values, row| {
            values
                .bind(row.device)
                .bind(row.envelope)
                .bind(row.envelope)
                .bind(row.piece.map(<[u8]>::to_vec));
        },
    );
}

fn insert_broadcasts(script: &mut Script, new: &[(i64, &Parcel<'_>)]) {
    script.insert(
        "INSERT INTO broadcasts (seq, grp, epoch, sender, keep_until_ms) ",
        new,
        "",
        |values, (number, parcel)| {
            let sender = match parcel.to {
                To::Server(server) => Some(server),
                To::Everyone(_) | To::Device(_) | To::Pieces(_) => parcel.sender,
            };
            values
                .bind(*number)
                .bind(parcel.group)
                .bind(i64::from(parcel.epoch.0))
                .bind(sender)
                .bind(ms(parcel.keep_until));
        },
    );
}

//! Putting down: numbers are given here, and whoever listens is woken.

use std::collections::BTreeMap;

use causeway_protocol::{
    envelope::{Kind, Piece},
    ids::{DeviceId, EnvelopeId, Epoch, Timestamp},
};
use causeway_store::{Conn, Tx};

use super::{Boxes, Place, topic};
use crate::storage::{DeviceRow, Error, GroupRow, many, ms};

/// For whom an envelope is put down.
#[derive(Debug, Clone)]
pub(crate) enum To<'a> {
    /// Every box at hand whose device counted at the parcel's epoch.
    Everyone,
    /// One device, named in the envelope; it gets nothing if it is not among [`To::Everyone`].
    Device(DeviceId),
    /// A piece for each of these, likewise.
    Pieces(&'a BTreeMap<DeviceId, Piece>),
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

async fn insert_envelopes(conn: &mut Conn, envelopes: &[(i64, &Parcel<'_>)]) -> Result<(), Error> {
    many::insert(
        conn,
        "INSERT INTO envelopes (envelope, id, whole_id, kind, grp, epoch, sender, recipient, at_ms,
            ttl_ms, expires_ms, payload) ",
        envelopes,
        "",
        |values, (number, parcel)| {
            let name = parcel.name.as_ref().to_vec();
            let (id, whole_id, recipient) = match &parcel.to {
                To::Everyone => (Some(name), None, None),
                To::Device(device) => (Some(name), None, Some(device.as_ref().to_vec())),
                To::Pieces(_) => (None, Some(name), None),
            };
            values
                .push_bind(*number)
                .push_bind(id)
                .push_bind(whole_id)
                .push_bind(i16::from(parcel.kind.number()))
                .push_bind(parcel.group)
                .push_bind(i64::from(parcel.epoch.0))
                .push_bind(parcel.sender)
                .push_bind(recipient)
                .push_bind(ms(parcel.at))
                .push_bind(i64::try_from(parcel.ttl_ms).unwrap_or(i64::MAX))
                .push_bind(parcel.expires.map(ms))
                .push_bind(parcel.payload.to_vec());
        },
    )
    .await?;
    Ok(())
}

async fn insert_rows(conn: &mut Conn, rows: &[NewRow<'_>]) -> Result<(), Error> {
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

//! Delivery: rows out, acknowledgements in, and how far each envelope came.

use std::time::Duration;

use causeway_protocol::{
    api::{DeliveryState, MessageStatus, RecipientStatus, StreamRow},
    envelope::{Envelope, Piece, Recipient, Sender, compute_id},
    ids::{EnvelopeId, Seq, Timestamp},
};
use causeway_store::Db;

use crate::{
    figures::DELIVERY_SECONDS,
    storage::{
        self, DeviceRow,
        devices::{self, Device},
        events::{self, Event},
        mailbox::{self, Waiting},
    },
};

/// How far one of the caller's envelopes came to each recipient; `None` if it is none of its own.
/// `sent` says up to which row a device's open stream was written.
pub(crate) async fn status(
    db: &Db,
    caller: &Device,
    id: EnvelopeId,
    sent: impl Fn(DeviceRow) -> Seq,
) -> Result<Option<MessageStatus>, storage::Error> {
    let mut read = db.read().await?;
    let mut known = mailbox::accepted(read.conn(), caller.row, &[id]).await?;
    let Some(places) = known.remove(&id) else { return Ok(None) };
    let mut recipients = Vec::new();
    for place in places {
        let Some(progress) = mailbox::progress(read.conn(), place).await? else { continue };
        let is_sent =
            progress.sent || u64::try_from(place.1).is_ok_and(|seq| seq <= sent(place.0).0);
        let state = if progress.expired {
            DeliveryState::Expired
        } else if progress.acked {
            DeliveryState::Acked
        } else if is_sent {
            DeliveryState::Delivered
        } else {
            DeliveryState::Queued
        };
        recipients.push(RecipientStatus { device: progress.device_id, state, reason: None });
    }
    Ok(Some(MessageStatus { id, recipients }))
}

/// The rows of a device's mailbox after `after`, in order.
pub(crate) async fn rows(
    db: &Db,
    device: &Device,
    after: Seq,
    limit: u32,
) -> Result<Vec<StreamRow>, storage::Error> {
    let waiting = {
        let mut read = db.read().await?;
        mailbox::after(read.conn(), device.row, after, limit).await?
    };
    waiting.into_iter().map(|row| stream_row(device, row)).collect()
}

fn stream_row(device: &Device, row: Waiting) -> Result<StreamRow, storage::Error> {
    let sender = row.sender.map(|(account, device)| {
        let account = account.parse().map_err(|_| storage::Error::Row("account"))?;
        Ok::<_, storage::Error>(Sender { account, device })
    });
    let sender = sender.transpose()?;
    let piece = row.piece.map(Piece);
    let to = match row.recipient {
        Some(recipient) => Recipient::Device(recipient),
        None if piece.is_some() => Recipient::Device(device.device_id),
        None => Recipient::Broadcast,
    };
    let id = row.id.unwrap_or_else(|| {
        let from = sender.as_ref().map(|sender| &sender.device);
        compute_id(row.kind, from, &to, &row.payload, piece.as_ref())
    });
    let envelope = Envelope {
        id,
        kind: row.kind,
        group: row.group,
        epoch: row.epoch,
        sender,
        to,
        ttl_ms: row.ttl_ms,
        payload: row.payload,
        piece,
    };
    Ok(StreamRow { seq: row.seq, envelope })
}

/// The highest count that a device has posted with.
pub(crate) async fn count(db: &Db, device: &Device) -> Result<u64, storage::Error> {
    devices::count(db.read().await?.conn(), device.row).await
}

/// Up to where a device has acknowledged, and the last row that waits for it.
pub(crate) async fn ends(db: &Db, device: &Device) -> Result<(Seq, Seq), storage::Error> {
    let mut read = db.read().await?;
    mailbox::ends(read.conn(), device.row).await
}

/// A device's stream has ended, after it was written up to `sent`: what of that is not
/// acknowledged is known to have been delivered.
pub(crate) async fn ended(db: &Db, device: &Device, sent: Seq) -> Result<(), storage::Error> {
    let (known, _) = mailbox::ends(db.read().await?.conn(), device.row).await?;
    if sent <= known {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    mailbox::set_sent(tx.conn(), device.row, sent).await?;
    Ok(tx.commit().await?)
}

/// A device has everything up to and with `seq`: that is deleted.
pub(crate) async fn ack(
    db: &Db,
    now: Timestamp,
    device: &Device,
    seq: Seq,
) -> Result<(), storage::Error> {
    let mut tx = db.begin().await?;
    let accepted = mailbox::accepted_at(tx.conn(), device.row, seq).await?;
    let count = mailbox::ack(tx.conn(), device.row, seq).await?;
    events::add(tx.conn(), now, Event::MessageDelivered, count).await?;
    tx.commit().await?;
    metrics::counter!("causeway_messages_delivered_total").increment(count);
    let seconds = metrics::histogram!(DELIVERY_SECONDS);
    for at in accepted {
        seconds.record(Duration::from_millis(now.0.saturating_sub(at.0)));
    }
    Ok(())
}

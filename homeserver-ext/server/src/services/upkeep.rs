//! What is done without being asked: overdue rows go, and their senders are told.

use std::collections::BTreeMap;

use causeway_protocol::{
    envelope::{Kind, MAX_TTL_MS, Recipient, compute_id},
    ids::Timestamp,
};
use causeway_store::{Db, Tx};

use crate::{
    figures::Figures,
    storage::{
        self, DeviceRow, accounts, devices,
        events::{self, Event},
        groups, invites, keys,
        mailbox::{self, Overdue, Parcel, To},
    },
};

const DAY_MS: u64 = 86_400_000;
/// Envelopes that one transaction drops at most, so that others need not wait long.
const BATCH: u32 = 200;
/// How long a request to join waits.
const REQUEST_MS: u64 = 30 * DAY_MS;

/// Drops a batch of what is overdue, tells the senders, and forgets what nobody can ask for any
/// more. Whether there is more to do.
pub(crate) async fn purge(db: &Db, now: Timestamp) -> Result<bool, storage::Error> {
    let mut tx = db.begin().await?;
    let overdue = mailbox::overdue(tx.conn(), now, BATCH).await?;
    let mut by_sender: BTreeMap<DeviceRow, Vec<&Overdue>> = BTreeMap::new();
    let mut rows = 0;
    for envelope in &overdue {
        rows += mailbox::expire(tx.conn(), envelope.envelope, now.plus_ms(DAY_MS)).await?;
        if let Some(sender) = envelope.sender {
            by_sender.entry(sender).or_default().push(envelope);
        }
    }
    for (sender, envelopes) in by_sender {
        tell(&mut tx, now, sender, &envelopes).await?;
    }
    let forgotten = mailbox::forget(tx.conn(), now, BATCH).await?;
    devices::prune_nonces(tx.conn(), now).await?;
    keys::prune_claims(tx.conn(), now).await?;
    accounts::forget_lists(tx.conn(), now.minus_ms(accounts::FORMER_MS)).await?;
    invites::prune_requests(tx.conn(), now.minus_ms(REQUEST_MS)).await?;
    events::add(tx.conn(), now, Event::MessageExpired, rows).await?;
    events::add(tx.conn(), now, Event::MessageCleaned, overdue.len() as u64).await?;
    events::prune(tx.conn(), now).await?;
    tx.commit().await?;
    metrics::counter!("causeway_messages_expired_total").increment(rows);
    metrics::counter!("causeway_messages_cleaned_total").increment(overdue.len() as u64);
    Ok(overdue.len() >= BATCH as usize || forgotten >= u64::from(BATCH))
}

/// An `expired` row for each envelope, to its sender.
async fn tell(
    tx: &mut Tx,
    now: Timestamp,
    sender: DeviceRow,
    envelopes: &[&Overdue],
) -> Result<(), storage::Error> {
    let mut boxes = mailbox::box_of(tx.conn(), sender).await?;
    let Some(device) = boxes.devices().next().copied() else { return Ok(()) };
    let to = Recipient::Device(device);
    let parcels: Vec<Parcel<'_>> = envelopes
        .iter()
        .filter_map(|envelope| {
            let payload = envelope.name.as_ref()?.as_ref();
            Some(Parcel {
                name: compute_id(Kind::Expired, None, &to, payload, None),
                kind: Kind::Expired,
                group: envelope.group,
                epoch: envelope.epoch,
                sender: None,
                to: To::Device(device),
                at: now,
                ttl_ms: MAX_TTL_MS,
                expires: Some(now.plus_ms(MAX_TTL_MS)),
                payload,
            })
        })
        .collect();
    mailbox::put(tx, &mut boxes, &parcels).await.map(drop)
}

/// How full the server is, the size of its files aside.
pub(crate) async fn totals(db: &Db, now: Timestamp) -> Result<Figures, storage::Error> {
    let mut read = db.read().await?;
    let mailbox_rows = mailbox::count(read.conn()).await?;
    let oldest = mailbox::oldest(read.conn()).await?;
    let oldest_waiting_ms = oldest.map_or(0, |oldest| now.0.saturating_sub(oldest.0));
    let (groups, members) = groups::count(read.conn()).await?;
    Ok(Figures { mailbox_rows, oldest_waiting_ms, groups, members, ..Figures::default() })
}

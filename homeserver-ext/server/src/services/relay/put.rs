//! Envelopes that were let in, put down, and told to those who listen.

use std::collections::{BTreeMap, btree_map::Entry};

use causeway_protocol::{
    envelope::{Envelope, Kind, MAX_TTL_MS, Recipient, Submission, SubmittedTo},
    ids::{DeviceId, EnvelopeId, Epoch, Timestamp},
};
use causeway_store::{Conn, Script};

use super::named;
use crate::{
    live::{Live, News},
    storage::{
        self,
        devices::Device,
        events::{self, Event},
        groups::Group,
        mailbox::{self, Boxes, Parcel, Places, To},
        servers::{
            left,
            progress::{self, Taken},
        },
    },
};

const DAY_MS: u64 = 86_400_000;

/// Puts new envelopes down, the first at the number `first`; where, and what is to be told of it.
pub(super) async fn put(
    (conn, live): (&mut Conn, &Live),
    script: &mut Script,
    now: Timestamp,
    caller: &Device,
    group: &Group,
    (first, new): (i64, &[(EnvelopeId, &Submission)]),
) -> Result<(Vec<Places>, News), storage::Error> {
    let named: Vec<DeviceId> = new.iter().flat_map(|(_, new)| named(new)).copied().collect();
    let boxes = mailbox::boxes_among(conn, group.row, &named).await?;
    let boxes = boxes.without(&caller.device_id);
    let mut parcels = Vec::new();
    let mut counted = BTreeMap::new();
    for (name, submission) in new {
        let to = match &submission.to {
            SubmittedTo::Broadcast => {
                To::Everyone(recipients(conn, group, submission.epoch, &mut counted).await?)
            }
            SubmittedTo::Device(device) => To::Device(*device),
            SubmittedTo::Devices(pieces) => To::Pieces(pieces),
        };
        let ttl_ms = ttl_ms(submission, group);
        parcels.push(Parcel {
            name: *name,
            kind: submission.kind,
            group: group.row,
            epoch: submission.epoch,
            sender: Some(caller.row),
            to,
            at: now,
            ttl_ms: submission.ttl_ms,
            expires: Some(now.plus_ms(ttl_ms)),
            keep_until: now.plus_ms(ttl_ms + DAY_MS),
            payload: &submission.payload,
        });
    }
    let places = mailbox::put_at(script, first, &boxes, &parcels);
    let rows: Vec<_> = parcels
        .iter()
        .zip(&places)
        .map(|(parcel, places)| (parcel.name, parcel.keep_until, places.clone()))
        .collect();
    mailbox::put_accepted(script, caller.row, &rows);
    events::add(script, now, Event::MessagePublished, messages(new));
    events::add(script, now, Event::KeyDistributed, distributions(new));
    let mut news = News::default();
    for ((seq, (name, submission)), places) in (first..).zip(new).zip(&places) {
        match places {
            Places::Group(..) => {
                let envelope = || row(*name, submission, Recipient::Broadcast);
                news.broadcast(live, seq, (group.row, caller.row, now), envelope);
            }
            Places::Devices(places) if places.is_empty() => {}
            Places::Devices(_) => match &submission.to {
                SubmittedTo::Device(device) => {
                    let envelope = || row(*name, submission, Recipient::Device(*device));
                    news.own_row(live, seq, (*device, caller.row, now), envelope);
                }
                _ => own(&mut news, seq, submission, &boxes),
            },
        }
    }
    Ok((places, news))
}

/// Notes what was taken of a device of another server, by whose names that is told how far it comes, and to
/// whom it does not come.
pub(super) async fn note_taken(
    conn: &mut Conn,
    script: &mut Script,
    sender: &Device,
    (now, group): (Timestamp, &Group),
    (new, places): (&[(EnvelopeId, &Submission)], &[Places]),
) -> Result<(), storage::Error> {
    let Some(server) = progress::server_of(conn, sender.row).await? else { return Ok(()) };
    let taken = new.iter().zip(places).filter_map(|((id, submission), places)| {
        let seq = match places {
            Places::Group(seq, _) => *seq,
            Places::Devices(places) => places.first()?.1,
        };
        let keep_until = now.plus_ms(ttl_ms(submission, group) + DAY_MS);
        Some(Taken { seq, id: *id, keep_until })
    });
    let taken: Vec<_> = taken.collect();
    progress::note_taken(script, (server, group.row, sender.row), &taken);
    left::owe(conn, server, &sender.device_id, group, new).await
}

/// What is one envelope for all who read it, as they are handed it.
fn row(id: EnvelopeId, submission: &Submission, to: Recipient) -> Envelope {
    Envelope {
        id,
        kind: submission.kind,
        group: submission.group,
        epoch: submission.epoch,
        sender: Some(submission.sender.clone()),
        to,
        ttl_ms: submission.ttl_ms,
        payload: submission.payload.clone(),
        piece: None,
    }
}

/// What was put down for single devices.
fn own(news: &mut News, seq: i64, submission: &Submission, boxes: &Boxes) {
    for device in named(submission).filter(|device| boxes.has(device)) {
        news.own(seq, *device);
    }
}

/// For how many a broadcast of this epoch is; `counted` remembers it for the next one.
async fn recipients(
    conn: &mut Conn,
    group: &Group,
    epoch: Epoch,
    counted: &mut BTreeMap<Epoch, u32>,
) -> Result<u32, storage::Error> {
    Ok(match counted.entry(epoch) {
        Entry::Occupied(known) => *known.get(),
        Entry::Vacant(unknown) => *unknown.insert(mailbox::recipients(conn, group, epoch).await?),
    })
}

/// How long it is kept: what people read no longer than the group allows, whatever the header says.
fn ttl_ms(submission: &Submission, group: &Group) -> u64 {
    let most = if submission.kind.is_read() { group.ttl_s * 1_000 } else { MAX_TTL_MS };
    submission.ttl_ms.min(most)
}

fn messages(new: &[(EnvelopeId, &Submission)]) -> u64 {
    new.iter().filter(|(_, new)| new.kind.is_read()).count() as u64
}

fn distributions(new: &[(EnvelopeId, &Submission)]) -> u64 {
    new.iter().filter(|(_, new)| new.kind == Kind::KeyDistribution).count() as u64
}

pub(super) fn count(new: &[(EnvelopeId, &Submission)]) {
    metrics::counter!("causeway_messages_published_total").increment(messages(new));
    metrics::counter!("causeway_key_envelopes_relayed_total").increment(distributions(new));
}

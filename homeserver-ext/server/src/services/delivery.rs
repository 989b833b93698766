//! Delivery: rows out, acknowledgements in, and how far each envelope came.

pub(crate) mod acks;
pub(crate) mod parked;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use causeway_protocol::{
    api::{DeliveryState, MessageStatus, OwnDevice, OwnKeys, RecipientStatus, StreamRow},
    envelope::{Envelope, Piece, Recipient, Sender, compute_id},
    ids::{EnvelopeId, Seq, Timestamp},
};
use causeway_store::{Db, Script, Tx};

use crate::{
    figures::DELIVERY_SECONDS,
    live::{Frame, Listening, Live, Next},
    quota::Shares,
    storage::{
        self, DeviceRow,
        devices::{self, Device},
        keys,
        mailbox::{self, Ends, Failed, KEYS, Key, PlaceBefore, Places, Progress, Waiting},
    },
};

const DAY_MS: u64 = 86_400_000;
/// Why a message is `failed` for a device whose account left the group before it could open it.
const LEFT: &str = "left";
/// Rows that are read whole at once.
const READ: usize = 64;
/// Rows of its own that a device acknowledges at most in one transaction.
const STEP: u32 = 512;
/// With more groups than these it is quicker to look through all that was broadcast than into each.
const MANY_GROUPS: usize = 64;

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
    let mut all = Vec::new();
    match places {
        Places::Devices(places) => {
            for (device, seq) in places {
                let progress = mailbox::progress(read.conn(), (device, seq)).await?;
                all.extend(progress.map(|progress| (device, seq, progress)));
            }
        }
        Places::Group(seq, _) => {
            let of_all = mailbox::progress_of_broadcast(read.conn(), seq).await?;
            all.extend(of_all.into_iter().map(|(device, progress)| (device, seq, progress)));
        }
    }
    let mut recipients = Vec::new();
    for (device, seq, progress) in all {
        let is_sent = progress.sent || u64::try_from(seq).is_ok_and(|seq| seq <= sent(device).0);
        let state = if progress.failed.is_some() {
            DeliveryState::Failed
        } else if progress.expired {
            DeliveryState::Expired
        } else if progress.acked && progress.is_elsewhere {
            elsewhere(&progress)
        } else if progress.acked {
            DeliveryState::Acked
        } else if is_sent {
            DeliveryState::Delivered
        } else {
            DeliveryState::Queued
        };
        let reason = progress.failed.map(|failed| match failed {
            Failed::Full => mailbox::MAILBOX_FULL.to_owned(),
            Failed::Left => LEFT.to_owned(),
            Failed::There(reason) => reason,
        });
        recipients.push(RecipientStatus { device: progress.device_id, state, reason });
    }
    Ok(Some(MessageStatus { id, recipients }))
}

/// How far what its server has came at a device of another server: as that says.
const fn elsewhere(progress: &Progress) -> DeliveryState {
    match (progress.told_acked, progress.told_sent) {
        (true, _) => DeliveryState::Acked,
        (false, true) => DeliveryState::Delivered,
        (false, false) => DeliveryState::Relayed,
    }
}

/// What comes next for a device: what was found waiting for it, a little of which at a time is read
/// whole, and then what is put down while it listens.
pub(crate) struct Ahead {
    listening: Listening,
    keys: VecDeque<Key>,
    /// Up to here it was looked for, or sent.
    until: Seq,
    /// Behind that there was nothing when it was looked for.
    is_all: bool,
    /// The device is in many groups.
    is_many: bool,
}

impl Ahead {
    /// Of what comes after `acked`; listens from now on.
    pub(crate) async fn of(
        db: &Db,
        live: &Live,
        device: &Device,
        acked: Seq,
    ) -> Result<Self, storage::Error> {
        let listening = live.listen(device);
        let keys = VecDeque::new();
        let mut ahead = Self { listening, keys, until: acked, is_all: false, is_many: false };
        ahead.listen(db, device).await?;
        Ok(ahead)
    }

    /// Listens to the groups in which the device counts now. What they have had is looked for after
    /// that.
    async fn listen(&mut self, db: &Db, device: &Device) -> Result<(), storage::Error> {
        let of = mailbox::groups_of(db.read().await?.conn(), &device.of(), self.until).await?;
        self.is_many = of.iter().map(|of| of.group).collect::<BTreeSet<_>>().len() > MANY_GROUPS;
        self.listening.to(of.iter().filter_map(|of| Some((of.group, of.since()?))));
        self.is_all = false;
        Ok(())
    }

    /// Returns when there may be more.
    pub(crate) async fn changed(&self) {
        self.listening.heard().await;
    }

    /// The next rows; none: there is nothing more. They are next until they are
    /// [done with](Self::done).
    pub(crate) async fn rows(
        &mut self,
        db: &Db,
        device: &Device,
    ) -> Result<Vec<Frame>, storage::Error> {
        loop {
            if !self.keys.is_empty() || !self.is_all {
                let found = self.found(db, device).await?;
                if !found.is_empty() {
                    return Ok(found);
                }
            }
            match self.listening.next(self.until)? {
                Next::Rows(rows) => return Ok(rows),
                Next::Look(seq) => {
                    self.until = self.until.max(seq);
                    self.is_all = false;
                }
                Next::Groups => self.listen(db, device).await?,
                Next::Nothing => return Ok(Vec::new()),
            }
        }
    }

    /// The next rows of the database, at most [`READ`]; none: it has no more.
    async fn found(&mut self, db: &Db, device: &Device) -> Result<Vec<Frame>, storage::Error> {
        let mut read = db.read().await?;
        loop {
            if self.keys.is_empty() && !self.is_all {
                let (keys, until) =
                    mailbox::keys(read.conn(), device, self.until, self.is_many).await?;
                self.is_all = keys.len() < KEYS;
                (self.keys, self.until) = (keys.into(), until);
            }
            let next: Vec<Key> = self.keys.iter().take(READ).copied().collect();
            let Some(last) = next.last() else { return Ok(Vec::new()) };
            let waiting = mailbox::waiting(read.conn(), device.row, &next).await?;
            if waiting.is_empty() {
                // All of them have ended meanwhile.
                self.done(Seq(u64::try_from(last.seq).unwrap_or(0)));
                continue;
            }
            let row = |row: Waiting| {
                // Ops are read later or never, whoever made them; they say nothing about delivery.
                let at = row.at.filter(|_| row.sender.is_some());
                Frame::of(&stream_row(device, row)?, at)
            };
            return waiting.into_iter().map(row).collect();
        }
    }

    /// Everything up to and with `seq` was sent, or acknowledged.
    pub(crate) fn done(&mut self, seq: Seq) {
        let is_done = |key: &mut Key| u64::try_from(key.seq).is_ok_and(|key| key <= seq.0);
        while self.keys.pop_front_if(is_done).is_some() {}
        self.until = self.until.max(seq);
    }
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

/// The highest count that a device has posted with, and which of its keys are there.
pub(crate) async fn own(db: &Db, device: &Device) -> Result<OwnDevice, storage::Error> {
    let mut read = db.read().await?;
    let count = devices::count(read.conn(), device.row).await?;
    let fallback_key = keys::fallback(read.conn(), device.row).await?.map(|key| key.curve25519);
    let waits = mailbox::any_waits(read.conn(), device.row).await?;
    Ok(OwnDevice { count, keys: Some(OwnKeys { fallback_key }), waits: Some(waits) })
}

/// From where on a device reads, and the last number that was given.
pub(crate) async fn ends(db: &Db, device: &Device) -> Result<Ends, storage::Error> {
    let mut read = db.read().await?;
    mailbox::ends(read.conn(), device.row).await
}

/// A device's stream has ended, after it was written up to `sent`: what of that is not
/// acknowledged is known to have been delivered.
pub(crate) async fn ended(db: &Db, device: &Device, sent: Seq) -> Result<(), storage::Error> {
    let known = mailbox::ends(db.read().await?.conn(), device.row).await?;
    if sent <= known.acked {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    mailbox::set_sent(tx.conn(), device.row, sent).await?;
    Ok(tx.commit().await?)
}

/// What a device acknowledges.
#[derive(Debug)]
pub(crate) struct Ack {
    /// Up to and with this number it has everything,
    pub(crate) seq: Seq,
    /// but for what it parks.
    pub(crate) park: BTreeSet<Seq>,
    /// On its stream those are so many rows.
    pub(crate) count: u64,
    /// How long those of them took that people's devices sent.
    pub(crate) took: Vec<Duration>,
}

impl Ack {
    /// It is on disk.
    pub(crate) fn is_done(&self) {
        metrics::counter!("causeway_messages_delivered_total").increment(self.count);
        let seconds = metrics::histogram!(DELIVERY_SECONDS);
        self.took.iter().for_each(|took| seconds.record(*took));
    }
}

/// A device acknowledges: that is deleted, unless it is kept for it; whether it is.
///
/// It is done in steps, so that others need not wait long: what ends it in between leaves the first
/// of it acknowledged.
pub(crate) async fn ack(
    (db, live): (&Db, &Live),
    now: Timestamp,
    shares: &Shares,
    device: &Device,
    ack: &Ack,
) -> Result<bool, storage::Error> {
    let (is_again, is_kept) = loop {
        let mut script = Script::default();
        mailbox::select_place(&mut script, device.row, ack.seq, STEP);
        let (mut tx, rows) = db.begin_with(script).await?;
        let before = mailbox::read_place(&rows, ack.seq)?;
        let (is_all, is_kept) = (before.is_all, before.place.kept.is_some());
        let count = if is_all { ack.count } else { 0 };
        let step = (before, count, &ack.park);
        let mut script = Script::default();
        let is_again = ack_step((&mut tx, live, &mut script), now, shares, device, step).await?;
        tx.commit_with(script).await?;
        if is_all {
            break (is_again, is_kept);
        }
    };
    if !is_again {
        ack.is_done();
    }
    Ok(is_kept)
}

/// Likewise, up to so far in one transaction, and whether it had all of that before.
async fn ack_step(
    (tx, live, script): (&mut Tx, &Live, &mut Script),
    now: Timestamp,
    shares: &Shares,
    device: &Device,
    (before, count, park): (PlaceBefore, u64, &BTreeSet<Seq>),
) -> Result<bool, storage::Error> {
    let PlaceBefore { place, step: seq, may_pass, .. } = before;
    if !park.is_empty() {
        let reads = mailbox::ends(tx.conn(), device.row).await?;
        parked::park((&mut *tx, live), now, shares, device, (reads.acked, seq), park).await?;
    }
    if may_pass {
        mailbox::passed(tx.conn(), device, (place.acked, seq), now.plus_ms(DAY_MS)).await?;
    }
    let is_again = u64::try_from(place.acked).is_ok_and(|acked| seq.0 <= acked);
    let count = if is_again { 0 } else { count };
    if place.kept.is_some() {
        mailbox::read(script, device, place, (seq, count), now);
    } else {
        mailbox::ack(script, device.row, (seq, count), now);
    }
    Ok(is_again)
}

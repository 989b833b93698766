//! How far messages came at other servers: what they are told of theirs, gathered for a while and the newest
//! alone, and what they tell of ours (protocol §7.4).

use std::collections::BTreeSet;

use causeway_protocol::{
    envelope::{Kind, MAX_TTL_MS, Recipient, compute_id},
    ids::{EnvelopeId, Epoch, ItemId, Seq, Timestamp},
    link::{Item, RowProgress, RowState, Tell},
};
use causeway_store::{Conn, Db, Tx};

use super::{
    ALWAYS, AskError, Servers,
    line::{Line, Mark},
    lock, random,
    readers::MAX_READERS,
};
use crate::{
    live::{Live, News},
    storage::{
        self, DeviceRow, GroupRow,
        mailbox::{self, Parcel, To},
        servers::{self, left, progress},
    },
};

/// Devices of which one server is told at once.
const READERS: usize = 512;
/// Rows of which one server is told at once that they did not arrive: more than may be owed, so that who has
/// many of them keeps no others from hearing what was read.
const OWED: u32 = 4_097;
/// In one item.
const ROWS: usize = 200;
/// Longest reason that another server's word is kept with.
const MAX_REASON: usize = 64;

impl Servers {
    /// A device was given rows, or has some; servers whose they are hear of it in a while.
    pub(crate) fn has_read(&self, device: DeviceRow) {
        if self.patience.is_none() {
            return;
        }
        let mut readers = lock(&self.readers);
        if readers.devices.len() < MAX_READERS {
            readers.devices.insert(device);
        }
        drop(readers);
        self.tell_in_a_while();
    }

    /// There may be something to be told.
    pub(crate) fn tell_in_a_while(&self) {
        let mut readers = lock(&self.readers);
        if readers.due_ms.is_none() {
            readers.due_ms = Some(self.now_ms() + self.gathered_ms());
            drop(readers);
            self.news.notify_one();
        }
    }

    pub(super) fn gathered_ms(&self) -> u64 {
        u64::try_from(self.gathered.as_millis()).unwrap_or(u64::MAX)
    }

    /// When there is something to be told.
    pub(super) fn telling_due_ms(&self) -> Option<u64> {
        lock(&self.readers).due_ms
    }

    /// The devices that have read, where it is time to tell.
    pub(super) fn due_readers(&self) -> BTreeSet<DeviceRow> {
        let mut readers = lock(&self.readers);
        if readers.due_ms.is_none_or(|due| due > self.now_ms()) {
            return BTreeSet::new();
        }
        readers.due_ms = None;
        std::mem::take(&mut readers.devices)
    }

    /// There is more to be told than went.
    fn tell_again(&self) {
        let due = self.now_ms() + self.gathered_ms();
        lock(&self.readers).due_ms.get_or_insert(due);
    }

    /// A server may have been put back: it is told of all anew.
    pub(super) async fn begin_telling(
        &self,
        conn: &mut Conn,
        server: i64,
        line: &mut Line,
    ) -> Result<(), storage::Error> {
        line.telling.begin(progress::readers(conn, server, MAX_READERS).await?);
        self.tell_again();
        Ok(())
    }

    /// Puts on its way how far what a server sent came, as far as it does not know. `sent` says up to which row a
    /// device's open stream was written.
    pub(super) async fn tell_progress(
        &self,
        (db, now): (&Db, Timestamp),
        server: i64,
        line: &mut Line,
        (readers, sent): (&BTreeSet<DeviceRow>, &(impl Fn(DeviceRow) -> Seq + Sync)),
    ) -> Result<(), AskError> {
        line.telling.wait(readers);
        if line.telling.is_out || self.now_ms() < line.telling.next_ms {
            if !line.telling.readers.is_empty() && !line.telling.is_out {
                self.tell_again();
            }
            return Ok(());
        }
        line.telling.next_ms = self.now_ms() + self.gathered_ms();
        let mut read = db.read().await.map_err(storage::Error::from)?;
        let mut rows = Vec::new();
        let mut told = Vec::new();
        for _ in 0..READERS {
            let Some(device) = line.telling.readers.pop_first() else { break };
            let known = line.telling.told.get(&device).copied().unwrap_or_default();
            let up_to = i64::try_from(sent(device).0).unwrap_or(i64::MAX);
            let news = news(read.conn(), server, device, (up_to, known), &mut rows).await?;
            told.push((device, news));
        }
        // Read behind it, and told before it: of what was read nothing ends any more.
        let (owed, until) = progress::owed(read.conn(), server, OWED).await?;
        drop(read);
        let is_all = owed.len() < OWED as usize;
        if !is_all {
            line.telling.readers.extend(told.drain(..).map(|(device, _)| device));
            rows.clear();
        }
        rows.splice(..0, owed);
        let chunks = rows.chunks(ROWS).count();
        for (nth, some) in rows.chunks(ROWS).enumerate() {
            let tell =
                Item::Tell(ItemId::new(random()?), Tell::Progress(Vec::new(), some.to_vec()));
            let mark = (nth + 1 == chunks).then_some(Mark::Progress(until));
            if !line.put_marked(&tell, now, ALWAYS, mark) {
                line.telling.readers.extend(told.iter().map(|(device, _)| *device));
                self.tell_again();
                return Ok(());
            }
        }
        line.telling.is_out = chunks > 0;
        if line.telling.told.len() > MAX_READERS {
            line.telling.told.clear();
        }
        line.telling.told.extend(told);
        if !line.telling.readers.is_empty() || !is_all {
            self.tell_again();
        }
        Ok(())
    }

    /// Has `from` told that what a device of its sent is not put down here, and why.
    pub(crate) async fn tell_refusal(
        &self,
        db: &Db,
        (from, group): (&str, causeway_protocol::ids::GroupId),
        (sender, id): (&causeway_protocol::ids::DeviceId, EnvelopeId),
        reason: &str,
    ) -> Result<(), storage::Error> {
        let mut tx = db.begin_growing().await?;
        let server = servers::row(tx.conn(), from).await?;
        let n = mailbox::take_numbers(tx.conn(), 1).await?;
        let what = (sender, id);
        progress::owe_refusal(tx.conn(), server, (n, group), what, reason).await?;
        tx.commit().await?;
        self.tell_again();
        self.news.notify_one();
        Ok(())
    }
}

/// How far a device has read of what a server sent, where that is further than it was told; as numbers here.
async fn news(
    conn: &mut Conn,
    server: i64,
    device: DeviceRow,
    (up_to, known): (i64, (i64, i64)),
    rows: &mut Vec<RowProgress>,
) -> Result<(i64, i64), storage::Error> {
    let Some(reader) = progress::reader(conn, server, device).await? else { return Ok(known) };
    let mut told = known;
    let given = reader.sent.max(up_to);
    let all = [(reader.acked, RowState::Acked), (given, RowState::Delivered)];
    for (until, state) in all {
        let last = progress::last_taken(conn, server, &reader, until).await?;
        let Some((seq, sender, id)) = last else { continue };
        let is_known = match state {
            RowState::Acked => seq <= told.1,
            _ => seq <= told.0.max(told.1),
        };
        if is_known {
            continue;
        }
        let is_acked = state == RowState::Acked;
        told = if is_acked { (told.0, seq) } else { (seq, told.1) };
        rows.push(RowProgress {
            id,
            sender: Some(sender),
            group: None,
            device: Some(reader.device_id),
            state,
            reason: None,
        });
    }
    Ok(told)
}

/// Takes in how far another server says that what was sent from here came: of its own devices alone. How
/// often it takes back what it said before, which does not count.
pub(crate) async fn hear(
    (db, live): (&Db, &Live),
    now: Timestamp,
    from: &str,
    rows: Vec<RowProgress>,
) -> Result<u32, storage::Error> {
    let mut taken_back = 0;
    let mut tx = db.begin().await?;
    let server = servers::row(tx.conn(), from).await?;
    // What ended counts before what was read, in whichever order they stand.
    let (ends, reads): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| matches!(row.state, RowState::Expired | RowState::Failed));
    for row in ends.into_iter().chain(reads) {
        let Some(sender) = row.sender else { continue };
        let Some(sent) = progress::sent(tx.conn(), server, &sender, row.id).await? else {
            continue;
        };
        match row.state {
            RowState::Delivered | RowState::Acked => {
                let Some(device) = &row.device else { continue };
                let seq = match &sent.places {
                    mailbox::Places::Group(seq, _) => Some(*seq),
                    mailbox::Places::Devices(places) => places.first().map(|(_, seq)| *seq),
                };
                let Some(seq) = seq else { continue };
                let is_acked = row.state == RowState::Acked;
                progress::has_read(tx.conn(), server, device, (seq, is_acked)).await?;
            }
            RowState::Expired | RowState::Failed => {
                taken_back += ended((&mut tx, live), now, server, (&sent, &row)).await?;
            }
        }
    }
    tx.commit().await?;
    Ok(taken_back)
}

/// What did not come to devices of the server: the status says why, and the sending device is told, once.
/// For how many of them it had said otherwise.
async fn ended(
    (tx, live): (&mut Tx, &Live),
    now: Timestamp,
    server: i64,
    (sent, row): (&progress::Sent, &RowProgress),
) -> Result<u32, storage::Error> {
    let all = progress::recipients(tx.conn(), server, sent, None).await?;
    let was_told = progress::has_ended(tx.conn(), &all).await?;
    let its = match &row.device {
        Some(device) => progress::recipients(tx.conn(), server, sent, Some(device)).await?,
        None => all,
    };
    let reason = match row.state {
        RowState::Failed => Some(reason(row.reason.as_deref())),
        _ => None,
    };
    let (mut is_new, mut taken_back) = (false, 0);
    for place in its {
        let reason = reason.as_deref();
        let Some(known) = mailbox::progress(tx.conn(), place).await? else { continue };
        if known.failed.is_some() || known.expired {
            continue;
        }
        if may_end((known.told_sent, known.told_acked), reason) {
            is_new |= progress::ended(tx.conn(), place, sent.keep_until_ms, reason).await?;
        } else {
            taken_back += 1;
        }
    }
    // Nobody misses it who was taken out.
    let is_missed = reason.as_deref() != Some(left::LEFT);
    let Some(group) = row.group.filter(|_| is_new && is_missed && !was_told) else {
        return Ok(taken_back);
    };
    if let Some(group) = progress::group_of(tx.conn(), group, sent.sender).await? {
        tell_sender((tx, live), now, group, sent.sender, sent.id).await?;
    }
    Ok(taken_back)
}

/// Whether a row may end at a device, for this reason or because its time is over, whose server has said that
/// it was given the row, and that it has it. No state goes back: who has it has it, and who was given it may
/// not take it in time, or not have room for it.
fn may_end((was_sent, is_acked): (bool, bool), reason: Option<&str>) -> bool {
    !is_acked && (!was_sent || reason.is_none_or(|reason| reason == mailbox::MAILBOX_FULL))
}

/// Another server's words, as far as they are fit to be shown.
fn reason(said: Option<&str>) -> String {
    let is_fit = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    let fit: String = said.unwrap_or_default().chars().filter(is_fit).take(MAX_REASON).collect();
    if fit.is_empty() { "refused".to_owned() } else { fit }
}

/// A row for the sending device, by which it learns that its envelope did not come to all.
async fn tell_sender(
    (tx, live): (&mut Tx, &Live),
    now: Timestamp,
    (group, epoch): (GroupRow, i64),
    sender: DeviceRow,
    id: EnvelopeId,
) -> Result<(), storage::Error> {
    let boxes = mailbox::box_of(tx.conn(), sender).await?;
    let Some(device) = boxes.devices().next().copied() else { return Ok(()) };
    let payload = id.as_ref();
    let parcel = Parcel {
        name: compute_id(Kind::Expired, None, &Recipient::Device(device), payload, None),
        kind: Kind::Expired,
        group,
        epoch: Epoch(u32::try_from(epoch).unwrap_or(0)),
        sender: None,
        to: To::Device(device),
        at: now,
        ttl_ms: MAX_TTL_MS,
        expires: Some(now.plus_ms(MAX_TTL_MS)),
        keep_until: now.plus_ms(MAX_TTL_MS),
        payload,
    };
    let first = mailbox::put(tx.conn(), &boxes, &[parcel]).await?;
    let mut news = News::default();
    news.own(first, device);
    live.tell(tx, news);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::may_end;

    #[test]
    fn what_a_device_was_given_or_has_does_not_go_back() {
        let (relayed, delivered, acked) = ((false, false), (true, false), (true, true));
        let (expired, full, refused) = (None, Some("mailbox_full"), Some("removed"));
        for (is, becomes, may) in [
            (relayed, expired, true),
            (relayed, full, true),
            (relayed, refused, true),
            (relayed, Some("left"), true),
            (delivered, expired, true),
            (delivered, full, true),
            (delivered, refused, false),
            (delivered, Some("left"), false),
            (acked, expired, false),
            (acked, full, false),
            (acked, refused, false),
            // What it has it was given, though its server did not say that first.
            ((false, true), expired, false),
            ((false, true), refused, false),
        ] {
            assert_eq!(may_end(is, becomes), may, "{is:?} {becomes:?}");
        }
    }
}

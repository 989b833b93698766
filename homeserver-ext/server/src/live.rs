//! What was put down last, for the streams that are open: a row goes from the commit to all who read
//! it, written as a frame once, and nobody looks it up.
//!
//! The database is the truth. What comes here comes in the order of commits, which is that of the
//! numbers; a stream that was told of all since it last looked has all. Where it cannot be told of a
//! row it is told to look: a row that is for it alone, an op, more than may be held here.

mod feed;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::extract::ws::Utf8Bytes;
use causeway_protocol::{
    api::StreamRow,
    device::DeviceOf,
    envelope::Envelope,
    ids::{DeviceId, Epoch, Seq, Timestamp},
};
use causeway_store::Tx;
use tokio::sync::{Notify, watch};

use crate::storage::{self, DeviceRow, GroupRow, devices::Device};

pub(crate) use feed::{Feed, Watching};

/// Rows that wait for one stream at most, and bytes of them. Whoever reads slowly keeps no more than
/// this, until it is told to come back.
const MAX_ROWS: usize = 64;
const MAX_BYTES: usize = 128 << 10;
/// Bytes that wait for all streams together: a row that waits for many counts once.
const MAX_HELD: usize = 16 << 20;
/// Calls whose rooms are to be looked into.
const MAX_HEARD: usize = 4_096;
/// Of a row, beside its payload and what that is in a frame.
const OVERHEAD: usize = 2_048;

/// A row as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) seq: Seq,
    /// When it was accepted, if a person's device sent it.
    pub(crate) at: Option<Timestamp>,
    pub(crate) text: Utf8Bytes,
}

impl Frame {
    /// The frame of a row.
    pub(crate) fn of(row: &StreamRow, at: Option<Timestamp>) -> Result<Self, storage::Error> {
        let text = serde_json::to_string(row).map_err(|_| storage::Error::Row("envelope"))?;
        Ok(Self { seq: row.seq, at, text: text.into() })
    }
}

/// A row that was just put down, for a group or for one device.
#[derive(Debug)]
struct Row {
    says: StreamRow,
    sender: DeviceRow,
    at: Timestamp,
    /// Made when the first stream wants it.
    frame: OnceLock<Frame>,
    bytes: usize,
    held: Arc<AtomicUsize>,
}

impl Row {
    fn frame(&self) -> Result<Frame, storage::Error> {
        if let Some(frame) = self.frame.get() {
            return Ok(frame.clone());
        }
        let frame = Frame::of(&self.says, Some(self.at))?;
        Ok(self.frame.get_or_init(|| frame).clone())
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Who listens. A clone is another handle of the same.
#[derive(Clone, Default)]
pub(crate) struct Live {
    ears: Arc<Mutex<Ears>>,
    held: Arc<AtomicUsize>,
    /// Changes with everything that is put down.
    moved: watch::Sender<()>,
    /// Those who watch events instead.
    pub(crate) feed: Feed,
    calls: Arc<Notify>,
    rooms: Arc<Rooms>,
}

/// Calls of whose rooms something was heard.
#[derive(Default)]
struct Rooms {
    heard: Mutex<BTreeSet<i64>>,
    told: Notify,
}

#[derive(Default)]
struct Ears {
    next: u64,
    by_device: HashMap<DeviceId, BTreeMap<u64, Arc<Ear>>>,
    by_group: HashMap<GroupRow, BTreeMap<u64, Reader>>,
}

/// A device that counts in a group since this epoch.
struct Reader {
    ear: Arc<Ear>,
    since: Epoch,
}

/// What waits for a stream.
struct Ear {
    device: DeviceRow,
    waiting: Mutex<Waiting>,
    heard: Notify,
}

#[derive(Default)]
struct Waiting {
    rows: VecDeque<Arc<Row>>,
    bytes: usize,
    /// From this number on there may be rows that are not here; until it has looked, none come.
    missed: Option<i64>,
    /// The groups in which the device counts are others.
    is_regrouped: bool,
}

/// What a transaction puts down, in the order of its numbers.
#[derive(Default)]
pub(crate) struct News {
    puts: Vec<(i64, Put)>,
    /// How many of them are for groups.
    said: usize,
}

enum Put {
    /// For the group; the row, unless it is to be looked for.
    Broadcast(GroupRow, Option<Arc<Row>>),
    /// For one device alone, likewise.
    Own(DeviceId, Option<Arc<Row>>),
    /// For the group, and those of whom it says that they come or go.
    Op(GroupRow, Vec<DeviceOf>),
}

impl News {
    /// For a group, by a device of it.
    pub(crate) fn broadcast(
        &mut self,
        live: &Live,
        seq: i64,
        (group, sender, at): (GroupRow, DeviceRow, Timestamp),
        envelope: impl FnOnce() -> Envelope,
    ) {
        // Nobody would take more.
        let is_wanted = self.said < MAX_ROWS && live.is_heard(group);
        let row = is_wanted.then(|| live.row(seq, (sender, at), envelope())).flatten();
        self.said += 1;
        self.puts.push((seq, Put::Broadcast(group, row)));
    }

    /// For one device alone, which looks for it.
    pub(crate) fn own(&mut self, seq: i64, device: DeviceId) {
        self.puts.push((seq, Put::Own(device, None)));
    }

    /// For one device alone, by another.
    pub(crate) fn own_row(
        &mut self,
        live: &Live,
        seq: i64,
        (device, sender, at): (DeviceId, DeviceRow, Timestamp),
        envelope: impl FnOnce() -> Envelope,
    ) {
        let is_wanted = live.ears().by_device.contains_key(&device);
        let row = is_wanted.then(|| live.row(seq, (sender, at), envelope())).flatten();
        self.puts.push((seq, Put::Own(device, row)));
    }

    /// An op, and who comes or goes by it.
    pub(crate) fn op(&mut self, seq: i64, group: GroupRow, changed: Vec<DeviceOf>) {
        self.puts.push((seq, Put::Op(group, changed)));
    }
}

impl Live {
    /// Tells the streams when `tx` is committed.
    pub(crate) fn tell(&self, tx: &mut Tx, news: News) {
        if news.puts.is_empty() {
            return;
        }
        let live = self.clone();
        tx.once_committed(move || {
            live.ears().tell(&news);
            live.moved.send_replace(());
        });
    }

    /// Changes whenever anything was put down.
    pub(crate) fn moved(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }

    /// A call is another when `tx` is committed: what is due in it may be due sooner.
    pub(crate) fn call_moved(&self, tx: &mut Tx, call: i64) {
        let live = self.clone();
        tx.once_committed(move || {
            live.calls.notify_one();
            live.room_moved(call);
        });
    }

    /// A call's room is to be looked into.
    pub(crate) fn room_moved(&self, call: i64) {
        let mut heard = self.rooms.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(call);
        // Each is looked into anyhow, and soon.
        if heard.len() > MAX_HEARD {
            heard.pop_first();
        }
        drop(heard);
        self.rooms.told.notify_one();
    }

    /// Returns when there is a room to be looked into.
    pub(crate) async fn rooms_moved(&self) {
        self.rooms.told.notified().await;
    }

    /// Calls whose rooms are to be looked into since the last time.
    pub(crate) fn rooms_heard(&self) -> BTreeSet<i64> {
        std::mem::take(&mut *self.rooms.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns when a call has changed since the last time.
    pub(crate) async fn calls_moved(&self) {
        self.calls.notified().await;
    }

    /// Listens for a device from now on; it counts in no group yet.
    pub(crate) fn listen(&self, device: &Device) -> Listening {
        let ear =
            Arc::new(Ear { device: device.row, waiting: Mutex::default(), heard: Notify::new() });
        let mut ears = self.ears();
        ears.next += 1;
        let number = ears.next;
        let of_device = ears.by_device.entry(device.device_id).or_default();
        of_device.insert(number, Arc::clone(&ear));
        drop(ears);
        Listening { live: self.clone(), number, device: device.device_id, groups: Vec::new(), ear }
    }

    fn ears(&self) -> MutexGuard<'_, Ears> {
        self.ears.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_heard(&self, group: GroupRow) -> bool {
        self.ears().by_group.contains_key(&group)
    }

    /// `None` where too much is held.
    fn row(
        &self,
        seq: i64,
        (sender, at): (DeviceRow, Timestamp),
        envelope: Envelope,
    ) -> Option<Arc<Row>> {
        let bytes = envelope.payload.len().saturating_mul(7) / 3 + OVERHEAD;
        let held = Arc::clone(&self.held);
        let before = held.fetch_add(bytes, Ordering::Relaxed);
        let says = StreamRow { seq: Seq(u64::try_from(seq).unwrap_or(0)), envelope };
        let row = Row { says, sender, at, frame: OnceLock::new(), bytes, held };
        (before + bytes <= MAX_HELD).then(|| Arc::new(row))
    }
}

impl Ears {
    fn tell(&self, news: &News) {
        let readers = |group| self.by_group.get(group).into_iter().flat_map(BTreeMap::values);
        let of = |device| self.by_device.get(device).into_iter().flat_map(BTreeMap::values);
        for (seq, put) in &news.puts {
            match put {
                Put::Broadcast(group, Some(row)) => {
                    let reads = |reader: &&Reader| {
                        row.says.envelope.epoch >= reader.since && row.sender != reader.ear.device
                    };
                    readers(group).filter(reads).for_each(|reader| reader.ear.push(*seq, row));
                }
                Put::Broadcast(group, None) => {
                    readers(group).for_each(|reader| reader.ear.miss(*seq, false));
                }
                Put::Own(device, Some(row)) => of(device).for_each(|ear| ear.push(*seq, row)),
                Put::Own(device, None) => of(device).for_each(|ear| ear.miss(*seq, false)),
                Put::Op(group, changed) => {
                    readers(group).for_each(|reader| reader.ear.miss(*seq, false));
                    let changed = changed.iter().flat_map(|device| of(&device.device_id));
                    changed.for_each(|ear| ear.miss(*seq, true));
                }
            }
        }
    }
}

impl Ear {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, seq: i64, row: &Arc<Row>) {
        let mut waiting = self.waiting();
        if waiting.missed.is_some() {
            return;
        }
        let is_first = waiting.rows.is_empty();
        // One that is large by itself goes alone.
        let fits = waiting.rows.len() < MAX_ROWS && waiting.bytes + row.bytes <= MAX_BYTES;
        if is_first || fits {
            waiting.bytes += row.bytes;
            waiting.rows.push_back(Arc::clone(row));
        } else {
            waiting.missed = Some(seq);
        }
        drop(waiting);
        // Whoever takes one takes all.
        if is_first {
            self.heard.notify_one();
        }
    }

    fn miss(&self, seq: i64, is_regrouped: bool) {
        let mut waiting = self.waiting();
        waiting.missed.get_or_insert(seq);
        waiting.is_regrouped |= is_regrouped;
        drop(waiting);
        self.heard.notify_one();
    }
}

/// A stream that listens, until it is dropped.
pub(crate) struct Listening {
    live: Live,
    number: u64,
    device: DeviceId,
    groups: Vec<GroupRow>,
    ear: Arc<Ear>,
}

/// What comes next on a stream.
pub(crate) enum Next {
    /// These rows.
    Rows(Vec<Frame>),
    /// What is to be looked for in the database behind this number.
    Look(Seq),
    /// The device counts in other groups: [`Listening::to`] those, then again.
    Groups,
    /// Nothing, until something is [heard](Listening::heard).
    Nothing,
}

impl Listening {
    /// Listens to these groups, in which the device counts since these epochs. What they have from
    /// before is to be looked for after that.
    pub(crate) fn to(&mut self, groups: impl IntoIterator<Item = (GroupRow, Epoch)>) {
        let mut ears = self.live.ears();
        ears.leave(self.number, &self.groups);
        self.groups.clear();
        for (group, since) in groups {
            let reader = Reader { ear: Arc::clone(&self.ear), since };
            ears.by_group.entry(group).or_default().insert(self.number, reader);
            self.groups.push(group);
        }
    }

    /// What comes behind `after`, up to which the device was sent everything.
    pub(crate) fn next(&self, after: Seq) -> Result<Next, storage::Error> {
        let mut waiting = self.ear.waiting();
        while let Some(row) = waiting.rows.pop_front_if(|row| row.says.seq <= after) {
            waiting.bytes -= row.bytes;
        }
        if !waiting.rows.is_empty() {
            let rows: Vec<_> = waiting.rows.iter().cloned().collect();
            drop(waiting);
            let frames = rows.iter().map(|row| row.frame()).collect::<Result<_, _>>()?;
            return Ok(Next::Rows(frames));
        }
        if std::mem::take(&mut waiting.is_regrouped) {
            return Ok(Next::Groups);
        }
        Ok(match waiting.missed.take() {
            Some(seq) => Next::Look(Seq(u64::try_from(seq - 1).unwrap_or(0))),
            None => Next::Nothing,
        })
    }

    /// Returns when something has come since the last time.
    pub(crate) async fn heard(&self) {
        self.ear.heard.notified().await;
    }
}

impl Ears {
    fn leave(&mut self, number: u64, groups: &[GroupRow]) {
        for group in groups {
            if let Some(readers) = self.by_group.get_mut(group) {
                readers.remove(&number);
                if readers.is_empty() {
                    self.by_group.remove(group);
                }
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut ears = self.live.ears();
        ears.leave(self.number, &self.groups);
        if let Some(of_device) = ears.by_device.get_mut(&self.device) {
            of_device.remove(&self.number);
            if of_device.is_empty() {
                ears.by_device.remove(&self.device);
            }
        }
    }
}

//! The peer's direction of a link: which frame is taken, which waits, which is answered how.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use crate::ids::ServerLinkId;

use super::frame::{Ack, Frame};
use super::given::{Gives, Had};
use super::outgoing::{WINDOW_BYTES, WINDOW_FRAMES};

/// Most bytes of one peer's frames that wait.
pub(super) const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;

/// How many replaced links are remembered.
const FORMER: usize = 8;

/// Most links without a beginning that are waited for at once; the oldest gives way.
const UNKNOWN: usize = 8;

const BEGINNING_MS: u64 = 30_000;
/// How long what came before its turn waits while nothing is taken; then it is dropped, and comes again.
const STILL_MS: u64 = 120_000;
const RESET_PAUSE_MS: u64 = 10_000;
const ACK_MS: u64 = 1_000;

/// What is stored of a peer's direction, with what was taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// Its present link, and the last frame of it that was taken.
    pub present: Option<Ack>,
    /// The last eight links before, newest last.
    pub former: VecDeque<ServerLinkId>,
    /// What was taken of its stream, over all its links.
    pub had: Had,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is of the present link and has no items.
    Bare,
    /// It waits for its turn, which may have come.
    Waits,
    /// It was taken before, or waits already; acknowledged again.
    Repeated,
    /// No room for it; it will come again.
    Dropped,
    /// Of a link that was replaced.
    Former,
    /// Of a link whose beginning has not come.
    Unknown,
}

#[derive(Debug, Clone)]
struct Held {
    /// As JSON: parsed, `{"":0}` takes a hundred times what is counted.
    items: Box<[u8]>,
    gives: Option<Box<Gives>>,
    bytes: usize,
}

/// What comes of a peer; it holds what waits, within bounds.
#[derive(Debug, Clone, Default)]
pub(super) struct Incoming {
    place: Place,
    waiting: BTreeMap<(ServerLinkId, u64), Held>,
    waiting_bytes: usize,
    /// Where its link stands while something waits, and since when.
    still: Option<(Option<Ack>, u64)>,
    /// It stood for too long: until something is taken nothing is held ahead of its turn.
    is_late: bool,
    /// Frames that were dropped for that.
    dropped: usize,
    /// Links whose beginning is missing, and since when; oldest first.
    unknown: VecDeque<(ServerLinkId, u64)>,
    reset: Option<ServerLinkId>,
    reset_sent_ms: Option<u64>,
    /// Since when a frame has not been answered; how many frames and bytes have not.
    unanswered: Option<(u64, usize, usize)>,
}

impl Incoming {
    pub(super) fn new(place: Place) -> Self {
        Self { place, ..Self::default() }
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    pub(super) const fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether this frame's link begins with it.
    pub(super) fn begins(&self, frame: &Frame) -> bool {
        frame.seq <= 1 && !self.is_present(frame.link) && !self.is_former(frame.link)
    }

    fn is_present(&self, link: ServerLinkId) -> bool {
        self.place.present.is_some_and(|present| present.link == link)
    }

    fn is_former(&self, link: ServerLinkId) -> bool {
        self.place.former.contains(&link)
    }

    /// Takes a frame of `bytes` in; `room` is what all peers together leave of the bytes that wait.
    pub(super) fn receive(&mut self, frame: Frame, bytes: usize, now: u64, room: usize) -> Fate {
        let fate = self.take_in(frame, bytes, now, room);
        self.watch(now);
        fate
    }

    fn take_in(&mut self, frame: Frame, bytes: usize, now: u64, room: usize) -> Fate {
        if self.is_former(frame.link) {
            self.reset = Some(frame.link);
            return Fate::Former;
        }
        if self.begins(&frame) {
            self.begin(frame.link);
        }
        let Some(present) = self.place.present.filter(|present| present.link == frame.link) else {
            self.miss(frame.link, now);
            self.hold(frame, bytes, 0, room);
            return Fate::Unknown;
        };
        if frame.items.is_empty() {
            return Fate::Bare;
        }
        let (since, frames, sum) = self.unanswered.unwrap_or((now, 0, 0));
        self.unanswered = Some((since, frames + 1, sum + bytes));
        if frame.seq <= present.seq || self.waiting.contains_key(&(frame.link, frame.seq)) {
            return Fate::Repeated;
        }
        if self.hold(frame, bytes, present.seq, room) { Fate::Waits } else { Fate::Dropped }
    }

    /// A link begins, in place of the one before.
    fn begin(&mut self, link: ServerLinkId) {
        if let Some(before) = self.place.present.replace(Ack { link, seq: 0 }) {
            self.place.former.push_back(before.link);
            if self.place.former.len() > FORMER {
                self.place.former.pop_front();
            }
            self.forget(before.link);
        }
        self.unknown.retain(|(unknown, _)| *unknown != link);
        self.unanswered = None;
    }

    fn miss(&mut self, link: ServerLinkId, now: u64) {
        if self.unknown.iter().all(|(unknown, _)| *unknown != link) {
            self.unknown.push_back((link, now));
        }
        if self.unknown.len() > UNKNOWN
            && let Some((oldest, _)) = self.unknown.pop_front()
        {
            self.forget(oldest);
        }
    }

    /// Holds a frame after `taken`. Its turn is always room enough; nobody honest is further ahead
    /// than a window.
    fn hold(&mut self, frame: Frame, bytes: usize, taken: u64, room: usize) -> bool {
        let key = (frame.link, frame.seq);
        let is_next = self.is_present(frame.link) && frame.seq == taken + 1;
        let is_near = frame.seq <= taken.saturating_add(WINDOW_FRAMES as u64);
        let fits = !self.is_late
            && self.waiting.len() < WINDOW_FRAMES
            && self.waiting_bytes + bytes <= MAX_WAITING_BYTES
            && bytes <= room;
        let held = !frame.items.is_empty() && is_near && (is_next || fits);
        if held && !self.waiting.contains_key(&key) {
            let Ok(items) = serde_json::to_vec(&frame.items) else { return false };
            let items = items.into_boxed_slice();
            self.waiting.insert(key, Held { items, gives: frame.gives, bytes });
            self.waiting_bytes += bytes;
        }
        held
    }

    fn forget(&mut self, link: ServerLinkId) {
        self.waiting.retain(|(held, _), _| *held != link);
        self.waiting_bytes = self.waiting.values().map(|held| held.bytes).sum();
    }

    /// The items of the frame whose turn it is. One before which something of its stream is missing is not
    /// taken: the peer reads what is here, and gives that first, in a new link.
    pub(super) fn next(&self) -> Option<Vec<Value>> {
        let present = self.place.present?;
        let held = self.waiting.get(&(present.link, present.seq + 1))?;
        let reaches = held.gives.as_ref().is_none_or(|gives| self.place.had.reaches(gives));
        if reaches { serde_json::from_slice(&held.items).ok() } else { None }
    }

    /// What the frame whose turn it is gives.
    pub(super) fn next_gives(&self) -> Option<&Gives> {
        let present = self.place.present?;
        self.waiting.get(&(present.link, present.seq + 1))?.gives.as_deref()
    }

    /// That frame is committed.
    pub(super) fn committed(&mut self) {
        let Some(present) = &mut self.place.present else { return };
        if let Some(held) = self.waiting.remove(&(present.link, present.seq + 1)) {
            present.seq += 1;
            self.waiting_bytes -= held.bytes;
            self.is_late = false;
            if let Some(gives) = &held.gives {
                self.place.had.advance(gives);
            }
        }
    }

    /// Gives up links whose beginning has been missing for 30 s.
    pub(super) fn give_up(&mut self, now: u64) {
        while let Some((link, _)) =
            self.unknown.pop_front_if(|(_, since)| since.saturating_add(BEGINNING_MS) <= now)
        {
            self.reset = Some(link);
            self.forget(link);
        }
        self.watch(now);
        if self.still_until().is_some_and(|until| until <= now) {
            let next = self.place.present.map(|present| (present.link, present.seq + 1));
            let before = self.waiting.len();
            self.waiting.retain(|key, _| Some(*key) == next);
            self.waiting_bytes = self.waiting.values().map(|held| held.bytes).sum();
            self.dropped += before - self.waiting.len();
            (self.still, self.is_late) = (None, true);
        }
    }

    /// Notes since when what waits does so with nothing taken.
    fn watch(&mut self, now: u64) {
        let at = self.place.present;
        self.still = match self.still {
            _ if self.waiting.is_empty() => None,
            Some(still) if still.0 == at => Some(still),
            _ => Some((at, now)),
        };
    }

    fn still_until(&self) -> Option<u64> {
        let is_so = |still: &(Option<Ack>, u64)| still.0 == self.place.present;
        let still = self.still.filter(|still| is_so(still) && !self.waiting.is_empty());
        still.map(|(_, since)| since.saturating_add(STILL_MS))
    }

    /// Frames that were dropped because nothing before them came, since this was asked last.
    pub(super) fn dropped(&mut self) -> usize {
        std::mem::take(&mut self.dropped)
    }

    /// When the peer is to be answered, or [`Incoming::give_up`] has something.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let unknown = self.unknown.front().map(|(_, since)| since.saturating_add(BEGINNING_MS));
        [self.answer_ms(), unknown, self.still_until()].into_iter().flatten().min()
    }

    /// Whether the peer is to be answered now.
    pub(super) fn owes(&self, now: u64) -> bool {
        self.answer_ms().is_some_and(|due| due <= now)
    }

    fn answer_ms(&self) -> Option<u64> {
        let ack = self.unanswered.map(|(since, frames, bytes)| {
            let half = frames * 2 >= WINDOW_FRAMES || bytes * 2 >= WINDOW_BYTES;
            if half { since } else { since.saturating_add(ACK_MS) }
        });
        let reset = self.reset.map(|_| self.reset_from_ms());
        [ack, reset].into_iter().flatten().min()
    }

    fn reset_from_ms(&self) -> u64 {
        self.reset_sent_ms.map_or(0, |sent| sent.saturating_add(RESET_PAUSE_MS))
    }

    /// What a frame to the peer says of its direction; it is answered with it.
    pub(super) fn answer(&mut self, now: u64) -> (Option<Ack>, Option<ServerLinkId>) {
        self.unanswered = None;
        let reset = if self.reset_from_ms() <= now { self.reset.take() } else { None };
        if reset.is_some() {
            self.reset_sent_ms = Some(now);
        }
        (self.place.present, reset)
    }
}

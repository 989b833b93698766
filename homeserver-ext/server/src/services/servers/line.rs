//! The link with one server: what waits for it, what is on its way, what has come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use causeway_protocol::{
    ids::{ItemId, ServerLinkId, StreamId, Timestamp},
    link::{Content, EventPlace, Frame, Item, Peer, Place, fitting},
};
use serde_json::Value;

use super::conduct::Conduct;
use crate::storage::{GroupRow, servers::Known};

/// Most items that wait for one server.
const MAX_QUEUED: usize = 4_096;
/// Most bytes of them.
const MAX_QUEUED_BYTES: usize = 16 << 20;
/// Asks that are remembered, so that one that comes again is not carried out again.
const REMEMBERED: usize = 4_096;

/// One server, since this start.
pub(super) struct Line {
    peer: Peer,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// The items of each frame that is not acknowledged, oldest first.
    sent: VecDeque<Vec<Queued>>,
    /// Frames that are to be sent again.
    again: VecDeque<u64>,
    /// Asks that were taken, oldest first.
    taken: (VecDeque<ItemId>, BTreeSet<ItemId>),
    /// When something came of it last; 0 where nothing has.
    pub(super) heard: Timestamp,
    /// Since when something waits that it does not answer.
    pub(super) waits_since: Option<Timestamp>,
    pub(super) conduct: Conduct,
    /// Since when nothing passes, because the operator says so.
    pub(super) paused: Option<Timestamp>,
    /// Since when the frame whose turn it is waits for something.
    stuck_since: Option<u64>,
    /// Up to here its devices' mailboxes are read; none: not yet.
    pub(super) cursor: Option<i64>,
    /// Up to which epoch a group's ops are on their way.
    pub(super) ops: BTreeMap<GroupRow, i64>,
    /// My stream of each group, and its last event.
    streams: BTreeMap<GroupRow, EventPlace>,
}

#[derive(Clone)]
struct Queued {
    item: Value,
    bytes: usize,
    /// Nobody wants it any more then.
    until: Timestamp,
    mark: Option<Mark>,
}

/// What the server has once it has taken an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// All that is for its devices, up to and with this number.
    Rows(i64),
    /// A group's ops, up to and with this epoch.
    Ops(GroupRow, i64),
}

/// What came of a content.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// What the peer has now.
    pub(super) has: Vec<Mark>,
    /// It speaks another version, and is told so.
    pub(super) is_other_version: bool,
}

impl Line {
    pub(super) fn new(mine: ServerLinkId, known: Known, now_ms: u64) -> Self {
        let Known { place, heard, paused } = known;
        Self {
            peer: Peer::new(mine, place, now_ms),
            queue: VecDeque::new(),
            queued_bytes: 0,
            sent: VecDeque::new(),
            again: VecDeque::new(),
            taken: Default::default(),
            heard,
            waits_since: None,
            conduct: Conduct::default(),
            paused,
            stuck_since: None,
            cursor: None,
            ops: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }

    /// Puts an item behind the others; `false` where there is no room for it.
    pub(super) fn put(&mut self, item: &Item, now: Timestamp, until: Timestamp) -> bool {
        self.put_marked(item, now, until, None)
    }

    /// As [`Line::put`], of what the peer is to have.
    pub(super) fn put_marked(
        &mut self,
        item: &Item,
        now: Timestamp,
        until: Timestamp,
        mark: Option<Mark>,
    ) -> bool {
        let item = item.to_json();
        let bytes = item.to_string().len();
        let is_full =
            self.queue.len() >= MAX_QUEUED || self.queued_bytes + bytes > MAX_QUEUED_BYTES;
        if is_full {
            return false;
        }
        self.queued_bytes += bytes;
        self.queue.push_back(Queued { item, bytes, until, mark });
        self.waits_since.get_or_insert(now);
        true
    }

    /// The place of my next event of this group; `new` is drawn for the case that there was none.
    pub(super) fn next_event(&mut self, group: GroupRow, new: StreamId) -> EventPlace {
        let place = self.streams.entry(group).or_insert(EventPlace { stream: new, seq: 0 });
        place.seq += 1;
        *place
    }

    /// Items that wait or are on their way.
    pub(super) fn queued(&self) -> usize {
        self.queue.len() + self.sent.iter().map(Vec::len).sum::<usize>()
    }

    /// Bytes of what came and waits.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.peer.waiting_bytes()
    }

    /// The next frame that is to go now.
    pub(super) fn frame(&mut self, now: Timestamp, now_ms: u64, random: u16) -> Option<Frame> {
        if let Some(range) = self.peer.again(now_ms, random) {
            self.again.extend(range);
        }
        while let Some(seq) = self.again.pop_front() {
            let behind = seq.checked_sub(self.peer.acknowledged() + 1);
            let nth = behind.and_then(|nth| usize::try_from(nth).ok());
            let Some(items) = nth.and_then(|nth| self.sent.get(nth)) else { continue };
            let items = items.iter().map(|queued| queued.item.clone()).collect();
            return Some(self.peer.frame(seq, items, now_ms));
        }
        self.forget_unwanted(now);
        if !self.queue.is_empty() {
            let count = fitting(self.queue.iter().map(|queued| queued.bytes));
            let bytes = self.queue.iter().take(count).map(|queued| queued.bytes).sum();
            if let Some(seq) = self.peer.put(bytes, now_ms, random) {
                let items: Vec<_> = self.queue.drain(..count).collect();
                self.queued_bytes -= bytes;
                let values = items.iter().map(|queued| queued.item.clone()).collect();
                self.sent.push_back(items);
                return Some(self.peer.frame(seq, values, now_ms));
            }
        }
        self.peer.owes_answer(now_ms).then(|| self.peer.frame(0, Vec::new(), now_ms))
    }

    /// What nobody waits for any more is not sent.
    fn forget_unwanted(&mut self, now: Timestamp) {
        self.queue.retain(|queued| now < queued.until);
        self.queued_bytes = self.queue.iter().map(|queued| queued.bytes).sum();
        if self.queue.is_empty() && self.sent.is_empty() {
            self.waits_since = None;
        }
    }

    /// Whether all that waits or is on its way is wanted by nobody any more: it is not sent again.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        let all = || self.sent.iter().flatten().chain(&self.queue);
        all().next().is_some() && all().all(|queued| queued.until <= now)
    }

    /// When a frame is due without anything new.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.peer.due_ms()
    }

    /// Takes in a content; `mine` is a new link, in case that mine begins anew.
    pub(super) fn receive(
        &mut self,
        content: Content,
        bytes: usize,
        (now, now_ms, random): (Timestamp, u64, u16),
        room: usize,
        mine: ServerLinkId,
    ) -> Came {
        let mut came = Came::default();
        let frame = match content {
            Content::Frame(frame) => frame,
            Content::OtherVersion => return Came { is_other_version: true, ..came },
            Content::VersionRefused => return came,
        };
        self.heard = now;
        let before = self.peer.acknowledged();
        let received = self.peer.receive(frame, bytes, now_ms, random, room);
        if received.acknowledges {
            for _ in before..self.peer.acknowledged() {
                let items = self.sent.pop_front().unwrap_or_default();
                came.has.extend(items.into_iter().filter_map(|queued| queued.mark));
            }
            self.waits_since = (!self.sent.is_empty()).then_some(now);
        }
        if received.begin_anew {
            self.begin_anew(mine, now_ms);
        }
        came
    }

    /// Whether an ask comes for the first time.
    pub(super) fn is_first(&mut self, ask: ItemId) -> bool {
        remember(&mut self.taken, ask)
    }

    /// The items of the frame whose turn it is.
    pub(super) fn next(&mut self, now: Timestamp, now_ms: u64) -> Option<Vec<Item>> {
        let mut items = Vec::new();
        for item in self.peer.next()?.iter().map(Item::parse) {
            match item {
                Ok(item) => items.push(item),
                Err(_) => self.conduct.made_no_sense(now, now_ms),
            }
        }
        Some(items)
    }

    /// For how long the frame whose turn it is has waited for something now, milliseconds.
    pub(super) fn stuck_ms(&mut self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(*self.stuck_since.get_or_insert(now_ms))
    }

    /// That frame is dealt with; what is to be stored.
    pub(super) fn committed(&mut self) -> Place {
        self.stuck_since = None;
        self.peer.committed();
        self.peer.place().clone()
    }

    /// How far frames were taken.
    pub(super) fn place(&self) -> Place {
        self.peer.place().clone()
    }

    /// Whether what it sends is taken now.
    pub(super) fn is_open(&self, now_ms: u64) -> bool {
        self.paused.is_none() && self.conduct.shut_ms(now_ms).is_none()
    }

    /// All that is not acknowledged is put again, before what waits.
    pub(super) fn begin_anew(&mut self, mine: ServerLinkId, now_ms: u64) {
        self.peer.begin_anew(mine, now_ms);
        self.again.clear();
        for queued in std::mem::take(&mut self.sent).into_iter().flatten().rev() {
            self.queued_bytes += queued.bytes;
            self.queue.push_front(queued);
        }
    }
}

/// Whether it is new.
fn remember((order, known): &mut (VecDeque<ItemId>, BTreeSet<ItemId>), id: ItemId) -> bool {
    if !known.insert(id) {
        return false;
    }
    order.push_back(id);
    if order.len() > REMEMBERED
        && let Some(oldest) = order.pop_front()
    {
        known.remove(&oldest);
    }
    true
}

#[cfg(test)]
mod tests {
    use causeway_protocol::{
        ids::{ItemId, ServerLinkId, Timestamp},
        link::{Ask, Call, Item},
    };
    use serde_json::json;

    use super::{Known, Line};

    #[test]
    fn what_nobody_waits_for_is_over_and_what_must_arrive_never_is() {
        let mut line = Line::new(ServerLinkId::new([1; 16]), Known::default(), 0);
        assert!(!line.is_over(Timestamp(u64::MAX)), "nothing was asked");
        let until = Timestamp(30_000);
        let ask = Ask { call: Call::Ping, caller: None, until, body: json!({}) };
        let ask = Item::Ask(ItemId::new([2; 16]), ask);
        assert!(line.put(&ask, Timestamp(0), until));
        assert!(line.frame(Timestamp(0), 0, 0).is_some(), "it is on its way");
        assert!(!line.is_over(Timestamp(29_999)));
        assert!(line.is_over(until));
        assert!(line.put(&ask, Timestamp(0), Timestamp(u64::MAX)));
        assert!(!line.is_over(Timestamp(u64::MAX - 1)));
    }
}

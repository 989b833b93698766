//! The link with one server: what waits for it, what is on its way, what has come.

mod again;
mod asked;
mod by_room;
mod due;
mod first;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use causeway_protocol::{
    ids::{GroupId, ItemId, ServerLinkId, StreamId, Timestamp},
    link::{
        Content, EventPlace, Fate, Frame, Gives, Item, MAX_ITEM, Peer, Place, WINDOW_BYTES,
        WINDOW_FRAMES, fitting,
    },
};
use serde_json::Value;

pub(super) use self::by_room::First;
pub(crate) use self::due::Due;
use self::{asked::Asked, due::Done};
pub(super) use super::mark::Mark;
use super::{conduct::Conduct, giving::Giving, readers::Telling};
use crate::storage::{
    GroupRow,
    servers::{Known, given::Streams},
};

/// Most items that wait for one server.
const MAX_QUEUED: usize = 4_096;
/// Most bytes of them.
const MAX_QUEUED_BYTES: usize = 16 << 20;
/// Asks that are remembered, so that one that comes again is not carried out again.
const REMEMBERED: usize = 4_096;
/// What the window keeps free for what is urgent: it comes through where the peer takes nothing else.
const URGENT_FRAMES: usize = 64;
/// Likewise in bytes.
const URGENT_BYTES: usize = 512 << 10;
/// How often a server is told where its groups stand, whatever happens.
const HEADS_MS: u64 = 3_600_000;
/// How often at most, however many links it begins.
const HEADS_PAUSE_MS: u64 = 60_000;

/// One server, since this start.
pub(super) struct Line {
    peer: Peer,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// Goes before the others.
    urgent: VecDeque<Queued>,
    urgent_bytes: usize,
    /// The frames that are not acknowledged, oldest first.
    sent: VecDeque<Sent>,
    sent_bytes: usize,
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
    /// How far the frame whose turn it is was dealt with.
    done: Done,
    /// What it showed, ahead of its turn too, oldest first.
    shown: (VecDeque<ItemId>, BTreeSet<ItemId>),
    /// Since when the frame whose turn it is waits for something.
    stuck_since: Option<u64>,
    /// Up to here its devices' mailboxes are read; none: not yet.
    pub(super) cursor: Option<i64>,
    /// Up to which epoch a group's ops are on their way.
    pub(super) ops: BTreeMap<GroupRow, i64>,
    /// My stream of each group, and its last event.
    streams: BTreeMap<GroupRow, EventPlace>,
    pub(super) giving: Giving,
    pub(super) telling: Telling,
    /// When it is to be told again where each group stands.
    heads_ms: u64,
    /// Groups of which the server may have ops that are not here.
    lacking: BTreeSet<GroupId>,
    /// Of these they are asked for.
    asked: Vec<Asked>,
    /// It was asked for these since the frame whose turn it is came, and had no more.
    in_vain: BTreeSet<GroupId>,
    /// Groups whose rooms it missed something of: until when they carry nothing for it.
    deaf: BTreeMap<GroupRow, u64>,
}

#[derive(Clone)]
struct Queued {
    item: Value,
    bytes: usize,
    is_urgent: bool,
    /// Nobody wants it any more then.
    until: Timestamp,
    mark: Option<Mark>,
    /// Of which group it is for all.
    of_all: Option<First>,
    /// It went by the group's room.
    by_room: bool,
}

/// What went in one frame.
struct Sent {
    items: Vec<Queued>,
    gives: Option<Gives>,
}

/// How far an item is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stands {
    /// Nobody has fetched it.
    Waits,
    /// The agent has it, and the other server has not acknowledged it.
    Left,
    /// The other server acknowledged it.
    Taken,
}

/// What came of a content.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// What the peer has now.
    pub(super) has: Vec<Mark>,
    /// The items of those that are kept, each with its number.
    pub(super) given: Vec<(i64, Value)>,
    /// It speaks another version, and is told so.
    pub(super) is_other_version: bool,
}

impl Line {
    pub(super) fn new(mine: ServerLinkId, known: Known, streams: Arc<Streams>) -> Self {
        let Known { place, heard, paused, given } = known;
        Self {
            peer: Peer::new(mine, place),
            queue: VecDeque::new(),
            queued_bytes: 0,
            urgent: VecDeque::new(),
            urgent_bytes: 0,
            sent: VecDeque::new(),
            sent_bytes: 0,
            again: VecDeque::new(),
            taken: Default::default(),
            heard,
            waits_since: None,
            conduct: Conduct::default(),
            paused,
            done: None,
            shown: Default::default(),
            stuck_since: None,
            cursor: None,
            ops: BTreeMap::new(),
            streams: BTreeMap::new(),
            giving: Giving::new(streams, given),
            telling: Telling::default(),
            heads_ms: 0,
            lacking: BTreeSet::new(),
            asked: Vec::new(),
            in_vain: BTreeSet::new(),
            deaf: BTreeMap::new(),
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
        self.put_of(item.to_json(), (now, until), mark, None)
    }

    /// As [`Line::put_marked`], of an item that it had before.
    pub(super) fn put_again(
        &mut self,
        item: Value,
        now: Timestamp,
        until: Timestamp,
        mark: Option<Mark>,
    ) -> bool {
        self.put_of(item, (now, until), mark, None)
    }

    fn put_of(
        &mut self,
        item: Value,
        (now, until): (Timestamp, Timestamp),
        mark: Option<Mark>,
        of_all: Option<First>,
    ) -> bool {
        let bytes = item.to_string().len();
        // Who made it has seen to that: a frame with it would be sent for ever, and nothing behind it.
        if bytes > MAX_ITEM && mark.is_none() {
            tracing::error!(bytes, "an item is too large to be sent, and left out");
            return true;
        }
        let is_full =
            self.queue.len() >= MAX_QUEUED || self.queued_bytes + bytes > MAX_QUEUED_BYTES;
        if is_full {
            return false;
        }
        self.queued_bytes += bytes;
        let (is_urgent, by_room) = (false, false);
        self.queue.push_back(Queued { item, bytes, is_urgent, until, mark, of_all, by_room });
        self.waits_since.get_or_insert(now);
        true
    }

    /// How far an item is on its way.
    pub(super) fn stands(&self, id: ItemId) -> Stands {
        let is_it = |queued: &Queued| {
            queued.item.get("id").and_then(Value::as_str) == Some(&*id.to_string())
        };
        if self.queue.iter().chain(&self.urgent).any(is_it) {
            Stands::Waits
        } else if self.sent.iter().flat_map(|sent| &sent.items).any(is_it) {
            Stands::Left
        } else {
            Stands::Taken
        }
    }

    /// The place of my next event of this group; `new` is drawn for the case that there was none.
    pub(super) fn next_event(&mut self, group: GroupRow, new: StreamId) -> EventPlace {
        let place = self.streams.entry(group).or_insert(EventPlace { stream: new, seq: 0 });
        place.seq += 1;
        *place
    }

    /// Items that wait or are on their way.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
            + self.urgent.len()
            + self.sent.iter().map(|sent| sent.items.len()).sum::<usize>()
    }

    /// Bytes of what came and waits.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.peer.waiting_bytes()
    }

    /// The next frame that is to go now. What is for all of a group that `waits` stays, and what is behind it.
    pub(super) fn frame(
        &mut self,
        (now, now_ms, random): (Timestamp, u64, u16),
        waits: impl Fn(GroupRow) -> bool,
    ) -> Option<Frame> {
        if let Some(range) = self.peer.again(now_ms, random) {
            self.again.extend(range);
        }
        while let Some(seq) = self.again.pop_front() {
            let behind = seq.checked_sub(self.peer.acknowledged() + 1);
            let nth = behind.and_then(|nth| usize::try_from(nth).ok());
            let Some(sent) = nth.and_then(|nth| self.sent.get_mut(nth)) else { continue };
            let missed = by_room::missed(&mut sent.items);
            let (gives, items) = (sent.gives.map(Box::new), values(&sent.items));
            if let Some(group) = missed {
                self.misses_room(group, now_ms);
            }
            return Some(Frame { gives, ..self.peer.frame(seq, items, now_ms) });
        }
        self.forget_unwanted(now);
        let has_room = self.has_room();
        let next = if self.urgent.is_empty() { &mut self.queue } else { &mut self.urgent };
        let deaf = &self.deaf;
        let hears = |group| deaf.get(&group).is_none_or(|until| *until <= now_ms);
        let stays =
            |queued: &Queued| queued.of_all.is_some_and(|of| hears(of.group) && waits(of.group));
        if next.front().is_some_and(|first| first.is_urgent || has_room && !stays(first)) {
            let go = next.iter().take_while(|queued| !stays(queued));
            let count = fitting(go.map(|queued| queued.bytes));
            let bytes = next.iter().take(count).map(|queued| queued.bytes).sum();
            if let Some(seq) = self.peer.put(bytes, now_ms, random) {
                let items: Vec<_> = next.drain(..count).collect();
                self.count(&items, true);
                return Some(self.send(items, seq, now_ms));
            }
        }
        let owes = self.peer.owes_answer(now_ms);
        let dropped = self.peer.dropped();
        if dropped > 0 {
            metrics::counter!("causeway_servers_dropped_total").increment(dropped as u64);
            self.conduct.was_limited(now, "how long frames wait for those before them");
        }
        owes.then(|| self.peer.frame(0, Vec::new(), now_ms))
    }

    /// Whether the window has room for what is not urgent.
    fn has_room(&self) -> bool {
        self.sent.len() + URGENT_FRAMES < WINDOW_FRAMES
            && self.sent_bytes + URGENT_BYTES < WINDOW_BYTES
    }

    /// A new frame of these, which are on their way now.
    fn send(&mut self, items: Vec<Queued>, seq: u64, now_ms: u64) -> Frame {
        let rows = items.iter().filter_map(|queued| queued.mark?.row());
        let gives = self.giving.gives(rows.max());
        let frame = self.peer.frame(seq, values(&items), now_ms);
        self.sent.push_back(Sent { items, gives });
        Frame { gives: gives.map(Box::new), ..frame }
    }

    /// These are on their way now, or wait again.
    fn count(&mut self, items: &[Queued], are_sent: bool) {
        let bytes: usize = items.iter().map(|queued| queued.bytes).sum();
        let waited = items.iter().filter(|queued| !queued.is_urgent).map(|queued| queued.bytes);
        let waited: usize = waited.sum();
        let urgent = bytes - waited;
        if are_sent {
            self.sent_bytes += bytes;
            self.queued_bytes = self.queued_bytes.saturating_sub(waited);
            self.urgent_bytes = self.urgent_bytes.saturating_sub(urgent);
        } else {
            self.sent_bytes = self.sent_bytes.saturating_sub(bytes);
            self.queued_bytes += waited;
            self.urgent_bytes += urgent;
        }
    }

    /// What nobody waits for any more is not sent.
    fn forget_unwanted(&mut self, now: Timestamp) {
        self.queue.retain(|queued| now < queued.until);
        self.urgent.retain(|queued| now < queued.until);
        self.queued_bytes = self.queue.iter().map(|queued| queued.bytes).sum();
        self.urgent_bytes = self.urgent.iter().map(|queued| queued.bytes).sum();
        if self.queue.is_empty() && self.urgent.is_empty() && self.sent.is_empty() {
            self.waits_since = None;
        }
    }

    /// Whether all that waits or is on its way is wanted by nobody any more: it is not sent again.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        let all =
            || self.sent.iter().flat_map(|sent| &sent.items).chain(&self.queue).chain(&self.urgent);
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
        let had = frame.had;
        let knows_me = frame.ack.is_some_and(|ack| ack.link == self.peer.link());
        let received = self.peer.receive(frame, bytes, now_ms, random, room);
        if received.acknowledges {
            for _ in before..self.peer.acknowledged() {
                let items = self.sent.pop_front().map(|sent| sent.items).unwrap_or_default();
                let bytes = items.iter().map(|queued| queued.bytes).sum();
                self.sent_bytes = self.sent_bytes.saturating_sub(bytes);
                for Queued { item, mark, .. } in items {
                    let Some(mark) = mark else { continue };
                    self.giving.has(mark);
                    came.given.extend(mark.row().map(|seq| (seq, item)));
                    came.has.push(mark);
                }
            }
            if came.has.iter().any(|mark| matches!(mark, Mark::Progress(_))) {
                self.telling.is_out = false;
            }
            self.waits_since = (!self.sent.is_empty()).then_some(now);
        }
        if received.begins {
            // It may have been put back.
            let earliest = self.heads_ms.saturating_sub(HEADS_MS) + HEADS_PAUSE_MS;
            self.heads_ms = self.heads_ms.min(earliest.max(now_ms));
        }
        if received.begin_anew {
            self.begin_anew(mine, now_ms);
        }
        if let Some(had) = had.filter(|_| !matches!(received.fate, Fate::Former | Fate::Unknown)) {
            self.giving.hear(had, received.begins, knows_me);
        }
        came
    }

    /// Whether an ask comes for the first time.
    pub(super) fn is_first(&mut self, ask: ItemId) -> bool {
        remember(&mut self.taken, ask)
    }

    /// For how long the frame whose turn it is has waited for something now, milliseconds.
    pub(super) fn stuck_ms(&mut self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(*self.stuck_since.get_or_insert(now_ms))
    }

    /// That frame is dealt with; what is to be stored.
    pub(super) fn committed(&mut self, now: Timestamp) -> Place {
        self.stuck_since = None;
        if self.peer.next_gives().is_some_and(|gives| gives.gap) {
            self.conduct.had_gap(
                now,
                "this server was put back, and it does not have all of what was lost",
            );
        }
        self.in_vain.clear();
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
        self.giving.begin_link();
        self.again.clear();
        let sent = std::mem::take(&mut self.sent).into_iter().flat_map(|sent| sent.items);
        let sent: Vec<_> = sent.collect();
        self.count(&sent, false);
        for mut queued in sent.into_iter().rev() {
            queued.by_room = false;
            let queue = if queued.is_urgent { &mut self.urgent } else { &mut self.queue };
            queue.push_front(queued);
        }
    }

    /// Whether the server is to be told now where each group stands; then it is told. Who is given again what
    /// he had is told behind that: else he asks for ops that belong between it.
    pub(super) fn owes_heads(&mut self, now_ms: u64) -> bool {
        let owes = self.heads_ms <= now_ms && !self.giving.is_again();
        if owes {
            self.heads_ms = now_ms + HEADS_MS;
        }
        owes
    }
}

fn values(items: &[Queued]) -> Vec<Value> {
    items.iter().map(|queued| queued.item.clone()).collect()
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
    use std::sync::Arc;

    use causeway_protocol::{
        ids::{ItemId, ServerLinkId, StreamId, Timestamp},
        link::{Ask, Call, Item},
    };
    use serde_json::json;

    use super::{Known, Line, Streams};

    #[test]
    fn what_nobody_waits_for_is_over_and_what_must_arrive_never_is() {
        let mut line = {
            let streams = Streams { mine: StreamId::new([9; 16]), former: Vec::new(), opened: 0 };
            Line::new(ServerLinkId::new([1; 16]), Known::default(), Arc::new(streams))
        };
        assert!(!line.is_over(Timestamp(u64::MAX)), "nothing was asked");
        let until = Timestamp(30_000);
        let ask = Ask { call: Call::Ping, caller: None, until, body: json!({}) };
        let ask = Item::Ask(ItemId::new([2; 16]), ask);
        assert!(line.put(&ask, Timestamp(0), until));
        assert!(line.frame((Timestamp(0), 0, 0), |_| false).is_some(), "it is on its way");
        assert!(!line.is_over(Timestamp(29_999)));
        assert!(line.is_over(until));
        assert!(line.put(&ask, Timestamp(0), Timestamp(u64::MAX)));
        assert!(!line.is_over(Timestamp(u64::MAX - 1)));
    }
}

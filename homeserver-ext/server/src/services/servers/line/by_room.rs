//! What goes by the relay rooms of groups: a frame of this link like any other, which only travels otherwise
//! the first time (protocol §7.4).

use causeway_protocol::{
    ids::Timestamp,
    link::{Frame, Item},
};
use serde_json::Value;

use super::{Line, Mark, Queued};
use crate::storage::GroupRow;

/// How long a room carries nothing for a server that missed something of it.
const DEAF_MS: u64 = 60_000;
/// Who has left something untaken for so long is not waited for, milliseconds.
const SLOW_MS: u64 = 2_000;

/// What is for all of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct First {
    /// Which group.
    pub(in super::super) group: GroupRow,
    /// Its number here.
    pub(in super::super) seq: i64,
}

/// What waits, and may go by a room.
pub(in super::super) struct Waiting<'a> {
    /// Its number here.
    pub(in super::super) seq: i64,
    /// As an item of a frame.
    pub(in super::super) bytes: usize,
    /// The event's own content.
    pub(in super::super) content: &'a Value,
}

impl Line {
    /// As [`Line::put_marked`], of what is for all of a group, with its number here.
    pub(in super::super) fn put_of_all(
        &mut self,
        item: &Item,
        when: (Timestamp, Timestamp),
        mark: Mark,
        of: First,
    ) -> bool {
        self.put_of(item.to_json(), when, Some(mark), Some(of))
    }

    /// What waits first, where it is for all of a group.
    pub(in super::super) fn first_of_all(&self) -> Option<First> {
        self.queue.front().and_then(|queued| queued.of_all)
    }

    /// What waits first, as far as it is for all of this group.
    pub(in super::super) fn of_all(&self, group: GroupRow) -> impl Iterator<Item = Waiting<'_>> {
        self.queue.iter().map_while(move |queued| {
            let First { group: of, seq } = queued.of_all?;
            let content = queued.item.get("content")?;
            (of == group).then_some(Waiting { seq, bytes: queued.bytes, content })
        })
    }

    /// Whether a frame may go by a room now: nothing goes before it, and the window has room.
    pub(in super::super) fn is_free(&self) -> bool {
        self.urgent.is_empty() && self.again.is_empty() && self.has_room()
    }

    /// The first so many that wait, as a frame that goes by their group's room.
    pub(in super::super) fn put_by_room(
        &mut self,
        count: usize,
        now_ms: u64,
        random: u16,
    ) -> Option<Frame> {
        let bytes = self.queue.iter().take(count).map(|queued| queued.bytes).sum();
        let seq = self.peer.put(bytes, now_ms, random)?;
        let mut items: Vec<_> = self.queue.drain(..count.min(self.queue.len())).collect();
        for item in &mut items {
            item.by_room = true;
        }
        self.count(&items, true);
        Some(self.send(items, seq, now_ms))
    }

    /// Its room carries nothing for it for a while.
    pub(super) fn misses_room(&mut self, group: GroupRow, now_ms: u64) {
        metrics::counter!("causeway_servers_room_missed_total").increment(1);
        self.deaf.retain(|_, until| *until > now_ms);
        self.deaf.insert(group, now_ms + DEAF_MS);
    }

    /// Whether this group's room may carry something for it.
    pub(in super::super) fn hears(&self, group: GroupRow, now_ms: u64) -> bool {
        self.deaf.get(&group).is_none_or(|until| *until <= now_ms)
    }

    /// Whether what has this number is soon put here too, so that one event may bring it to several.
    pub(in super::super) fn lags(&self, seq: i64, now: Timestamp, few: usize) -> bool {
        let is_slow = self.waits_since.is_some_and(|since| since.plus_ms(SLOW_MS) < now);
        let is_behind = self.cursor.is_some_and(|cursor| cursor < seq);
        is_behind && !is_slow && self.queued() < few
    }
}

/// Whose room these went by, where they did; from now on they did not.
pub(super) fn missed(items: &mut [Queued]) -> Option<GroupRow> {
    let first = items.first_mut().filter(|first| first.by_room)?;
    first.by_room = false;
    first.of_all.map(|of| of.group)
}

#[cfg(test)]
mod tests {
    use causeway_protocol::{
        ids::{GroupId, ItemId, ServerLinkId, StreamId, Timestamp},
        link::{Ack, Carried, Content, Event, EventPlace, Frame, Item},
    };

    use super::{DEAF_MS, First, Line, Mark, SLOW_MS};
    use crate::storage::{
        GroupRow,
        servers::{Known, given::Streams},
    };

    const MINE: ServerLinkId = ServerLinkId::new([1; 16]);
    const GROUP: GroupRow = GroupRow(4);
    const ALWAYS: Timestamp = Timestamp(u64::MAX);

    fn line(numbers: impl IntoIterator<Item = i64>) -> Line {
        let streams = Streams { mine: StreamId::new([9; 16]), former: Vec::new(), opened: 0 };
        let mut line = Line::new(MINE, Known::default(), std::sync::Arc::new(streams));
        for number in numbers {
            let place = EventPlace { stream: StreamId::new([3; 16]), seq: 1 };
            let group = GroupId::new([7; 32]);
            let carried = Carried::Envelopes(Vec::new());
            let item = Event { group, place, after: None, carried };
            let item = Item::Event(ItemId::new([2; 16]), item);
            let mark = Mark::Rows(number);
            assert!(line.put_of_all(
                &item,
                (Timestamp(0), ALWAYS),
                mark,
                First { group: GROUP, seq: number }
            ));
        }
        line
    }

    fn frame(line: &mut Line, now_ms: u64, waits: bool) -> Option<Frame> {
        line.frame((Timestamp(0), now_ms, 0), |_| waits)
    }

    #[test]
    fn what_waits_for_a_room_stays_and_what_went_by_it_comes_by_the_link_when_it_is_missed() {
        let mut line = line(1..=3);
        assert!(frame(&mut line, 0, true).is_none());
        let numbers: Vec<_> = line.of_all(GROUP).map(|waiting| waiting.seq).collect();
        assert_eq!((numbers, line.of_all(GroupRow(5)).count()), (vec![1, 2, 3], 0));
        let by_room = line.put_by_room(2, 0, 0).unwrap();
        assert_eq!((by_room.seq, by_room.items.len()), (1, 2));
        assert_eq!(line.first_of_all(), Some(First { group: GROUP, seq: 3 }));
        assert!(line.hears(GROUP, 2_499) && frame(&mut line, 2_499, true).is_none());
        // With the same number, so that nobody takes it twice; and what follows it does not wait for the room.
        let again = frame(&mut line, 2_500, true).unwrap();
        assert_eq!((again.link, again.seq, &again.items), (MINE, 1, &by_room.items));
        assert!(!line.hears(GROUP, 2_500) && !line.hears(GROUP, 2_499 + DEAF_MS));
        assert!(line.hears(GROUP, 2_500 + DEAF_MS));
    }

    #[test]
    fn what_was_taken_from_the_room_does_not_come_again() {
        let mut line = line([1]);
        assert!(line.put_by_room(1, 0, 0).is_some());
        let ack = Some(Ack { link: MINE, seq: 1 });
        let theirs = ServerLinkId::new([8; 16]);
        let content = Content::Frame(Frame {
            link: theirs,
            seq: 0,
            ack,
            reset: None,
            had: None,
            gives: None,
            items: Vec::new(),
        });
        let came = line.receive(content, 0, (Timestamp(0), 10, 0), 0, MINE);
        assert_eq!(came.has, [Mark::Rows(1)]);
        assert!(frame(&mut line, u64::from(u32::MAX), false).is_none_or(|it| it.items.is_empty()));
        assert!(line.hears(GROUP, 0));
    }

    #[test]
    fn a_link_that_begins_anew_brings_what_went_by_the_room() {
        let mut line = line([1]);
        assert!(line.put_by_room(1, 0, 0).is_some());
        let mine = ServerLinkId::new([9; 16]);
        line.begin_anew(mine, 1);
        assert_eq!(line.first_of_all(), Some(First { group: GROUP, seq: 1 }));
        let again = frame(&mut line, 1, false).unwrap();
        assert_eq!((again.link, again.seq, again.items.len()), (mine, 1, 1));
    }

    #[test]
    fn who_is_behind_is_waited_for_unless_he_takes_nothing() {
        let mut line = line([]);
        assert!(!line.lags(5, Timestamp(0), 1), "nothing was looked for yet");
        line.cursor = Some(4);
        assert!(line.lags(5, Timestamp(0), 1) && !line.lags(4, Timestamp(0), 1));
        assert!(!line.lags(5, Timestamp(0), 0), "it is given no more now");
        line.waits_since = Some(Timestamp(1));
        assert!(line.lags(5, Timestamp(1 + SLOW_MS), 1));
        assert!(!line.lags(5, Timestamp(2 + SLOW_MS), 1));
    }
}

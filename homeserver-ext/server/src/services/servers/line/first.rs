//! What goes before all else: it helps the server to take the rest, and comes through where that takes nothing
//! else.

use causeway_protocol::{ids::Timestamp, link::Item};

use super::{Line, Queued};

/// Most items that go before the others and wait for one server.
const MAX_URGENT: usize = 1_024;
/// Most bytes of that.
const MAX_URGENT_BYTES: usize = 4 << 20;

impl Line {
    /// Puts an item before the others: what helps the server to take them. Where there is no room, which is
    /// that server's doing, it is left out: all of this is asked for again, or told again.
    pub(in super::super) fn put_first(
        &mut self,
        item: &Item,
        now: Timestamp,
        until: Timestamp,
    ) -> bool {
        self.put_all_first(std::slice::from_ref(item), now, until)
    }

    /// Likewise several, of which none goes without the others.
    pub(in super::super) fn put_all_first(
        &mut self,
        items: &[Item],
        now: Timestamp,
        until: Timestamp,
    ) -> bool {
        let queued = |item: &Item| {
            let item = item.to_json();
            let bytes = item.to_string().len();
            let (mark, of_all, by_room) = (None, None, false);
            Queued { item, bytes, is_urgent: true, until, mark, of_all, by_room }
        };
        let all: Vec<_> = items.iter().map(queued).collect();
        let bytes: usize = all.iter().map(|queued| queued.bytes).sum();
        if self.urgent.len() + all.len() > MAX_URGENT
            || self.urgent_bytes + bytes > MAX_URGENT_BYTES
        {
            self.conduct.was_limited(now, "what waits for it first");
            return false;
        }
        self.urgent_bytes += bytes;
        self.urgent.extend(all);
        self.waits_since.get_or_insert(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use causeway_protocol::{
        ids::{ItemId, ServerLinkId, StreamId, Timestamp},
        link::{Answer, Item},
    };
    use serde_json::json;

    use super::{Line, MAX_URGENT, MAX_URGENT_BYTES};
    use crate::storage::servers::{Known, given::Streams};

    fn line() -> Line {
        let streams = Streams { mine: StreamId::new([9; 16]), former: Vec::new(), opened: 0 };
        Line::new(ServerLinkId::new([1; 16]), Known::default(), Arc::new(streams))
    }

    /// An answer of about so many bytes.
    fn answer(bytes: usize) -> Item {
        let body = json!({ "x": "x".repeat(bytes) });
        let to = ItemId::new([3; 16]);
        Item::Answer(ItemId::new([2; 16]), Answer { to, status: 200, body })
    }

    #[test]
    fn what_goes_first_is_bounded_and_what_goes_together_goes_whole() {
        let (now, until) = (Timestamp(0), Timestamp(1_000));
        for (bytes, fit) in [(1, MAX_URGENT), (60_000, MAX_URGENT_BYTES / 60_200)] {
            let mut line = line();
            let put =
                (0..MAX_URGENT + 8).take_while(|_| line.put_first(&answer(bytes), now, until));
            let put = put.count();
            assert!((fit..=fit + 1).contains(&put), "{put} of {bytes} bytes");
            assert_eq!(line.conduct.limited, 1);
            // One more would fit, behind what goes now; two that belong together do not.
            assert!(line.frame((now, 0, 0), |_| false).is_some());
            let free = MAX_URGENT - line.urgent.len();
            let two = vec![answer(1); free + 1];
            assert!(!line.put_all_first(&two, now, until));
            assert!(line.put_first(&answer(1), now, until));
            // What nobody waits for any more makes room.
            assert!(line.frame((until, 1, 0), |_| false).is_none());
            assert_eq!((line.urgent.len(), line.urgent_bytes), (0, 0));
            assert!(line.put_first(&answer(bytes), until, Timestamp(2_000)));
        }
    }

    #[test]
    fn what_is_put_again_takes_the_room_that_it_took() {
        let mut line = line();
        assert!(line.put_first(&answer(1_000), Timestamp(0), Timestamp(u64::MAX)));
        let bytes = line.urgent_bytes;
        assert!(bytes > 1_000);
        assert!(line.frame((Timestamp(0), 0, 0), |_| false).is_some());
        assert_eq!(line.urgent_bytes, 0);
        line.begin_anew(ServerLinkId::new([4; 16]), 1);
        assert_eq!(line.urgent_bytes, bytes);
    }
}

//! Both directions of a link with one server.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::ids::ServerLinkId;

use super::{
    frame::{Ack, Frame},
    given::Gives,
    incoming::{Fate, Incoming, Place},
    outgoing::Outgoing,
};

/// A peer, as one start of the native half knows it. Times are milliseconds of one clock that does not
/// go back.
#[derive(Debug, Clone)]
pub struct Peer {
    outgoing: Outgoing,
    incoming: Incoming,
    /// When mine began anew last.
    anew_ms: Option<u64>,
    /// Mine is to begin anew, which may have to wait.
    wants_anew: bool,
}

/// A peer makes mine begin anew once in this time at most, whatever it says: each costs a window.
const ANEW_PAUSE_MS: u64 = 10_000;

/// What came of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Of its items.
    pub fate: Fate,
    /// A link of the peer began with it.
    pub begins: bool,
    /// It says that more of mine is committed there: see [`Peer::acknowledged`].
    pub acknowledges: bool,
    /// The peer does not know what it had acknowledged, or not how my link began:
    /// [`Peer::begin_anew`].
    pub begin_anew: bool,
}

impl Peer {
    /// A peer at a start of mine: `mine` is new, and `place` what was stored.
    pub fn new(mine: ServerLinkId, place: Place) -> Self {
        let (outgoing, incoming) = (Outgoing::new(mine), Incoming::new(place));
        Self { outgoing, incoming, anew_ms: None, wants_anew: false }
    }

    /// My next link: all that is not acknowledged and still wanted is put again, from 1.
    pub fn begin_anew(&mut self, mine: ServerLinkId, now: u64) {
        self.outgoing = Outgoing::new(mine);
        (self.anew_ms, self.wants_anew) = (Some(now), false);
    }

    /// The number of a new frame whose items have these bytes; none while the window is full
    /// (1,024 frames, 4 MiB).
    pub fn put(&mut self, bytes: usize, now: u64, random: u16) -> Option<u64> {
        self.outgoing.put(bytes, now, random)
    }

    /// The last of my frames that the peer has committed: what stands in it and before is done.
    pub const fn acknowledged(&self) -> u64 {
        self.outgoing.acknowledged()
    }

    /// The frames of mine that are to be sent again now.
    pub fn again(&mut self, now: u64, random: u16) -> Option<RangeInclusive<u64>> {
        self.outgoing.again(now, random)
    }

    /// My frame of this number with these items; without items it bears the last number that was
    /// given. Whatever is sent acknowledges what was committed until now, and says what is had; what it gives
    /// is the caller's to say.
    pub fn frame(&mut self, seq: u64, items: Vec<Value>, now: u64) -> Frame {
        let (ack, reset) = self.incoming.answer(now);
        let seq = if items.is_empty() { self.outgoing.last() } else { seq };
        let had = Some(self.incoming.place().had);
        Frame { link: self.outgoing.link(), seq, ack, reset, had, gives: None, items }
    }

    /// Takes in a frame whose items have these bytes. `room` is what all peers together leave of
    /// the 64 MiB that may wait.
    pub fn receive(
        &mut self,
        frame: Frame,
        bytes: usize,
        now: u64,
        random: u16,
        room: usize,
    ) -> Received {
        let begins = self.incoming.begins(&frame);
        let (ack, reset) = (frame.ack, frame.reset);
        let was_put_back = begins && forgets(self.acked(), ack);
        let fate = self.incoming.receive(frame, bytes, now, room);
        let counts = !matches!(fate, Fate::Former | Fate::Unknown);
        let acknowledges =
            counts && ack.is_some_and(|ack| self.outgoing.acknowledge(ack, now, random));
        self.wants_anew |= was_put_back || reset == Some(self.outgoing.link());
        let may = self.anew_ms.is_none_or(|last| last.saturating_add(ANEW_PAUSE_MS) <= now);
        Received { fate, begins, acknowledges, begin_anew: may && self.wants_anew }
    }

    /// My present link.
    pub const fn link(&self) -> ServerLinkId {
        self.outgoing.link()
    }

    fn acked(&self) -> Ack {
        Ack { link: self.outgoing.link(), seq: self.outgoing.acknowledged() }
    }

    /// The items of the peer's frame whose turn it is.
    pub fn next(&self) -> Option<Vec<Value>> {
        self.incoming.next()
    }

    /// What that frame gives of the peer's stream.
    pub fn next_gives(&self) -> Option<&Gives> {
        self.incoming.next_gives()
    }

    /// That frame is committed, and [`Peer::place`] with it.
    pub fn committed(&mut self) {
        self.incoming.committed();
    }

    /// What is stored with what was taken.
    pub const fn place(&self) -> &Place {
        self.incoming.place()
    }

    /// Bytes that wait here.
    pub const fn waiting_bytes(&self) -> usize {
        self.incoming.waiting_bytes()
    }

    /// How many frames that came before their turn were dropped since this was asked last, because none before
    /// them had come for two minutes. They come again; until one is taken none is held ahead of its turn.
    pub fn dropped(&mut self) -> usize {
        self.incoming.dropped()
    }

    /// When there is something to send without anything new: [`Peer::again`], or a frame without
    /// items.
    pub fn due_ms(&self) -> Option<u64> {
        [self.outgoing.due_ms(), self.incoming.due_ms()].into_iter().flatten().min()
    }

    /// Whether a frame without items is due.
    pub fn owes_answer(&mut self, now: u64) -> bool {
        self.incoming.give_up(now);
        self.incoming.owes(now)
    }
}

/// Whether the first frame of a peer's new link knows less of mine than it had acknowledged.
fn forgets(mine: Ack, first: Option<Ack>) -> bool {
    mine.seq > 0 && !first.is_some_and(|first| first.link == mine.link && first.seq >= mine.seq)
}

#[cfg(test)]
mod tests {
    use super::{Ack, ServerLinkId, forgets};

    #[test]
    fn a_peer_that_knows_less_than_before_was_put_back() {
        let [mine, other] = [1, 2].map(|n| ServerLinkId::new([n; 16]));
        let said = |link, seq| Some(Ack { link, seq });
        let table = [
            (0, None, false),
            (0, said(other, 9), false),
            (3, None, true),
            (3, said(other, 9), true),
            (3, said(mine, 2), true),
            (3, said(mine, 3), false),
            (3, said(mine, 4), false),
        ];
        for (seq, first, put_back) in table {
            assert_eq!(forgets(Ack { link: mine, seq }, first), put_back, "{seq} {first:?}");
        }
    }
}

//! Two ends of a link beside a network that loses, repeats and reorders, and ends that are killed: a
//! model of the pair, and what one end does of a peer that keeps to nothing.

use std::collections::{BTreeSet, VecDeque};

use causeway_protocol::{
    ids::{ServerLinkId, StreamId},
    link::{Ack, Content, Fate, Frame, Gives, Had, Peer, Place},
};
use proptest::prelude::*;
use serde_json::json;

const ROOM: usize = 64 * 1024 * 1024;

/// One server: what it has stored, and the peer as its present start knows it.
struct End {
    name: u8,
    starts: u8,
    peer: Peer,
    place: Place,
    /// What is not acknowledged, and in which frame it is.
    queue: VecDeque<(u64, Option<u64>)>,
    put: u64,
    /// What was taken, in order; a second time is no time.
    taken: Vec<u64>,
    known: BTreeSet<u64>,
}

impl End {
    fn new(name: u8) -> Self {
        Self {
            name,
            starts: 0,
            peer: Peer::new(ServerLinkId::new([name; 16]), Place::default()),
            place: Place::default(),
            queue: VecDeque::new(),
            put: 0,
            taken: Vec::new(),
            known: BTreeSet::new(),
        }
    }

    fn next_link(&mut self) -> ServerLinkId {
        self.starts += 1;
        let mut bytes = [self.name; 16];
        bytes[1] += self.starts;
        ServerLinkId::new(bytes)
    }

    fn greet(&mut self, now: u64) -> Frame {
        self.queue.iter_mut().for_each(|(_, seq)| *seq = None);
        self.peer.frame(0, vec![], now)
    }

    fn restart(&mut self, now: u64) -> Frame {
        self.peer = Peer::new(self.next_link(), self.place.clone());
        self.greet(now)
    }

    /// What there is to send.
    fn send(&mut self, now: u64, random: u16) -> Vec<Frame> {
        let mut frames = Vec::new();
        for at in 0..self.queue.len() {
            if self.queue[at].1.is_none() {
                let Some(seq) = self.peer.put(10, now, random) else { break };
                self.queue[at].1 = Some(seq);
                frames.push(self.peer.frame(seq, vec![json!(self.queue[at].0)], now));
            }
        }
        for seq in self.peer.again(now, random).into_iter().flatten() {
            let (item, _) = self.queue.iter().find(|(_, at)| *at == Some(seq)).unwrap();
            frames.push(self.peer.frame(seq, vec![json!(item)], now));
        }
        if self.peer.owes_answer(now) {
            frames.push(self.peer.frame(0, vec![], now));
        }
        frames
    }

    fn receive(&mut self, frame: &Frame, now: u64, random: u16) -> Option<Frame> {
        let bytes = frame.to_json().to_string();
        let Ok(Content::Frame(frame)) = Content::parse(bytes.as_bytes()) else { panic!("{bytes}") };
        let received = self.peer.receive(frame, bytes.len(), now, random, ROOM);
        if received.acknowledges {
            let upto = self.peer.acknowledged();
            self.queue.retain(|(_, seq)| seq.is_none_or(|seq| seq > upto));
        }
        while let Some(items) = self.peer.next() {
            for item in items.iter().filter_map(serde_json::Value::as_u64) {
                if self.known.insert(item) {
                    self.taken.push(item);
                }
            }
            self.peer.committed();
        }
        self.place = self.peer.place().clone();
        received.begin_anew.then(|| {
            let link = self.next_link();
            self.peer.begin_anew(link, now);
            self.greet(now)
        })
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(bool),
    Deliver(bool, prop::sample::Index),
    Lose(bool, prop::sample::Index),
    /// Of all that was ever sent.
    Replay(bool, prop::sample::Index),
    Wait(u64),
    Kill(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (side, index) = (any::<bool>(), any::<prop::sample::Index>());
    let step = prop_oneof![
        4 => side.prop_map(Step::Put),
        6 => (side, index.clone()).prop_map(|(side, index)| Step::Deliver(side, index)),
        3 => (side, index.clone()).prop_map(|(side, index)| Step::Lose(side, index)),
        3 => (side, index).prop_map(|(side, index)| Step::Replay(side, index)),
        2 => (1..40_000_u64).prop_map(Step::Wait),
        1 => side.prop_map(Step::Kill),
    ];
    prop::collection::vec(step, 1..120)
}

/// Frames of each end: on their way, and all that there were.
#[derive(Default)]
struct Network {
    on_the_way: [Vec<Frame>; 2],
    all: [Vec<Frame>; 2],
}

impl Network {
    fn carry(&mut self, from: usize, frames: impl IntoIterator<Item = Frame>) {
        for frame in frames {
            self.all[from].push(frame.clone());
            self.on_the_way[from].push(frame);
        }
    }
}

fn at(index: prop::sample::Index, len: usize) -> Option<usize> {
    (len > 0).then(|| index.index(len))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn all_is_taken_once_and_in_order_whatever_the_network_does(
        steps in steps(), random in any::<u16>(),
    ) {
        let (mut ends, mut network, mut now) = ([End::new(1), End::new(2)], Network::default(), 0);
        for step in &steps {
            match step {
                Step::Put(side) => {
                    let end = &mut ends[usize::from(*side)];
                    end.put += 1;
                    end.queue.push_back((end.put, None));
                }
                Step::Deliver(side, index) => {
                    let from = usize::from(*side);
                    if let Some(at) = at(*index, network.on_the_way[from].len()) {
                        let frame = network.on_the_way[from].swap_remove(at);
                        let answer = ends[1 - from].receive(&frame, now, random);
                        network.carry(1 - from, answer);
                    }
                }
                Step::Lose(side, index) => {
                    let frames = &mut network.on_the_way[usize::from(*side)];
                    if let Some(at) = at(*index, frames.len()) {
                        frames.swap_remove(at);
                    }
                }
                Step::Replay(side, index) => {
                    let from = usize::from(*side);
                    if let Some(at) = at(*index, network.all[from].len()) {
                        let frame = network.all[from][at].clone();
                        network.on_the_way[from].push(frame);
                    }
                }
                Step::Wait(ms) => now += ms,
                Step::Kill(side) => {
                    let which = usize::from(*side);
                    let greeting = ends[which].restart(now);
                    network.carry(which, [greeting]);
                }
            }
            for (which, end) in ends.iter_mut().enumerate() {
                network.carry(which, end.send(now, random));
            }
        }
        settle(&mut ends, &mut network, now, random);
        for which in 0..2 {
            let all: Vec<_> = (1..=ends[which].put).collect();
            prop_assert_eq!(&ends[1 - which].taken, &all);
        }
    }

    #[test]
    fn a_peer_that_keeps_to_nothing_makes_nothing_grow(
        frames in prop::collection::vec(
            (0..14_u8, 0..9_usize, any::<bool>(), 0..4_usize, any::<bool>(), 0..20_000_u64), 1..300,
        ),
    ) {
        let seqs = [0, 1, 2, 3, 1_024, 1_025, 2_000, 5_000, (1 << 53) - 1];
        let (mut now, mut anew, mut mine) = (0, None, ServerLinkId::new([99; 16]));
        let mut peer = Peer::new(mine, Place::default());
        let mut unacknowledged = 0_u64;
        for (link, seq, has_items, ack, reset, later) in frames {
            now += later;
            unacknowledged = peer.put(50_000, now, 0).unwrap_or(unacknowledged);
            let items = if has_items && seq > 0 { vec![json!(1)] } else { vec![] };
            let frame = Frame {
                link: ServerLinkId::new([link; 16]),
                seq: seqs[seq],
                ack: (ack > 0).then(|| Ack { link: mine, seq: seqs[ack] }),
                reset: reset.then_some(mine),
                had: None,
                gives: None,
                items,
            };
            if peer.receive(frame, 50_000, now, 0, 300_000).begin_anew {
                let is_soon = anew.is_some_and(|anew| now < anew + 10_000);
                prop_assert!(!is_soon, "twice within ten seconds");
                (anew, mine, unacknowledged) = (Some(now), ServerLinkId::new([(now % 50) as u8 + 100; 16]), 0);
                peer.begin_anew(mine, now);
            }
            while peer.next().is_some() {
                peer.committed();
            }
            peer.owes_answer(now);
            prop_assert!(peer.waiting_bytes() <= 14 * 50_000 * 6);
            prop_assert!(peer.place().former.len() <= 8);
            prop_assert!((unacknowledged - peer.acknowledged()) * 50_000 <= 4 * 1024 * 1024);
        }
    }
}

/// From here on the network does its work.
fn settle(ends: &mut [End; 2], network: &mut Network, mut now: u64, random: u16) {
    for _ in 0..2_000 {
        for (which, end) in ends.iter_mut().enumerate() {
            network.carry(which, end.send(now, random));
        }
        for from in 0..2 {
            for frame in std::mem::take(&mut network.on_the_way[from]) {
                let answer = ends[1 - from].receive(&frame, now, random);
                network.carry(1 - from, answer);
            }
        }
        let is_quiet = network.on_the_way.iter().all(Vec::is_empty);
        if is_quiet && ends.iter().all(|end| end.queue.is_empty()) {
            return;
        }
        let is_sent = |end: &End| end.queue.iter().all(|(_, seq)| seq.is_some());
        if is_quiet && ends.iter().all(is_sent) {
            let due = ends.iter().filter_map(|end| end.peer.due_ms()).min();
            now = now.max(due.expect("something is due while something waits"));
        }
    }
    panic!("not settled: {:?}", ends.each_ref().map(|end| end.queue.len()));
}

fn frame_of(link: u8, seq: u64) -> Frame {
    let items = if seq == 0 { vec![] } else { vec![json!(seq)] };
    let link = ServerLinkId::new([link; 16]);
    Frame { link, seq, ack: None, reset: None, had: None, gives: None, items }
}

fn fresh() -> Peer {
    Peer::new(ServerLinkId::new([99; 16]), Place::default())
}

#[test]
fn what_becomes_of_a_frame() {
    let mut peer = fresh();
    let table = [
        (1, 2, Fate::Unknown),
        (1, 1, Fate::Waits),
        (1, 2, Fate::Repeated),
        (1, 0, Fate::Bare),
        (1, 1_024, Fate::Waits),
        (1, 1_025, Fate::Dropped),
        (2, 0, Fate::Bare),
        (1, 1, Fate::Former),
        (2, 1, Fate::Waits),
    ];
    for (link, seq, fate) in table {
        let received = peer.receive(frame_of(link, seq), 10, 0, 0, ROOM);
        assert_eq!(received.fate, fate, "{link} {seq}");
    }
    assert_eq!(peer.waiting_bytes(), 10, "what the replaced link left is gone");
}

#[test]
fn what_waits_is_bounded_and_what_is_next_always_fits() {
    let mut peer = fresh();
    peer.receive(frame_of(1, 0), 10, 0, 0, ROOM);
    let fates: Vec<_> =
        (2..=1_024).map(|seq| peer.receive(frame_of(1, seq), 60_000, 0, 0, ROOM).fate).collect();
    let held = fates.iter().filter(|fate| **fate == Fate::Waits).count();
    assert_eq!(held, 16 * 1024 * 1024 / 60_000);
    assert_eq!(peer.receive(frame_of(1, 1), 60_000, 0, 0, 0).fate, Fate::Waits);
    while peer.next().is_some() {
        peer.committed();
    }
    assert_eq!(peer.waiting_bytes(), 0);
    let taken = Ack { link: ServerLinkId::new([1; 16]), seq: held as u64 + 1 };
    assert_eq!(peer.frame(0, vec![], 0).ack, Some(taken));
    assert_eq!(peer.receive(frame_of(1, taken.seq + 2), 10, 0, 0, 9).fate, Fate::Dropped);
}

#[test]
fn a_frame_is_acknowledged_within_a_second_and_at_once_when_half_the_window_is_full() {
    let mut peer = fresh();
    for seq in 1..=511 {
        peer.receive(frame_of(1, seq), 10, 5_000, 0, ROOM);
    }
    assert_eq!(peer.due_ms(), Some(6_000));
    assert!(!peer.owes_answer(5_999));
    peer.receive(frame_of(1, 512), 10, 5_500, 0, ROOM);
    assert!(peer.owes_answer(5_500));
    peer.frame(0, vec![], 5_500);
    // Nothing more but that what waits is not taken.
    assert_eq!(peer.due_ms(), Some(125_000));
    assert!(!peer.owes_answer(u64::MAX));
}

#[test]
fn what_waits_while_nothing_is_taken_is_dropped_after_two_minutes() {
    let mut peer = fresh();
    peer.receive(frame_of(1, 0), 10, 0, 0, ROOM);
    for seq in 2..=9 {
        assert_eq!(peer.receive(frame_of(1, seq), 10, 1_000, 0, ROOM).fate, Fate::Waits);
    }
    peer.frame(0, vec![], 1_000);
    assert_eq!(peer.due_ms(), Some(121_000));
    peer.owes_answer(120_999);
    assert_eq!((peer.dropped(), peer.waiting_bytes()), (0, 80));
    peer.owes_answer(121_000);
    assert_eq!((peer.dropped(), peer.dropped(), peer.waiting_bytes()), (8, 0, 0));
    // Whoever goes on so has nothing more held, in a new link neither; what is of its turn is.
    let table = [
        (1, 3, Fate::Dropped),
        (2, 0, Fate::Bare),
        (2, 2, Fate::Dropped),
        (2, 1, Fate::Waits),
        (2, 3, Fate::Dropped),
    ];
    for (link, seq, fate) in table {
        let received = peer.receive(frame_of(link, seq), 10, 122_000, 0, ROOM);
        assert_eq!(received.fate, fate, "{link} {seq}");
    }
    peer.frame(0, vec![], 122_000);
    // What is of its turn stays however long that takes, and once it is taken all is as before.
    peer.owes_answer(500_000);
    assert_eq!((peer.dropped(), peer.waiting_bytes()), (0, 10));
    assert!(peer.next().is_some());
    peer.committed();
    assert_eq!(peer.receive(frame_of(2, 3), 10, 500_000, 0, ROOM).fate, Fate::Waits);
    assert_eq!(peer.due_ms(), Some(501_000));
    peer.frame(0, vec![], 501_000);
    assert_eq!(peer.due_ms(), Some(620_000));
}

#[test]
fn a_link_without_a_beginning_is_reset_after_thirty_seconds_and_not_often() {
    let mut peer = fresh();
    peer.receive(frame_of(1, 5), 10, 0, 0, ROOM);
    peer.receive(frame_of(2, 5), 10, 1_000, 0, ROOM);
    assert!(!peer.owes_answer(29_999));
    assert!(peer.owes_answer(30_000));
    assert_eq!(peer.frame(0, vec![], 30_000).reset, Some(ServerLinkId::new([1; 16])));
    assert!(!peer.owes_answer(31_000), "the second waits for its ten seconds");
    assert_eq!(peer.frame(0, vec![], 31_000).reset, None);
    assert!(peer.owes_answer(40_000));
    assert_eq!(peer.frame(0, vec![], 40_000).reset, Some(ServerLinkId::new([2; 16])));
    assert_eq!(peer.waiting_bytes(), 0);
}

#[test]
fn a_frame_before_which_something_is_missing_is_not_taken_until_that_was_given() {
    let mut peer = fresh();
    let stream = StreamId::new([5; 16]);
    let gives = |after, seq, since| Some(Box::new(Gives { stream, after, seq, since, gap: false }));
    let take = |peer: &mut Peer, link, seq, gives| {
        peer.receive(Frame { gives, ..frame_of(link, seq) }, 10, 0, 0, ROOM);
        let is_taken = peer.next().is_some();
        if is_taken {
            peer.committed();
        }
        is_taken
    };
    assert!(take(&mut peer, 1, 1, gives(0, 10, Some(Had::default()))));
    assert!(!take(&mut peer, 1, 2, gives(20, 30, None)));
    // It is answered, and says what is here.
    assert!(peer.owes_answer(1_000));
    let had = Had { stream: Some(stream), seq: 10 };
    let answer = peer.frame(0, vec![], 1_000);
    assert_eq!((answer.ack.unwrap().seq, answer.had), (1, Some(had)));
    // Upon which a new link gives what was missing.
    assert!(take(&mut peer, 2, 1, gives(10, 20, None)));
    assert!(take(&mut peer, 2, 2, gives(20, 30, None)));
    assert_eq!(peer.waiting_bytes(), 0);
    assert!(take(&mut peer, 2, 3, None), "what stands for nothing that is kept is taken as ever");
    assert_eq!(peer.place().had, Had { stream: Some(stream), seq: 30 });
}

//! Calls in virtual time: clients that come, go, crash, lie and hear late, on an SFU that fails.
//!
//! The world keeps its own account of who can hear whom; the rules are asked only what clients see.

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::{
    call::{Call, Caps, Effect, Event, Said, Topology, Who, rules},
    ids::Timestamp,
};
use proptest::prelude::*;

use crate::calls::{ALL, native};

/// Natives are 0 to 7, of whom the last lies; 8 and 9 are of Matrix.
const LIAR: u8 = 7;
const STEP: u64 = 500;
/// How long a connection may be in the making: the rules' 30 s, and how late clients are.
const MAKING: u64 = 35_000;

#[derive(Debug, Clone, Copy)]
enum Act {
    Join(u8, bool, bool),
    Leave(u8),
    Crash(u8),
    Back(u8),
    Sfu(bool),
    NewRoom,
    Unplug(u8),
    Part(u8, u8),
    Upgrade(u8, u8),
    Expect(u8),
    Lie(bool, bool, bool, u32),
}

fn acts() -> impl Strategy<Value = Vec<(u64, Act)>> {
    let act = prop_oneof![
        9 => (0..10_u8, prop::bool::weighted(0.9), prop::bool::weighted(0.2))
            .prop_map(|(n, sfu, may)| Act::Join(n, sfu, may)),
        4 => (0..10_u8).prop_map(Act::Leave),
        2 => (0..8_u8).prop_map(Act::Crash),
        2 => (0..8_u8).prop_map(Act::Back),
        2 => any::<bool>().prop_map(Act::Sfu),
        1 => Just(Act::NewRoom),
        1 => (0..10_u8).prop_map(Act::Unplug),
        1 => (0..8_u8, 0..8_u8).prop_map(|(a, b)| Act::Part(a, b)),
        1 => (0..8_u8, 0..8_u8).prop_map(|(a, b)| Act::Upgrade(a, b)),
        1 => (8..10_u8).prop_map(Act::Expect),
        3 => (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1), 0..3_u32)
            .prop_map(|(ready, all, no, behind)| Act::Lie(ready, all, no, behind)),
    ];
    let wait = prop_oneof![3 => 0..3_u64, 3 => 3..20_u64, 1 => 60..150_u64];
    prop::collection::vec((wait.prop_map(|s| s * 1000), act), 1..25)
}

fn who(n: u8) -> Who {
    if n < 8 { native(n + 1) } else { Who::Matrix(format!("@m{n}:m.example"), "D".into()) }
}

#[derive(Debug, Clone)]
struct Client {
    is_up: bool,
    sees: (u32, Topology),
    sees_at: u64,
    on_sfu: bool,
    /// Until when what it lacks is in the making.
    making: u64,
}

struct World {
    call: Call,
    now: u64,
    chance: u64,
    clients: BTreeMap<u8, Client>,
    links: BTreeSet<(u8, u8)>,
    parted: BTreeSet<(u8, u8)>,
    sfu_up: bool,
    room: bool,
    /// Until when a failure of the SFU explains silence among those it carried.
    failed: u64,
}

fn pair(a: u8, b: u8) -> (u8, u8) {
    (a.min(b), a.max(b))
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            call: Call::new(rules::MESH_MAX, true, Timestamp(0)),
            now: 0,
            chance: seed | 1,
            clients: BTreeMap::new(),
            links: BTreeSet::new(),
            parted: BTreeSet::new(),
            sfu_up: true,
            room: false,
            failed: 0,
        }
    }

    /// True once in `n`, from the seed.
    fn once_in(&mut self, n: u64) -> bool {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance.is_multiple_of(n)
    }

    fn take(&mut self, event: Event) -> bool {
        let before = self.call.clone();
        let Ok(change) = self.call.apply(event, Timestamp(self.now)) else {
            assert_eq!(self.call, before);
            return false;
        };
        for effect in change.effects {
            match effect {
                Effect::OpenRoom => self.room = true,
                Effect::CloseRoom => self.room = false,
                Effect::Remove(_) | Effect::PutOut(..) => {}
            }
        }
        let fell = before.topology != Topology::Mesh && self.call.topology == Topology::Mesh;
        let carried = matches!(before.topology, Topology::Sfu | Topology::Reconnecting);
        if fell && carried {
            self.failed = self.failed.max(self.now + MAKING);
        }
        if fell {
            // Who came on the way to the SFU, and stays, connects now.
            for (n, it) in &mut self.clients {
                if before.participants.get(&who(*n)).is_some_and(|it| !it.in_mesh) {
                    it.making = self.now + MAKING;
                }
            }
        }
        true
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Join(n, sfu, may_degrade) => {
                let caps = Caps { sfu: sfu || n >= 8, mesh: n < 8, may_degrade };
                if !self.call.participants.contains_key(&who(n))
                    && self.take(Event::Join(who(n), caps))
                {
                    let sees = (self.call.epoch, self.call.topology);
                    let making = self.now + MAKING;
                    let fresh =
                        Client { is_up: true, sees, sees_at: self.now, on_sfu: false, making };
                    self.clients.insert(n, fresh);
                }
            }
            Act::Leave(n) => drop(self.take(Event::Leave(who(n)))),
            Act::Crash(n) => {
                if let Some(it) = self.clients.get_mut(&n) {
                    (it.is_up, it.on_sfu) = (false, false);
                    self.links.retain(|(a, b)| *a != n && *b != n);
                    self.take(Event::Lost(who(n)));
                }
            }
            Act::Back(n) => {
                let making = self.now + MAKING;
                if let Some(it) = self.clients.get_mut(&n).filter(|it| !it.is_up) {
                    (it.is_up, it.making) = (true, making);
                    self.take(Event::Back(who(n)));
                }
            }
            Act::Sfu(up) => {
                self.sfu_up = up;
                self.take(if up { Event::SfuUp } else { Event::SfuDown });
                self.failed = self.failed.max(self.now + MAKING);
            }
            Act::NewRoom => {
                self.take(Event::NewRoom);
                for it in self.clients.values_mut().filter(|it| it.on_sfu) {
                    (it.on_sfu, it.making) = (false, self.now + MAKING);
                }
            }
            Act::Unplug(n) => {
                let making = self.now + MAKING;
                if let Some(it) = self.clients.get_mut(&n).filter(|it| it.on_sfu)
                    && self.call.topology == Topology::Sfu
                {
                    (it.on_sfu, it.making) = (false, making);
                }
            }
            Act::Part(a, b) => {
                // A link that stands does not break in this world; one that does not may never come.
                if a != b && !self.links.contains(&pair(a, b)) {
                    self.parted.insert(pair(a, b));
                }
            }
            Act::Upgrade(a, b) => drop(self.take(Event::Upgrade(who(a), who(b)))),
            Act::Expect(n) => drop(self.take(Event::Expect(who(n)))),
            Act::Lie(ready, all, declined, behind) => {
                let connected = if all { (0..10).map(who).collect() } else { BTreeSet::new() };
                let said = Said { connected, ready, declined };
                let epoch = self.call.epoch.saturating_sub(behind);
                self.take(Event::Report(who(LIAR), epoch, said));
            }
        }
    }

    /// Half a second: clients see, connect, let go, and say so; some of it late or never.
    fn go_on(&mut self) {
        self.now += STEP;
        self.take(Event::Tick);
        let call = self.call.clone();
        self.clients.retain(|n, _| call.participants.contains_key(&who(*n)));
        let those: Vec<u8> = self.clients.keys().copied().collect();
        self.links.retain(|(a, b)| those.contains(a) && those.contains(b));
        for n in &those {
            let (hears, connects) = (!self.once_in(3), self.once_in(6));
            let usable = self.sfu_up && self.room;
            let Some(it) = self.clients.get_mut(n).filter(|it| it.is_up) else { continue };
            if it.sees.0 != call.epoch && (hears || it.sees_at + 2_000 < self.now) {
                (it.sees, it.sees_at) = ((call.epoch, call.topology), self.now);
            } else if it.sees.0 == call.epoch {
                it.sees_at = self.now;
            }
            let wanted = it.sees.1 != Topology::Mesh;
            let able = call.participants.get(&who(*n)).is_some_and(|of| of.caps.sfu);
            it.on_sfu = usable && able && wanted && (it.on_sfu || connects);
            if it.sees.1 == Topology::Sfu {
                self.links.retain(|(a, b)| a != n && b != n);
            }
        }
        self.link(&those);
        self.tell(&those);
    }

    fn link(&mut self, those: &[u8]) {
        let can =
            |it: &Client| it.is_up && !matches!(it.sees.1, Topology::Sfu | Topology::Reconnecting);
        for (a, b) in those.iter().flat_map(|a| those.iter().map(move |b| (*a, *b))) {
            let both = [a, b].map(|n| n < 8 && self.clients.get(&n).is_some_and(can));
            let placed = [a, b].map(|n| self.call.participants[&who(n)].in_mesh);
            let open = self.call.topology == Topology::Shrink || placed == [true, true];
            if a < b
                && both == [true, true]
                && open
                && !self.parted.contains(&(a, b))
                && self.once_in(4)
            {
                self.links.insert((a, b));
            }
        }
    }

    fn tell(&mut self, those: &[u8]) {
        if self.sfu_up && self.room {
            let up = those.iter().filter(|n| self.clients[n].on_sfu).map(|n| who(*n)).collect();
            self.take(Event::Shown(up));
        }
        for n in those.iter().filter(|n| **n < 8 && **n != LIAR) {
            let it = self.clients[n].clone();
            if !it.is_up || self.once_in(3) {
                continue;
            }
            let linked = those.iter().filter(|m| self.links.contains(&pair(*n, **m)));
            let said = Said {
                connected: linked.map(|m| who(*m)).collect(),
                ready: it.on_sfu,
                declined: false,
            };
            self.take(Event::Report(who(*n), it.sees.0, said));
        }
    }

    /// Each pair of honest ones who are there hears each other, or is one of the cases of the rules.
    fn check(&self) {
        let honest: Vec<_> =
            self.clients.iter().filter(|(n, it)| **n != LIAR && it.is_up).collect();
        for ((a, one), (b, other)) in
            honest.iter().flat_map(|x| honest.iter().map(move |y| (*x, *y)))
        {
            let hears = one.on_sfu && other.on_sfu || self.links.contains(&pair(*a, *b));
            if a >= b || hears {
                continue;
            }
            let is_made = one.making.max(other.making) >= self.now;
            let topology = self.call.topology;
            let in_mesh =
                [a, b].map(|n| self.call.participants.get(&who(*n)).is_some_and(|it| it.in_mesh));
            let warm = matches!(topology, Topology::Mesh | Topology::Prepare | Topology::Dual);
            let never = warm && self.parted.contains(&pair(*a, *b));
            let is_carried = !(warm && in_mesh == [true, true]);
            let is_down =
                is_carried && !self.sfu_up && topology != Topology::Mesh || self.failed >= self.now;
            assert!(is_made || never || is_down, "{a} and {b} at {} in {:#?}", self.now, self.call);
        }
    }

    fn go(&mut self, ms: u64) {
        for _ in 0..ms / STEP {
            self.go_on();
            self.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn each_hears_each_or_it_is_a_case_of_the_rules(acts in acts(), seed in any::<u64>()) {
        let mut world = World::new(seed);
        for (wait, act) in acts {
            world.act(act);
            world.go(wait);
        }
        // When the SFU is well and nobody does anything, it comes to rest where something carries it.
        world.act(Act::Sfu(true));
        for _ in 0..8 {
            world.go(30_000);
            if matches!(world.call.topology, Topology::Mesh | Topology::Sfu | Topology::Ended(_)) {
                break;
            }
        }
        let rests = matches!(world.call.topology, Topology::Mesh | Topology::Sfu | Topology::Ended(_));
        prop_assert!(rests, "{:#?}", world.call);
        // And when all are gone it ends, by its deadlines alone.
        for n in 0..10 {
            world.take(if n < 8 { Event::Lost(who(n)) } else { Event::Leave(who(n)) });
        }
        let mut steps = 0;
        while let Some(at) = world.call.deadline(Timestamp(world.now)) {
            prop_assert!(at.0 > world.now && steps < 100, "{:#?}", world.call);
            (world.now, steps) = (at.0, steps + 1);
            world.take(Event::Tick);
        }
        prop_assert!(world.call.is_over());
    }

    #[test]
    fn nothing_is_due_before_the_deadline(acts in acts(), seed in any::<u64>()) {
        let mut world = World::new(seed);
        for (wait, act) in acts {
            world.act(act);
            for _ in 0..wait / STEP {
                let due = world.call.deadline(Timestamp(world.now));
                let before = due.map_or(u64::MAX, |at| at.0 - 1).min(world.now + 3_600_000);
                let mut early = world.call.clone();
                let change = early.apply(Event::Tick, Timestamp(before)).unwrap();
                prop_assert!(!change.changed, "{:#?} at {before}, due {due:?}: {early:#?}", world.call);
                world.go_on();
            }
        }
    }
}

#[test]
fn a_walk_is_not_all_rest() {
    let mut world = World::new(3);
    (0..5).for_each(|n| world.act(Act::Join(n, true, false)));
    world.go(40_000);
    assert_eq!((world.call.topology, ALL.mesh), (Topology::Sfu, true));
    (3..5).for_each(|n| world.act(Act::Leave(n)));
    world.go(200_000);
    assert_eq!(world.call.topology, Topology::Mesh);
}

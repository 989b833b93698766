//! How much the rules of a call take: walks from the mesh to the SFU and back, and what 5 and 100 say in a
//! call that the SFU carries.
//!
//! `cargo bench -p causeway-protocol --bench calls`. One thread; the best and the middle of the runs.
#![cfg(test)]

use std::time::Instant;

use causeway_protocol::{
    call::{Call, Caps, Event, Said, Topology, Who, rules},
    ids::{DeviceId, Timestamp},
};

const RUNS: usize = 15;
const WALKS: u32 = 200;
const CAPS: Caps = Caps { mesh: true, sfu: true, may_degrade: false };

fn main() {
    println!("{:<40}{:>14}{:>14}{:>12}", "", "events/s", "middle", "transitions/s");
    row("mesh, server, mesh: a fifth comes and goes", || {
        let mut done = Done::default();
        (0..WALKS).for_each(|_| walk(&mut done));
        done
    });
    for people in [5, 100] {
        let mut call = carried(people);
        row(&format!("{people} on the server say that they are ready"), move || reports(&mut call));
    }
}

/// What was done: events, and steps of what carries the call.
#[derive(Default)]
struct Done {
    events: u32,
    steps: u32,
}

fn row(what: &str, mut run: impl FnMut() -> Done) {
    let mut rates = Vec::new();
    for _ in 0..RUNS {
        #[expect(clippy::disallowed_methods, reason = "what is measured is how long it takes")]
        let began = Instant::now();
        let done = run();
        let took = began.elapsed().as_secs_f64();
        rates.push((f64::from(done.events) / took, f64::from(done.steps) / took));
    }
    rates.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (best, middle) = (rates[RUNS - 1], rates[RUNS / 2]);
    println!("{what:<40}{:>14.0}{:>14.0}{:>12.0}", best.0, middle.0, middle.1);
}

/// A call and its time, in seconds.
struct Stage<'a> {
    call: Call,
    at: u64,
    done: &'a mut Done,
}

impl Stage<'_> {
    fn take(&mut self, event: Event) {
        let before = self.call.epoch;
        self.call.apply(event, Timestamp(self.at * 1_000)).expect("is allowed");
        self.done.events += 1;
        self.done.steps += self.call.epoch - before;
    }

    fn all_say(&mut self, ready: bool) {
        let all: Vec<_> = self.call.participants.keys().cloned().collect();
        for who in &all {
            let connected = all.iter().filter(|it| *it != who).cloned().collect();
            let said = Said { connected, ready, declined: false };
            self.take(Event::Report(who.clone(), self.call.epoch, said));
        }
    }

    fn all_are_shown(&mut self) {
        let all = self.call.participants.keys().cloned().collect();
        self.take(Event::Shown(all));
    }

    fn wait(&mut self, seconds: u64) {
        self.at += seconds;
        self.take(Event::Tick);
    }
}

fn who(n: u8) -> Who {
    Who::Native(DeviceId::new([n; 32]))
}

fn walk(done: &mut Done) {
    let call = Call::new(rules::MESH_MAX, true, Timestamp(0));
    let mut stage = Stage { call, at: 0, done };
    for n in 1..=4 {
        stage.take(Event::Join(who(n), CAPS));
    }
    stage.all_say(false);
    stage.take(Event::Join(who(5), CAPS));
    stage.all_are_shown();
    stage.all_say(true);
    stage.wait(2);
    assert_eq!(stage.call.topology, Topology::Sfu);
    stage.take(Event::Leave(who(5)));
    stage.take(Event::Leave(who(4)));
    stage.all_are_shown();
    stage.wait(1_000);
    assert_eq!(stage.call.topology, Topology::Shrink);
    stage.all_say(true);
    stage.wait(2);
    assert_eq!(stage.call.topology, Topology::Mesh);
}

fn carried(people: u8) -> Call {
    let call = Call::new(rules::MESH_MAX, true, Timestamp(0));
    let mut done = Done::default();
    let mut stage = Stage { call, at: 0, done: &mut done };
    for n in 1..=people {
        stage.take(Event::Join(who(n), CAPS));
    }
    stage.all_are_shown();
    stage.all_say(true);
    stage.wait(2);
    assert_eq!(stage.call.topology, Topology::Sfu);
    stage.call
}

/// Each says one after the other that it is not, and that it is.
fn reports(call: &mut Call) -> Done {
    let mut done = Done::default();
    let mut stage = Stage { call: call.clone(), at: 3, done: &mut done };
    let all: Vec<_> = call.participants.keys().cloned().collect();
    for ready in [false, true] {
        for who in &all {
            let said = Said { ready, ..Said::default() };
            stage.take(Event::Report(who.clone(), stage.call.epoch, said));
        }
    }
    *call = stage.call;
    done
}

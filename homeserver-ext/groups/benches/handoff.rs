//! What is heard while a call goes from a mesh to a server and back: four devices in one process, and
//! a fifth that comes; a real LiveKit, over the loopback.
//!
//! `cargo bench -p causeway-groups --bench handoff`. Each device says a steady tone without pauses, so
//! that whatever does not come is missed. A gap is the time between two packets that follow each
//! other, whichever way brought them; packets are 20 ms apart.
#![cfg(test)]

#[path = "../tests/it/calls/home.rs"]
mod home;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use causeway_groups::calls::{
    Giving, Happened, Input, Mesh, Named, Quality, Served, Settings, Signal, Sink, Source,
};
use causeway_protocol::ids::DeviceId;
use home::Home;
use rustix::time::{ClockId, clock_gettime};
use tokio::{sync::mpsc, task::JoinSet};

/// Unless `CAUSEWAY_BENCH_RUNS` says otherwise.
const RUNS: usize = 20;
/// The longest gap that is wanted, in milliseconds.
const GAP: f64 = 60.0;
const ROOM: &str = "a-call";
const FOUR: u8 = 4;

/// What one run showed: milliseconds, packets that never came, and the share of a core of each.
#[derive(Default)]
struct Run {
    carried: f64,
    before: f64,
    there: f64,
    clear: f64,
    back: f64,
    missed: u32,
    packets: u32,
    core: f64,
}

#[tokio::main]
async fn main() {
    let home = Home::with_room(ROOM).await;
    let folder = tempfile::tempdir().expect("a folder");
    let tone = folder.path().join("tone.wav");
    std::fs::write(&tone, steady_tone()).expect("is written");
    let wanted = std::env::var("CAUSEWAY_BENCH_RUNS").ok().and_then(|runs| runs.parse().ok());
    let count = wanted.unwrap_or(RUNS).max(1);
    let mut runs = Vec::new();
    for number in 1..=count {
        let run = run(&home, &tone).await;
        let Run { before, there, clear, back, missed, .. } = &run;
        eprintln!(
            "run {number} of {count}: gaps of {before:.0}, {there:.0}, {clear:.0}, {back:.0} ms; \
             {missed} packets never came"
        );
        runs.push(run);
        home.until_empty(ROOM).await;
    }
    println!("{:<44}{:>12}{:>12}{:>12}", "", "median", "longest", "over 60");
    let print = |what: &str, of: fn(&Run) -> f64| {
        let mut all: Vec<_> = runs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        let over = if what.contains("gap") {
            all.iter().filter(|it| **it > GAP).count().to_string()
        } else {
            "-".to_owned()
        };
        println!("{what:<44}{:>12.1}{:>12.1}{over:>12}", all[count / 2], all[count - 1]);
    };
    print("all five heard by the server, ms", |run| run.carried);
    print("largest gap in the mesh alone, ms", |run| run.before);
    print("largest gap on the way to the server, ms", |run| run.there);
    print("largest gap while it turns to the clear, ms", |run| run.clear);
    print("largest gap on the way back, ms", |run| run.back);
    print("CPU of each, % of a core", |run| run.core);
    let sum = |of: fn(&Run) -> u32| runs.iter().map(of).sum::<u32>();
    println!(
        "{count} runs; of {} packets of the first four {} never came",
        sum(|run| run.packets),
        sum(|run| run.missed)
    );
}

/// The devices, and what was heard of them.
struct Call {
    inputs: Vec<mpsc::Sender<Input>>,
    meshes: JoinSet<()>,
    news: mpsc::Receiver<(u8, Happened)>,
    to_news: mpsc::Sender<(u8, Happened)>,
    pairs: BTreeMap<u8, usize>,
    brought: BTreeMap<u8, usize>,
    /// Half seconds in which each heard somebody.
    halves: BTreeMap<u8, u32>,
    gap: Duration,
    missed: u32,
    packets: u32,
}

async fn run(home: &Home, tone: &Path) -> Run {
    let mut call = Call::new();
    for n in 0..FOUR {
        call.join(n, tone);
    }
    call.mesh(1, FOUR).await;
    call.until(|call| (0..FOUR).all(|n| call.pairs.get(&n) == Some(&3))).await;
    // What was said while others were still being connected is nobody's.
    call.listen(2).await;
    call.gap = Duration::ZERO;
    (call.missed, call.packets) = (0, 0);
    call.listen(4).await;
    let before = ms(std::mem::take(&mut call.gap));

    call.join(FOUR, tone);
    let (began, cpu) = (now(), cpu_time());
    call.named(2, FOUR + 1).await;
    for n in 0..=FOUR {
        let access = home.access(ROOM, &identity(n));
        call.tell(n, Input::Server(Some(access.into()))).await;
    }
    call.until(|call| (0..=FOUR).all(|n| call.brought.get(&n) == Some(&4))).await;
    let carried = ms(now().saturating_sub(began));
    call.named(3, FOUR + 1).await;
    call.listen(4).await;
    call.named(4, FOUR + 1).await;
    call.mesh(4, 0).await;
    call.listen(4).await;
    let there = ms(std::mem::take(&mut call.gap));
    let took =
        cpu_time().saturating_sub(cpu).as_secs_f64() / now().saturating_sub(began).as_secs_f64();

    // One of Matrix comes, and goes again.
    let mut clear = Duration::ZERO;
    for is_sealed in [false, true] {
        call.gap = Duration::ZERO;
        for n in 0..=FOUR {
            call.tell(n, Input::Seal(is_sealed)).await;
        }
        // The former track ends within that.
        call.listen(10).await;
        clear = clear.max(call.gap);
    }
    let clear = ms(clear);
    call.gap = Duration::ZERO;

    call.tell(FOUR, Input::Leave).await;
    call.pairs.clear();
    call.named(5, FOUR).await;
    call.mesh(5, FOUR).await;
    call.until(|call| (0..FOUR).all(|n| call.pairs.get(&n) == Some(&3))).await;
    call.listen(4).await;
    for n in 0..FOUR {
        call.tell(n, Input::Server(None)).await;
    }
    call.listen(4).await;
    let back = ms(call.gap);
    let (missed, packets) = (call.missed, call.packets);
    call.end().await;
    let core = 100.0 * took / f64::from(FOUR + 1);
    Run { carried, before, there, clear, back, missed, packets, core }
}

impl Call {
    fn new() -> Self {
        let (to_news, news) = mpsc::channel(1000);
        Self {
            inputs: Vec::new(),
            meshes: JoinSet::new(),
            news,
            to_news,
            pairs: BTreeMap::new(),
            brought: BTreeMap::new(),
            halves: BTreeMap::new(),
            gap: Duration::ZERO,
            missed: 0,
            packets: 0,
        }
    }

    fn join(&mut self, n: u8, tone: &Path) {
        let settings =
            Settings { bind: ([127, 0, 0, 1], 0).into(), dtx: false, ..Settings::default() };
        let source = Source::wav(tone).expect("a file");
        let (mesh, inputs, mut happened) =
            Mesh::new(device(n), settings, source, Sink::Nowhere).expect("a mesh");
        self.inputs.push(inputs);
        self.meshes.spawn(async move { mesh.run().await.expect("runs") });
        let to_news = self.to_news.clone();
        self.meshes.spawn(async move {
            while let Some(happened) = happened.recv().await {
                to_news.send((n, happened)).await.ok();
            }
        });
    }

    async fn tell(&self, n: u8, input: Input) {
        self.inputs[usize::from(n)].send(input).await.expect("is there");
    }

    /// Each of so many talks to each.
    async fn mesh(&self, epoch: u32, devices: u8) {
        for n in 0..FOUR {
            let devices = (0..devices).map(device).collect();
            self.tell(n, Input::Participants { epoch, devices }).await;
        }
    }

    /// So many take part by the server.
    async fn named(&self, epoch: u32, devices: u8) {
        let name = |n| Named {
            device: device(n),
            identity: identity(n),
            focus: None,
            since: 0,
            has_keys: true,
        };
        for n in 0..devices {
            let who = (0..devices).map(name).collect();
            self.tell(n, Input::Named { epoch, who }).await;
        }
    }

    /// So many half seconds of sound.
    async fn listen(&mut self, halves: u32) {
        self.halves.clear();
        self.until(|call| (0..FOUR).all(|n| call.halves.get(&n) >= Some(&halves))).await;
    }

    async fn until(&mut self, so: impl Fn(&Self) -> bool) {
        while !so(self) {
            let (n, happened) = self.news.recv().await.expect("they talk");
            self.take(n, happened).await;
        }
    }

    async fn take(&mut self, n: u8, happened: Happened) {
        match happened {
            Happened::Say { to, epoch, signal } => {
                let peer = to.as_bytes()[0];
                // It may have left.
                let key = if let Signal::Key { index, .. } = &signal { Some(*index) } else { None };
                let input = Input::Signal { from: device(n), epoch, signal };
                self.inputs[usize::from(peer)].send(input).await.ok();
                if let Some(index) = key {
                    let given = Input::Given { to, index, giving: Giving::Done };
                    self.inputs[usize::from(n)].send(given).await.ok();
                }
            }
            Happened::Progress(connected, _) => {
                self.pairs.insert(n, connected);
            }
            Happened::Served(Served::Brings(brought)) => {
                self.brought.insert(n, brought.heard.len());
            }
            Happened::Quality(qualities) => self.quality(n, &qualities),
            _ => {}
        }
    }

    fn quality(&mut self, n: u8, qualities: &BTreeMap<DeviceId, Quality>) {
        let four: BTreeSet<_> = (0..FOUR).map(device).collect();
        if n == FOUR || qualities.is_empty() {
            return;
        }
        *self.halves.entry(n).or_default() += 1;
        for (_, quality) in qualities.iter().filter(|(from, _)| four.contains(from)) {
            self.gap = self.gap.max(quality.gap);
            self.missed += quality.skipped;
            self.packets += quality.played;
        }
    }

    async fn end(mut self) {
        for input in &self.inputs {
            // The fifth has left.
            input.send(Input::Leave).await.ok();
        }
        drop((self.inputs, self.to_news));
        while self.news.recv().await.is_some() {}
        while self.meshes.join_next().await.is_some() {}
    }
}

fn identity(n: u8) -> String {
    format!("who-{n}")
}

/// A minute of 440 Hz.
fn steady_tone() -> Vec<u8> {
    let rate = 48_000_u32;
    let bytes = 60 * rate * 2;
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    file.extend([rate.to_le_bytes(), (rate * 2).to_le_bytes()].concat());
    file.extend(b"\x02\0\x10\0data");
    file.extend(bytes.to_le_bytes());
    file.extend((0..60 * rate).flat_map(|n| {
        let phase = std::f64::consts::TAU * 440.0 * f64::from(n) / f64::from(rate);
        sample(phase.sin() * 9_000.0).to_le_bytes()
    }));
    file
}

#[expect(clippy::cast_possible_truncation, reason = "below 9,000")]
fn sample(value: f64) -> i16 {
    value as i16
}

fn device(n: u8) -> DeviceId {
    DeviceId::new([n; 32])
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn now() -> Duration {
    clock(ClockId::Monotonic)
}

fn cpu_time() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("below a billion"))
}

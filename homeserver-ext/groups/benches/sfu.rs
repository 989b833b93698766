//! How soon it sounds by a server, and what that costs: 5 and 20 devices in one process, and a real LiveKit,
//! over the loopback.
//!
//! `cargo bench -p causeway-groups --bench sfu [-- DEVICES…]`. All are there; one speaks at a time, without
//! pauses, until each of the others has heard it. CPU time is of the whole process, for all of its devices.
#![cfg(test)]

#[path = "../tests/it/calls/home.rs"]
mod home;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use causeway_groups::calls::{
    Giving, Happened, Heard, Input, Mesh, Named, Served, Settings, Signal, Sink, Source,
};
use causeway_protocol::ids::DeviceId;
use home::Home;
use rustix::time::{ClockId, clock_gettime};
use tokio::{sync::mpsc, task::JoinSet};

const RUNS: usize = 5;
const ROOM: &str = "a-call";
/// Frames that each hears of the one who speaks while CPU time is told: six seconds.
const FRAMES: usize = 300;

/// What comes of one run, in milliseconds, and the share of a core that each device took.
struct Run {
    published: f64,
    first: f64,
    all: f64,
    core: f64,
}

enum News {
    Happened(Happened),
    Heard(Box<Heard>),
}

#[tokio::main]
async fn main() {
    let asked: Vec<u8> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if asked.is_empty() { vec![5, 20] } else { asked };
    let home = Home::with_room(ROOM).await;
    let folder = tempfile::tempdir().expect("a folder");
    let tone = folder.path().join("tone.wav");
    std::fs::write(&tone, steady_tone()).expect("is written");
    println!(
        "{:<8}{:>22}{:>24}{:>26}{:>20}",
        "devices", "all let in", "the first is heard", "each has heard each", "CPU of each"
    );
    for devices in sizes {
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(Call::run(&home, devices, &tone).await);
            home.until_empty(ROOM).await;
        }
        let of = |what: fn(&Run) -> f64| {
            let mut all: Vec<_> = runs.iter().map(what).collect();
            all.sort_by(f64::total_cmp);
            (all[RUNS / 2], all[RUNS - 1])
        };
        let (published, first) = (of(|run| run.published), of(|run| run.first));
        let (all, core) = (of(|run| run.all), of(|run| run.core));
        println!(
            "{devices:<8}{:>10.0} / {:>6.0} ms{:>12.0} / {:>6.0} ms{:>14.0} / {:>6.0} ms{:>10.1} / {:>4.1} %",
            published.0, published.1, first.0, first.1, all.0, all.1, core.0, core.1
        );
    }
    println!("median / longest of {RUNS} runs, from when they are told of the server");
}

struct Call {
    inputs: Vec<mpsc::Sender<Input>>,
    news: mpsc::Receiver<(u8, News)>,
    published: BTreeSet<u8>,
    /// Frames with sound that one heard of another.
    heard: BTreeMap<(u8, u8), usize>,
}

impl Call {
    async fn run(home: &Home, devices: u8, tone: &Path) -> Run {
        let (to_news, news) = mpsc::channel(10_000);
        let mut meshes = JoinSet::new();
        let mut call =
            Self { inputs: Vec::new(), news, published: BTreeSet::new(), heard: BTreeMap::new() };
        for n in 0..devices {
            let (to_heard, mut heard) = mpsc::channel(1_000);
            let settings =
                Settings { bind: ([127, 0, 0, 1], 0).into(), dtx: false, ..Settings::default() };
            let source = Source::wav(tone).expect("a file");
            let (mesh, inputs, mut happened) =
                Mesh::new(device(n), settings, source, Sink::Each(to_heard)).expect("a mesh");
            inputs.send(Input::Mute(true)).await.expect("is there");
            call.inputs.push(inputs);
            meshes.spawn(async move { mesh.run().await.expect("runs") });
            let to_news = to_news.clone();
            meshes.spawn(async move {
                loop {
                    let next = tokio::select! {
                        Some(happened) = happened.recv() => News::Happened(happened),
                        Some(heard) = heard.recv() => News::Heard(Box::new(heard)),
                        else => break,
                    };
                    to_news.send((n, next)).await.ok();
                }
            });
        }
        drop(to_news);
        let run = call.measure(home, devices).await;
        for input in &call.inputs {
            input.send(Input::Leave).await.expect("is there");
        }
        call.inputs.clear();
        while call.news.recv().await.is_some() {}
        while meshes.join_next().await.is_some() {}
        run
    }

    async fn measure(&mut self, home: &Home, devices: u8) -> Run {
        let name = |n| Named {
            device: device(n),
            identity: identity(n),
            focus: None,
            since: 0,
            has_keys: true,
        };
        let who: Vec<_> = (0..devices).map(name).collect();
        self.tell(0, Input::Mute(false)).await;
        let began = now();
        for n in 0..devices {
            self.tell(n, Input::Named { epoch: 1, who: who.clone() }).await;
            let access = home.access(ROOM, &identity(n));
            self.tell(n, Input::Server(Some(access.into()))).await;
        }
        self.until(|call| call.published.len() == usize::from(devices)).await;
        let published = ms(now().saturating_sub(began));
        self.until_heard(0, devices, 1).await;
        let first = ms(now().saturating_sub(began));
        for speaker in 1..devices {
            self.tell(speaker - 1, Input::Mute(true)).await;
            self.tell(speaker, Input::Mute(false)).await;
            self.until_heard(speaker, devices, 1).await;
        }
        let all = ms(now().saturating_sub(began));
        let (from, cpu) = (now(), cpu_time());
        self.until_heard(devices - 1, devices, FRAMES).await;
        let took =
            cpu_time().saturating_sub(cpu).as_secs_f64() / now().saturating_sub(from).as_secs_f64();
        Run { published, first, all, core: 100.0 * took / f64::from(devices) }
    }

    async fn tell(&self, n: u8, input: Input) {
        self.inputs[usize::from(n)].send(input).await.expect("is there");
    }

    async fn until_heard(&mut self, speaker: u8, devices: u8, frames: usize) {
        let heard = |call: &Self, n| call.heard.get(&(n, speaker)) >= Some(&frames);
        self.until(|call| (0..devices).all(|n| n == speaker || heard(call, n))).await;
    }

    async fn until(&mut self, so: impl Fn(&Self) -> bool) {
        while !so(self) {
            match self.news.recv().await.expect("they talk") {
                (n, News::Happened(Happened::Say { to, epoch, signal })) => {
                    let peer = usize::from(to.as_bytes()[0]);
                    let key =
                        if let Signal::Key { index, .. } = &signal { Some(*index) } else { None };
                    let input = Input::Signal { from: device(n), epoch, signal };
                    self.inputs[peer].send(input).await.expect("is there");
                    if let Some(index) = key {
                        let given = Input::Given { to, index, giving: Giving::Done };
                        self.inputs[usize::from(n)].send(given).await.expect("is there");
                    }
                }
                (n, News::Happened(Happened::Served(Served::Published))) => {
                    self.published.insert(n);
                }
                (_, News::Happened(_)) => {}
                (n, News::Heard(sound)) => {
                    if sound.sound.iter().any(|sample| sample.abs() > 0.1) {
                        *self.heard.entry((n, sound.from.as_bytes()[0])).or_default() += 1;
                    }
                }
            }
        }
    }
}

fn identity(n: u8) -> String {
    format!("who-{n}")
}

/// Two minutes of 440 Hz.
fn steady_tone() -> Vec<u8> {
    let rate = 48_000_u32;
    let bytes = 120 * rate * 2;
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    file.extend([rate.to_le_bytes(), (rate * 2).to_le_bytes()].concat());
    file.extend(b"\x02\0\x10\0data");
    file.extend(bytes.to_le_bytes());
    file.extend((0..120 * rate).flat_map(|n| {
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

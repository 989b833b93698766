//! What a mesh costs, and how soon it sounds: two to four devices in one process, over the loopback.
//!
//! `cargo bench -p causeway-groups --bench mesh`. Each device says a steady tone and takes in what the
//! others say; CPU time is of the whole process, for all of its devices.
#![cfg(test)]

use std::{collections::BTreeSet, path::Path, time::Duration};

use causeway_groups::calls::{Happened, Heard, Input, Mesh, Settings, Sink, Source};
use causeway_protocol::ids::DeviceId;
use rustix::time::{ClockId, clock_gettime};
use tokio::{sync::mpsc, task::JoinSet};

const RUNS: usize = 7;
/// Frames of sound that each hears from each before CPU time is told: some six seconds of talk.
const FRAMES: usize = 300;

/// What comes of one run, in milliseconds, and the share of a core that each device took.
struct Run {
    connected: f64,
    heard: f64,
    core: f64,
}

#[tokio::main]
async fn main() {
    println!(
        "{:<10}{:>22}{:>26}{:>20}",
        "devices", "all connected", "all heard each other", "CPU of each"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let tone = folder.path().join("tone.wav");
    std::fs::write(&tone, steady_tone()).expect("is written");
    for devices in 2..=4 {
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(run(devices, &tone).await);
        }
        let of = |what: fn(&Run) -> f64| {
            let mut all: Vec<_> = runs.iter().map(what).collect();
            all.sort_by(f64::total_cmp);
            (all[RUNS / 2], all[RUNS - 1])
        };
        let (connected, heard, core) =
            (of(|run| run.connected), of(|run| run.heard), of(|run| run.core));
        println!(
            "{devices:<10}{:>10.0} / {:>6.0} ms{:>14.0} / {:>6.0} ms{:>10.1} / {:>4.1} %",
            connected.0, connected.1, heard.0, heard.1, core.0, core.1
        );
    }
    println!("median / longest of {RUNS} runs");
}

enum News {
    Happened(Happened),
    Heard(Box<Heard>),
}

async fn run(devices: u8, tone: &Path) -> Run {
    let (to_news, mut news) = mpsc::channel(1000);
    let mut meshes = JoinSet::new();
    let mut inputs = Vec::new();
    for n in 0..devices {
        let (to_heard, mut heard) = mpsc::channel(100);
        let settings = Settings { bind: ([127, 0, 0, 1], 0).into(), ..Settings::default() };
        let source = Source::wav(tone).expect("a file");
        let (mesh, to_mesh, mut happened) =
            Mesh::new(device(n), settings, source, Sink::Each(to_heard)).expect("a mesh");
        inputs.push(to_mesh);
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
    let began = now();
    for input in &inputs {
        let devices = (0..devices).map(device).collect();
        input.send(Input::Participants { epoch: 1, devices }).await.expect("is there");
    }
    let result = listen(devices, &inputs, &mut news, began).await;
    for input in &inputs {
        input.send(Input::Leave).await.expect("is there");
    }
    drop((inputs, to_news));
    // Goodbyes go nowhere: the others leave as well.
    while news.recv().await.is_some() {}
    while meshes.join_next().await.is_some() {}
    result
}

async fn listen(
    devices: u8,
    inputs: &[mpsc::Sender<Input>],
    news: &mut mpsc::Receiver<(u8, News)>,
    began: Duration,
) -> Run {
    let directions = usize::from(devices) * (usize::from(devices) - 1);
    let (mut links, mut heard, mut frames) = (0, BTreeSet::new(), 0);
    let (mut connected, mut all_heard, mut cpu) = (0.0, 0.0, (Duration::ZERO, Duration::ZERO));
    while frames < FRAMES * directions {
        match news.recv().await.expect("they talk") {
            (n, News::Happened(Happened::Say { to, epoch, signal })) => {
                let to = &inputs[usize::from(to.as_bytes()[0])];
                to.send(Input::Signal { from: device(n), epoch, signal }).await.expect("is there");
            }
            (_, News::Happened(Happened::Connected(_))) => {
                links += 1;
                if links == directions {
                    connected = ms(now().saturating_sub(began));
                }
            }
            (_, News::Happened(_)) => {}
            (n, News::Heard(sound)) => {
                let is_tone = sound.sound.iter().any(|sample| sample.abs() > 0.1);
                if is_tone && heard.insert((n, sound.from)) && heard.len() == directions {
                    all_heard = ms(now().saturating_sub(began));
                    cpu = (now(), cpu_time());
                }
                frames += usize::from(heard.len() == directions);
            }
        }
    }
    let took =
        cpu_time().saturating_sub(cpu.1).as_secs_f64() / now().saturating_sub(cpu.0).as_secs_f64();
    Run { connected, heard: all_heard, core: 100.0 * took / f64::from(devices) }
}

/// A minute of 440 Hz, in which the tones of tests have pauses.
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

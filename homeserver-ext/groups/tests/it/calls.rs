//! A mesh with real sound: WebRTC over the loopback, in one process.

pub(crate) mod ear;
pub(crate) mod home;
mod hostile;
mod impostor;
mod path;
pub(crate) mod room;
mod sfu;

use std::collections::BTreeMap;

use causeway_groups::calls::{
    FRAME, Happened, IceServer, Input, Mesh, RATE, Reason, Refused, Settings, Signal, Sink, Source,
    StartError,
};

use room::{Room, TONES, device, loopback};
use tokio::sync::Mutex;

/// Held by those who hear whether anything is missed, and by those whose many devices take the whole
/// machine.
pub(crate) static MACHINE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_three_and_four_hear_each_other() {
    for n in 2..=4 {
        let mut room = Room::default();
        for n in 0..n {
            room.join(n).await;
        }
        let all: Vec<_> = (0..n).collect();
        room.until_all_hear(&all, 4).await;
        assert_eq!(room.ears.len(), usize::from(n * (n - 1)), "directions");
        let done = Happened::Progress(usize::from(n) - 1, usize::from(n) - 1);
        assert!(all.iter().all(|n| room.has(*n, &done)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_mutes_one_leaves_and_one_comes() {
    let mut room = Room::default();
    for n in 0..3 {
        room.join(n).await;
    }
    room.until_all_hear(&[0, 1, 2], 2).await;

    room.tell(2, Input::Mute(true)).await;
    // What was under way when it was muted is heard still; then nothing.
    room.until_all_hear(&[0, 1], 3).await;
    let muted = [room.times((0, 2)), room.times((1, 2))];
    room.until_all_hear(&[0, 1], 4).await;
    assert_eq!([room.times((0, 2)), room.times((1, 2))], muted);
    room.tell(2, Input::Mute(false)).await;
    room.until_all_hear(&[0, 1, 2], 2).await;

    room.leave(2).await;
    room.until("only two are left", |room| {
        [0, 1].iter().all(|n| {
            let last = room.happened.iter().rev().find_map(|(at, what)| match what {
                Happened::Progress(there, of) if at == n => Some((*there, *of)),
                _ => None,
            });
            last == Some((1, 1))
        })
    })
    .await;
    room.join(3).await;
    room.until_all_hear(&[0, 1, 3], 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_as_the_same_device_is_heard_again() {
    let mut room = Room::default();
    for n in 0..3 {
        room.join(n).await;
    }
    room.until_all_hear(&[0, 1, 2], 2).await;
    // The one in the middle: it offers to one and answers the other.
    room.kill(1);
    room.until_all_hear(&[0, 2], 3).await;
    room.ears.clear();
    room.join(1).await;
    room.until_all_hear(&[0, 1, 2], 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_harms_nobody_else() {
    let mut room = Room::default();
    for n in 0..3 {
        room.join(n).await;
    }
    room.until_all_hear(&[0, 1, 2], 2).await;
    room.kill(2);
    room.until("it is missed", |room| {
        room.has(0, &Happened::Broken(device(2))) && room.has(1, &Happened::Broken(device(2)))
    })
    .await;
    room.until_all_hear(&[0, 1], 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_said_and_what_is_heard_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (said, heard) = (folder.path().join("said.wav"), folder.path().join("heard.wav"));
    std::fs::write(&said, tone_file()).unwrap();

    let mut room = Room::default();
    room.join_as(0, loopback(), Source::wav(&said).unwrap(), None);
    let sink = Some(Sink::wav(&heard).unwrap());
    room.join_as(1, loopback(), Source::tone(TONES[1]).unwrap(), sink);
    room.tell_all().await;
    let loud =
        |levels: &BTreeMap<_, f32>| levels.get(&Some(device(0))).is_some_and(|level| *level > 0.1);
    room.until("it is heard for two seconds", |room| {
        let at_1 = room.happened.iter().filter(|(n, _)| *n == 1);
        at_1.filter(|(_, what)| matches!(what, Happened::Levels(levels) if loud(levels))).count()
            >= 4
    })
    .await;
    room.leave(1).await;
    room.until("all is written", |_| Source::wav(&heard).is_ok() && samples(&heard).len() > RATE)
        .await;
    let samples = samples(&heard);
    let windows: Vec<_> = samples.chunks_exact(10 * FRAME).collect();
    let right =
        windows.iter().filter(|window| ear::dominant(window, &TONES) == Some(TONES[0])).count();
    assert!(right >= 5, "{right} of {} windows", windows.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_only_tells_no_address_and_says_after_30_seconds_that_it_failed() {
    let mut room = Room::default();
    room.way = Some(Box::new(|_, _, signal| {
        let told = signal.to_json();
        assert!(!told.contains("127.0.0.1") && !told.contains("candidate"), "an address is told");
        true
    }));
    for n in 0..2 {
        let settings = Settings { relay_only: Some(true), servers: vec![nobody()], ..loopback() };
        room.join_as(n, settings, Source::Silence, None);
    }
    room.tell_all().await;
    room.until("both say so", |room| {
        room.has(0, &Happened::Failed(device(1))) && room.has(1, &Happened::Failed(device(0)))
    })
    .await;
    assert!(!room.happened.iter().any(|(_, what)| matches!(what, Happened::Connected(_))));
}

#[tokio::test]
async fn whom_another_gives_up_is_told_so_as_well() {
    let mut room = Room::default();
    room.join_as(0, loopback(), Source::Silence, None);
    room.epoch = 1;
    let devices = vec![device(0), device(1)];
    room.tell(0, Input::Participants { epoch: 1, devices }).await;
    room.until("it waits", |room| room.has(0, &Happened::Progress(0, 1))).await;
    room.signal(1, 0, Signal::Bye { reason: Reason::Failed }).await;
    room.until("it is told", |room| room.has(0, &Happened::Failed(device(1)))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_signalled_before_the_state_is_known_waits_for_it() {
    let mut room = Room::default();
    for n in 0..2 {
        room.join_as(n, loopback(), Source::tone(TONES[usize::from(n)]).unwrap(), None);
    }
    // The higher one offers; the other has not heard of the call yet.
    let devices = vec![device(0), device(1)];
    room.epoch = 7;
    room.tell(1, Input::Participants { epoch: 7, devices: devices.clone() }).await;
    room.until("half is known", |room| room.has(1, &Happened::Progress(0, 1))).await;
    room.tell(0, Input::Participants { epoch: 7, devices }).await;
    room.until_all_hear(&[0, 1], 1).await;
    // Of an epoch long gone.
    let bye = Signal::Bye { reason: Reason::Left };
    let input = Input::Signal { from: device(1), epoch: 5, signal: bye };
    room.tell(0, input).await;
    let why = Refused::Stale(5, 7);
    room.until("it is refused", |room| room.has(0, &Happened::Refused(device(1), why))).await;
    room.until_all_hear(&[0, 1], 2).await;
}

#[test]
fn relay_only_without_a_relay_is_refused_at_once() {
    let settings = Settings { relay_only: Some(true), ..loopback() };
    let mesh = Mesh::new(device(0), settings, Source::Silence, Sink::Nowhere);
    assert!(matches!(mesh, Err(StartError::NoRelay)));
}

/// A TURN server that does not answer.
fn nobody() -> IceServer {
    IceServer {
        urls: vec!["turn:127.0.0.1:9?transport=udp".into()],
        username: "nobody".into(),
        credential: "none".into(),
    }
}

/// Ten seconds of the first tone, 16 bits, 16 kHz, two channels.
#[expect(clippy::cast_possible_truncation, reason = "below 9,000")]
fn tone_file() -> Vec<u8> {
    let rate = 16_000_u32;
    let data: Vec<u8> = (0..10 * rate)
        .flat_map(|n| {
            let phase =
                std::f64::consts::TAU * f64::from(TONES[0]) * f64::from(n) / f64::from(rate);
            let on = n % (rate / 2) < rate * 3 / 10;
            let sample = if on { (phase.sin() * 9_000.0) as i16 } else { 0 };
            [sample.to_le_bytes(), sample.to_le_bytes()].concat()
        })
        .collect();
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0".to_vec();
    file.extend([rate.to_le_bytes(), (rate * 4).to_le_bytes()].concat());
    file.extend(b"\x04\0\x10\0data");
    file.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    file.extend(data);
    file
}

/// A minute of one tone without pauses, 48 kHz, one channel.
#[expect(clippy::cast_possible_truncation, reason = "below 9,000")]
fn steady_tone() -> Vec<u8> {
    let rate = 48_000_u32;
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    file.extend([rate.to_le_bytes(), (rate * 2).to_le_bytes()].concat());
    file.extend(b"\x02\0\x10\0data");
    file.extend((60 * rate * 2).to_le_bytes());
    file.extend((0..60 * rate).flat_map(|n| {
        let phase = std::f64::consts::TAU * 440.0 * f64::from(n) / f64::from(rate);
        ((phase.sin() * 9_000.0) as i16).to_le_bytes()
    }));
    file
}

fn samples(file: &std::path::Path) -> Vec<f32> {
    let bytes = std::fs::read(file).unwrap();
    let samples = bytes.get(44..).unwrap_or_default().chunks_exact(2);
    samples.map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0).collect()
}

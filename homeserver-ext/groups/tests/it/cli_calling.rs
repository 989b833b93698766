//! `call start`, `join` and `leave`, through the real binary and a real server, with real sound.

use std::{collections::BTreeSet, fs::File, path::PathBuf, process::Stdio, thread, time::Duration};

use causeway_groups::calls::FRAME;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    calling::served::Sfu,
    calls::{ear::level, room::TONES},
    cli_chat::Chat,
    cli_world::{Person, Running, World},
};

/// For whatever is waited for: the machine may be busy.
const LONG: Duration = Duration::from_mins(2);
/// How often a file is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Somebody in a call by the program, with the tone of that number.
struct Talks {
    running: Running,
    heard: PathBuf,
    log: PathBuf,
}

fn talks(person: &Person, n: usize, words: &[&str]) -> Talks {
    let (heard, log) = (person.home.join("heard.wav"), person.home.join("log"));
    let tone = format!("tone:{}", TONES[n]);
    let file = heard.to_str().unwrap().to_owned();
    let sound = ["--audio-in", &tone, "--audio-out", &file, "--bind", "127.0.0.1"];
    let mut command = person.command(&[words, &sound].concat());
    command.env("CAUSEWAY_LOG", "trace").stderr(Stdio::from(File::create(&log).unwrap()));
    Talks { running: Running::start_as_it_is(command), heard, log }
}

fn is(kind: &str) -> impl Fn(&Value) -> bool {
    move |line| line["type"] == kind
}

/// In how many of its 200 ms each tone is in a file.
fn tones(file: &PathBuf) -> [usize; TONES.len()] {
    let bytes = std::fs::read(file).unwrap();
    let samples = bytes.get(44..).unwrap_or_default().chunks_exact(2);
    let samples: Vec<_> =
        samples.map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0).collect();
    TONES.map(|tone| {
        samples.chunks_exact(10 * FRAME).filter(|window| level(window, tone) > 0.05).count()
    })
}

/// Waits until a file has every tone of those who talk but its own: on a busy machine that takes
/// longer than to hear that they speak.
fn until_all_are_in(file: &PathBuf, own: usize) {
    let since = Instant::now();
    while !tones(file).iter().enumerate().take(4).all(|(m, times)| m == own || *times > 0) {
        assert!(since.elapsed() < LONG, "{own} heard {:?}", tones(file));
        thread::sleep(LOOK);
    }
}

#[test]
fn four_talk_by_the_program_and_the_fifth_is_told_why_not() {
    let world = World::new();
    let people = world.group(["alice", "bob", "carol", "dave", "erin"]);
    let mut all = vec![talks(&people[0], 0, &["call", "start", "team"])];
    all[0].running.until(is("group_call_start"));
    for (n, person) in people.iter().enumerate().take(4).skip(1) {
        let mut came = talks(person, n, &["call", "join", "team"]);
        // It is in it from its first line on.
        came.running.until(is("group_call_start"));
        all.push(came);
    }
    let refused = people[4].fails(&["call", "join", "team"], 1);
    assert_eq!(
        refused["error"]["what"],
        "This call has 4 people. The server that carries bigger calls is not reachable."
    );
    // Each is connected to each other, hears it, and is told what that costs.
    for (talks, person) in all.iter_mut().zip(&people) {
        let (mut heard, mut kbps, mut connected) = (BTreeSet::new(), Value::Null, 0);
        talks.running.until(|line| {
            match line["type"].as_str().unwrap() {
                "call_speaks" if line["account"] != person.account() => {
                    heard.insert(line["account"].to_string());
                }
                "call_bandwidth" => kbps = line["up_kbps"].clone(),
                "call_progress" => connected = line["connected"].as_u64().unwrap(),
                _ => {}
            }
            heard.len() == 3 && connected == 3
        });
        assert_eq!(kbps, 132);
    }
    for (n, talks) in all.iter().enumerate() {
        until_all_are_in(&talks.heard, n);
    }
    // By another program of the same home.
    let left = people[3].ok(&["call", "leave", "team"]);
    assert_eq!(left[0]["participants"].as_array().unwrap().len(), 3);
    people[3].fails(&["call", "leave", "team"], 1);
    let dave = all.pop().unwrap();
    let ended = dave.running.ended();
    assert!(ended.status.success());
    assert_eq!(ended.lines.last().unwrap()["why"], "left");
    all[0].running.until(is("group_call_leave"));
    let mut files = vec![dave.heard];
    let mut logs = vec![dave.log];
    people[0].ok(&["call", "end", "team"]);
    for talks in all.into_iter().rev() {
        let ended = talks.running.ended();
        assert!(ended.status.success());
        assert_eq!(ended.lines.last().unwrap()["why"], "over");
        assert!(ended.lines.iter().any(is("group_call_end")));
        files.push(talks.heard);
        logs.push(talks.log);
    }
    files.reverse();
    for (n, file) in files.iter().enumerate() {
        let tones = tones(file);
        for (m, times) in tones.iter().enumerate().take(4) {
            assert!(if m == n { *times == 0 } else { *times > 0 }, "{n} heard {tones:?}");
        }
    }
    for log in &logs {
        tells_nothing(log);
    }
}

/// Nothing of how devices connect is in a log, and no token by which a server for calls lets them in.
fn tells_nothing(log: &PathBuf) {
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.len() > 1_000, "nothing was logged");
    let described = ["a=", "ice-pwd", "ice-ufrag", "candidate:", "fingerprint", "v=0"];
    // What tokens begin with: those of the home, and those that LiveKit gives who is there.
    for secret in described.into_iter().chain(["eyJ0eXAiOiJKV1Q", "eyJhbGciOiJIUzI1"]) {
        assert!(!log.contains(secret), "{secret} is in a log");
    }
}

#[test]
fn whom_a_server_for_calls_carries_log_neither_its_tokens_nor_how_they_connect() {
    let sfu = Sfu::start();
    let mut world = World::new();
    world.server.mesh_max = Some(2);
    world.server.with_livekit(sfu.of());
    let people = world.group(["alice", "bob", "carol"]);
    let mut all = Vec::new();
    for (n, person) in people.iter().enumerate() {
        let mut came = talks(person, n, &["call", if n == 0 { "start" } else { "join" }, "team"]);
        came.running.until(is("group_call_start"));
        all.push(came);
    }
    for talks in &mut all {
        talks.running.until(|line| line["type"] == "call_carried" && line["by"] == "sfu");
    }
    // Each hears the two others by it, so that keys were given and taken.
    for (n, talks) in all.iter().enumerate() {
        let from = tones(&talks.heard);
        let since = Instant::now();
        let hears = |m: usize| tones(&talks.heard)[m] > from[m];
        while !(0..3).all(|m| m == n || hears(m)) {
            assert!(since.elapsed() < LONG, "{n} heard {:?}", tones(&talks.heard));
            thread::sleep(LOOK);
        }
    }
    people[0].ok(&["call", "end", "team"]);
    for talks in all {
        assert!(talks.running.ended().status.success());
        tells_nothing(&talks.log);
    }
}

#[test]
fn one_leaves_when_the_time_is_over_and_wrong_words_are_refused() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let none = bob.fails(&["call", "join", "team", "--for", "1s"], 1);
    assert!(none.to_string().contains("call start"), "{none}");
    for (words, said) in [
        (&["--audio-in", "tone:9"][..], "50 to 8000"),
        (&["--audio-in", "mic"], "without microphone and speaker"),
        (&["--audio-out", "speaker"], "without microphone and speaker"),
        (&["--audio-out", "/nowhere/heard.wav"], "can be made"),
        (&["--relay-only"], "no TURN server"),
        (&["--stun", "https://b.example"], "stun:host"),
        (&["--turn", "turn:b.example:3478"], "--turn-user"),
    ] {
        let words = [&["call", "start", "team"], words].concat();
        let failed = alice.fails(&words, 2);
        assert!(failed.to_string().contains(said), "{words:?}: {failed}");
    }
    // Nobody came in by that but by what is known only once one is in it, and that is over.
    let calls = alice.ok(&["call", "list", "team"]);
    let calls = calls[0]["calls"].as_array().unwrap();
    let topologies: Vec<_> = calls.iter().map(|call| &call["topology"]).collect();
    assert_eq!(topologies, ["ended"]);
    let lines =
        alice.ok(&["call", "start", "team", "--for", "1s", "--muted", "--bind", "127.0.0.1"]);
    assert_eq!(lines[0]["type"], "group_call_start");
    assert!(lines.iter().any(|line| line["type"] == "group_call_set" && line["muted"] == true));
    assert_eq!(
        (&lines.last().unwrap()["type"], &lines.last().unwrap()["why"]),
        (&"call_left".into(), &"left".into())
    );
    let text = alice.as_text(&["call", "list", "team"]);
    assert!(text.contains("runs, 0 in it") || text.contains("ended"), "{text}");
}

#[test]
fn a_terminal_shows_who_is_in_the_call_and_its_keys_are_heard_by_the_others() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let mut bob_talks = talks(&bob, 1, &["call", "start", "team"]);
    bob_talks.running.until(is("group_call_start"));
    let words = ["call", "join", "team", "--audio-in", "tone:440", "--bind", "127.0.0.1"];
    let mut screen = Chat::start_as(&alice, &words);
    screen.shows("2 in it, each talks to each, connected 1/1");
    screen.shows("speaks");
    let shown = screen.shows("m microphone  h hand  q leaves");
    assert!(shown.contains(&alice.account()) && shown.contains(&bob.account()), "{shown}");
    screen.press("m");
    screen.shows("muted");
    bob_talks.running.until(|line| line["type"] == "group_call_set" && line["muted"] == true);
    screen.press("h");
    screen.shows("hand up");
    bob_talks.running.until(|line| line["type"] == "group_call_set" && line["hand"] == true);
    screen.press("q");
    bob_talks.running.until(is("group_call_leave"));
    screen.ends();
    assert!(bob_talks.running.stop().iter().any(|line| line["why"] == "left"));
}

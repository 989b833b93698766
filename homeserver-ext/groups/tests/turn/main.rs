//! A real coturn relays for two who tell each other no address: what their home names is what coturn takes.
//!
//! Run by its name alone, since the program has to be there: `cargo test -p causeway-groups --test turn`, with
//! `TURNSERVER` where it is not in the path.
#![cfg(test)]

#[expect(dead_code, reason = "what tests of other things need is theirs")]
#[path = "../it/cli_server.rs"]
mod cli_server;
#[expect(dead_code, reason = "what tests of other things need is theirs")]
#[path = "../it/cli_world.rs"]
mod cli_world;
#[expect(dead_code, reason = "what tests need that hear more than two is theirs")]
#[path = "../it/calls/ear.rs"]
mod ear;

use std::{
    collections::BTreeSet,
    fs::File,
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use causeway_groups::calls::FRAME;
use causeway_server::{ApiSecret, Mesh, Turn, TurnCredentials};
use cli_world::{Person, Running, World};
use tokio::time::Instant;

/// For whatever is waited for: the machine may be busy.
const LONG: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(100);
const SECRET: &str = "what both know";
const TONES: [u32; 2] = [440, 1_031];

/// One on the loopback; killed when dropped.
struct Coturn {
    child: Child,
    port: u16,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Coturn {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let file = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nlistening-port={port}\nuse-auth-secret\n\
             static-auth-secret={SECRET}\nrealm=turn.example\nno-tls\nno-dtls\nno-cli\nverbose\n\
             allow-loopback-peers\nlog-file=stdout\npidfile={}\nuserdb={}\n",
            file("pid"),
            file("db"),
        );
        std::fs::write(folder.path().join("turnserver.conf"), config).unwrap();
        let log = folder.path().join("log");
        let program = std::env::var("TURNSERVER").unwrap_or_else(|_| "turnserver".to_owned());
        let child = Command::new(&program)
            .args(["-c", &file("turnserver.conf")])
            .stdin(Stdio::null())
            .stdout(File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; `apt-get install coturn`"));
        let coturn = Self { child, port, log, _folder: folder };
        coturn.until("it listens", |log| log.contains("UDP listener opened on: 127.0.0.1"));
        coturn
    }

    fn until(&self, what: &str, so: impl Fn(&str) -> bool) {
        let since = Instant::now();
        while !so(&self.log()) {
            assert!(since.elapsed() < LONG, "it never came to pass that {what}:\n{}", self.log());
            thread::sleep(LOOK);
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Under which names it relays.
    fn names(&self) -> BTreeSet<String> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains("ALLOCATE processed, success"));
        let name = |line: &str| Some(line.split_once("user <")?.1.split_once('>')?.0.to_owned());
        lines.filter_map(name).collect()
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the home names, and that nobody is to tell an address.
fn mesh(coturn: &Coturn) -> Mesh {
    let turn = Turn {
        urls: vec![format!("turn:127.0.0.1:{}?transport=udp", coturn.port)],
        credentials: TurnCredentials::Shared(ApiSecret::new(SECRET)),
    };
    Mesh { stun: Vec::new(), turn: Some(turn), relay_only: true }
}

fn talks(person: &Person, n: usize, how: &str) -> (Running, PathBuf) {
    let heard = person.home.join("heard.wav");
    let (tone, file) = (format!("tone:{}", TONES[n]), heard.display().to_string());
    let words = ["call", how, "team", "--audio-in", &tone, "--audio-out", &file];
    let words = [&words[..], &["--bind", "127.0.0.1"]].concat();
    let running = Running::start_as_it_is(person.command(&words));
    (running, heard)
}

/// In how many of its 200 ms each tone is in a file.
fn tones(file: &Path) -> [usize; TONES.len()] {
    let bytes = std::fs::read(file).unwrap();
    let samples = bytes.get(44..).unwrap_or_default().chunks_exact(2);
    let samples: Vec<_> =
        samples.map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0).collect();
    TONES.map(|tone| {
        samples.chunks_exact(10 * FRAME).filter(|window| ear::level(window, tone) > 0.05).count()
    })
}

#[test]
fn two_who_tell_no_address_hear_each_other_by_coturn() {
    let coturn = Coturn::start();
    let mut world = World::new();
    world.server.with_mesh(mesh(&coturn));
    let people = world.group(["alice", "bob"]);
    let (mut alice, by_alice) = talks(&people[0], 0, "start");
    alice.until(|line| line["type"] == "group_call_start");
    let (mut bob, by_bob) = talks(&people[1], 1, "join");
    for running in [&mut alice, &mut bob] {
        running.until(|line| line["type"] == "call_connected");
    }
    let since = Instant::now();
    while tones(&by_alice)[1] < 5 || tones(&by_bob)[0] < 5 {
        assert!(since.elapsed() < LONG, "{:?} {:?}", tones(&by_alice), tones(&by_bob));
        thread::sleep(LOOK);
    }
    assert_eq!((tones(&by_alice)[0], tones(&by_bob)[1]), (0, 0), "somebody hears himself");
    // Each has a name of its own there, which says when it ends and not whose it is.
    let names = coturn.names();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(!names.iter().any(|name| name.contains("alice") || name.contains("bob")), "{names:?}");
    #[expect(clippy::disallowed_methods, reason = "coturn's clock is this machine's")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for name in names {
        let ends: u64 = name.split_once(':').unwrap().0.parse().unwrap();
        assert!((1..=86_400).contains(&(ends - now)), "{name} at {now}");
    }
    people[0].ok(&["call", "end", "team"]);
    for running in [alice, bob] {
        assert!(running.ended().status.success());
    }
}

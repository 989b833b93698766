//! A client in Python that was written from seed 001 takes part in a group of ours: its chain, its JSON and
//! its Olm are of other implementations (`cryptography`, `vodozemac` of the package index).

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

use crate::cli_world::World;

const PACKAGES: [&str; 2] = ["cryptography==50.0.2", "vodozemac==0.10.0"];

/// A Python with what the client imports; made once, and whole before it has its name.
fn python() -> PathBuf {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seed001-venv");
    let python = made.join("bin/python");
    if !python.exists() {
        let fresh = made.with_extension(std::process::id().to_string());
        run(Command::new("python3").args(["-m", "venv"]).arg(&fresh));
        let pip = ["-m", "pip", "-q", "install"];
        run(Command::new(fresh.join("bin/python")).args(pip).args(PACKAGES));
        if fs::rename(&fresh, &made).is_err() {
            fs::remove_dir_all(&fresh).unwrap();
        }
    }
    python
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The client, which does what it is told.
struct Seed {
    child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Seed {
    fn start(url: &str, name: &str) -> (Self, Value) {
        let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seed001/client.py");
        let mut child = Command::new(python())
            .arg(client)
            .args([url, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seed = Self { stdin: child.stdin.take().unwrap(), child, answers };
        let who = seed.answer();
        (seed, who)
    }

    fn answer(&mut self) -> Value {
        let line = self.answers.next().expect("the client ended").unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn tell(&mut self, command: &Value) -> Value {
        writeln!(self.stdin, "{command}").unwrap();
        self.answer()
    }

    fn say(&mut self, text: &str, to: &[&str]) {
        self.tell(&json!({"do": "say", "text": text, "to": to}));
    }

    fn hear(&mut self) -> String {
        let heard = self.tell(&json!({"do": "hear"}));
        heard["heard"].as_str().unwrap().to_owned()
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_client_written_from_the_seed_takes_part_until_the_group_is_upgraded() {
    let world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|name| world.registered(name));
    alice.ok(&["group", "create", "team", "--legacy", "opus_v1"]);
    let (mut seed, who) = Seed::start(&world.server.url(), "seed");
    for name in ["bob", "seed"] {
        alice.ok(&["member", "add", "team", name]);
    }
    bob.read();
    bob.ok(&["group", "accept", "team"]);

    let invite = &alice.ok(&["invite", "create", "team"])[0];
    let read = seed.tell(&json!({"do": "invite", "link": invite["legacy_link"]}));
    assert_eq!((&read["n"], &read["t"]), (&json!("team"), &invite["link"]));

    alice.ok(&["send", "team", "hello seed"]);
    assert_eq!(seed.hear(), "hello seed");
    let to = [alice.account(), bob.account()];
    let to = to.each_ref().map(String::as_str);
    seed.say("hello both", &to);
    seed.say("é 🌍 \"quoted\"", &to);
    for reader in [&alice, &bob] {
        let lines = reader.read();
        let said: Vec<_> = lines.iter().filter(|l| l["device"] == who["device"]).collect();
        let texts: Vec<_> = said.iter().map(|line| line["body"].as_str().unwrap()).collect();
        assert_eq!(texts, ["hello both", "é 🌍 \"quoted\""], "{lines:?}");
        assert!(said.iter().all(|line| line["sender"] == who["account"]));
    }
    bob.ok(&["send", "team", "and from bob"]);
    assert_eq!(seed.hear(), "and from bob");
    assert_eq!(alice.texts(), ["and from bob"]);

    // It knows no other suite: whoever upgrades is told so, and then it reads nothing more.
    let said = alice.fails(&["group", "upgrade", "team"], 1);
    let found = said["error"]["what"].as_str().unwrap();
    assert!(found.contains(who["account"].as_str().unwrap()), "{found}");
    assert!(!found.contains("bob:"), "{found}");
    let done = &alice.ok(&["group", "upgrade", "team", "--yes"])[0];
    assert_eq!(done["behind"][0]["device"], who["device"]);
}

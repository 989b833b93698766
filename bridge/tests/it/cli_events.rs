//! `causeway events`, `causeway stats` and `causeway servers`, beside a native server that runs.

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
};

use causeway_bridge::demo::causeway::Listeners;
use serde_json::Value;

use crate::cli::{Causeway, said};

/// A process that is killed when its test ends.
pub(crate) struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Self {
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn errors(&mut self) -> Lines<BufReader<ChildStderr>> {
        BufReader::new(self.0.stderr.take().unwrap()).lines()
    }

    fn lines(&mut self) -> Lines<BufReader<ChildStdout>> {
        BufReader::new(self.0.stdout.take().unwrap()).lines()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A native server that runs alone, and what is typed beside it.
pub(crate) struct Site {
    pub(crate) causeway: Causeway,
    set: [String; 2],
    pub(crate) native: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        let listeners = Listeners::free().unwrap();
        Self {
            causeway: Causeway::new(),
            set: [
                format!("appservice.listen={}", listeners.appservice),
                format!("native.listen={}", listeners.native),
            ],
            native: format!("http://{}", listeners.native),
        }
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let set = ["--set", &self.set[0], "--set", &self.set[1]];
        self.causeway.command(&[words, &set].concat())
    }

    pub(crate) fn serve(&self) -> Running {
        let mut server = Running::start(self.command(&["run", "--only", "server"]));
        let mut log = server.errors().map(Result::unwrap);
        // Of the admin API, which comes last.
        assert!(log.by_ref().filter(|line| line.contains("listening")).nth(1).is_some());
        server.0.stderr = None;
        server
    }

    pub(crate) fn client(&self, home: &str, words: &[&str]) {
        let common = ["client", "--home", home, "--server", &self.native];
        let done = self.causeway.run(&[&common, words].concat());
        assert!(done.status.success(), "{}", said(&done));
    }

    pub(crate) fn register(&self, name: &str) {
        let token = self.causeway.dir.path().join("data/registration.token");
        self.client(name, &["register", name, "--token-file", token.to_str().unwrap()]);
    }

    /// What comes out for programs, a line each.
    pub(crate) fn json(&self, words: &[&str]) -> Vec<Value> {
        let out = self.command(&[&["--output", "json"], words].concat()).output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The exit code and what is said.
    pub(crate) fn fails(&self, words: &[&str]) -> (Option<i32>, String) {
        let out = self.command(words).output().unwrap();
        (out.status.code(), said(&out))
    }
}

#[test]
fn the_operator_sees_what_happened_and_how_much_of_it_also_over_a_restart() {
    let site = Site::new();
    for command in ["stats", "events"] {
        let (code, said) = site.fails(&[command]);
        assert!(code == Some(1) && said.contains("is Causeway running?"), "{said}");
    }
    let server = site.serve();
    assert_eq!(site.json(&["events"]), Vec::<Value>::new());
    site.register("alice");
    site.register("bob");
    site.client("alice", &["group", "create", "tea"]);
    site.client("bob", &["group", "create", "his"]);

    let kept = site.json(&["events"]);
    let said_of = |event: &Value| (event["kind"].clone(), event["account"].clone());
    let accounts: Vec<_> = kept.iter().map(said_of).collect();
    let made = |who: &str| ("group.created".into(), format!("{who}:example.org").into());
    assert_eq!(accounts, [made("alice"), made("bob")]);
    let group = kept[0]["group"].as_str().unwrap();
    let of_one = format!("--group={group}");
    assert_eq!(site.json(&["events", &of_one]), kept[..1]);
    let page = site.json(&["events", "--limit", "1"]);
    assert_eq!((page[0].clone(), &page[1]["kind"]), (kept[0].clone(), &"more".into()));
    let after = page[1]["after"].to_string();
    assert_eq!(site.json(&["events", "--after", &after]), kept[1..]);

    let follow = ["--output", "json", "events", "--follow", "--after", "0", &of_one];
    let mut follow = Running::start(site.command(&follow));
    let mut heard = follow.lines();
    let mut next = || serde_json::from_str::<Value>(&heard.next().unwrap().unwrap()).unwrap();
    assert_eq!(next(), kept[0]);
    drop(server);
    assert!(follow.errors().next().unwrap().unwrap().contains("trying again"));
    let _server = site.serve();
    site.client("alice", &["group", "close", "tea"]);
    let closed = next();
    assert_eq!((&closed["kind"], &closed["group"]), (&"group.closed".into(), &kept[0]["group"]));
    let text = said(&site.command(&["events"]).output().unwrap());
    assert!(text.contains("alice:example.org closed the group"), "{text}");
    assert!(!text.contains("tea"), "no content: {text}");

    let stats = &site.json(&["stats"])[0];
    let lately = &stats["last_24_hours"]["groups_created"];
    assert_eq!((&stats["groups_created"], lately), (&2.into(), &2.into()), "over a restart");
    assert_eq!(stats["groups"], 1, "{stats}");
    let text = said(&site.command(&["stats"]).output().unwrap());
    for name in [
        "messages_published",
        "messages_delivered",
        "messages_failed",
        "messages_expired",
        "messages_cleaned",
        "keys_rotated",
        "users_subscribed",
        "groups",
    ] {
        assert!(text.lines().any(|line| line.split(' ').next() == Some(name)), "{name}: {text}");
    }
}

#[test]
fn what_the_admin_api_refuses_is_final_and_says_what_to_do() {
    let site = Site::new();
    let _server = site.serve();
    let unknown = format!("--group={}", causeway_protocol::ids::text_of(&[7; 32]));
    for words in [&["events", &unknown][..], &["events", &unknown, "--follow"]] {
        let (code, said) = site.fails(words);
        assert!(code == Some(1) && said.contains("there is no such group"), "{words:?}: {said}");
    }
    for words in [&["events", "--limit", "0"][..], &["events", "--limit", "9", "--follow"]] {
        assert_eq!(site.fails(words).0, Some(2), "{words:?}");
    }
    fs::write(site.causeway.dir.path().join("data/admin.token"), "0".repeat(64)).unwrap();
    for words in [&["events"][..], &["events", "--follow"], &["stats"]] {
        let (code, said) = site.fails(words);
        assert!(code == Some(1) && said.contains("another admin.token"), "{words:?}: {said}");
    }
    fs::remove_file(site.causeway.dir.path().join("data/admin.token")).unwrap();
    assert_eq!(site.fails(&["stats"]).0, Some(11));
}

#[test]
fn other_servers_are_paused_and_resumed_and_one_that_nobody_knows_is_refused() {
    let site = Site::new();
    let serving = site.serve();
    assert_eq!(site.json(&["servers", "list"])[0]["servers"], serde_json::json!([]));
    let text = site.command(&["servers", "list"]).output().unwrap();
    assert!(said(&text).contains("No other server is known."), "{}", said(&text));
    let refused = |words: &[&str], code: i32, why: &str| {
        let out = site.command(words).output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{}", said(&out));
        assert!(said(&out).contains(why), "{}", said(&out));
    };
    refused(&["servers", "show", "b.example"], 1, "there is no such server");
    refused(&["servers", "resume", "b.example"], 1, "there is no such server");
    refused(&["servers", "pause", "not a name"], 2, "no name of a server");
    refused(&["servers", "pause", "example.org"], 1, "not the name of another server");
    let paused = site.json(&["servers", "pause", "b.example:8448"]);
    assert_eq!(paused[0]["state"], "paused");
    drop(serving);
    refused(&["servers", "list"], 1, "is Causeway running?");
    // It outlives a restart.
    let _serving = site.serve();
    let shown = site.command(&["servers", "show", "b.example:8448"]).output().unwrap();
    assert!(said(&shown).contains("nothing passes until"), "{}", said(&shown));
    let behind = [
        "servers",
        "show",
        "b.example:8448",
        "--limit",
        "2",
        "--after",
        &format!("-{}", "A".repeat(42)),
    ];
    assert_eq!(site.json(&behind)[0]["relay_rooms"], serde_json::json!([]));
    refused(&["servers", "show", "b.example:8448", "--limit", "0"], 2, "0 is not in 1..=1000");
    let page = site.json(&["servers", "list", "--limit", "1"]);
    assert_eq!(page[0]["next"], "b.example:8448");
    assert_eq!(site.json(&["servers", "resume", "b.example:8448"])[0]["state"], "open");
}

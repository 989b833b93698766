//! Three processes, two people and some portals; and what a run of messages costs.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use causeway_bridge::{
    config::Config,
    demo::causeway::Listeners,
    init::{self, REGISTRATION_TOKEN},
    registration::Registration,
    secret::Secret,
};
use causeway_protocol::ids::GroupId;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    LOOK,
    people::{Person, Read},
};

const SERVER: &str = "b.example";
/// Events of one transaction: Synapse's most.
const AT_ONCE: usize = 100;

/// What a run of messages took.
pub(super) struct Figure {
    messages: usize,
    seconds: f64,
    bridge_ms: f64,
    server_ms: f64,
    commits: f64,
}

impl Figure {
    pub(super) const HEAD: &str = "| direction | portals | messages/s | bridge CPU ms | server CPU ms | rows per commit | of the floor |\n|---|---|---|---|---|---|---|";

    pub(super) fn row(&self, name: &str, portals: usize, floor: f64) -> String {
        let n = self.messages as f64;
        let rate = n / self.seconds;
        format!(
            "| {name} | {portals} | {rate:.0} | {:.3} | {:.3} | {:.1} | {:.2} |",
            self.bridge_ms / n,
            self.server_ms / n,
            n / self.commits,
            rate / floor,
        )
    }
}

pub(super) struct Stage {
    pub(super) homeserver: String,
    dir: PathBuf,
    config: Config,
    registration: Registration,
    processes: Vec<Child>,
    alice: Person,
    groups: Vec<GroupId>,
    http: reqwest::Client,
    transactions: usize,
    events: usize,
    said: usize,
    _folder: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Stage {
    pub(super) async fn new(portals: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_owned();
        let listeners = Listeners::free().unwrap();
        let registration = Registration::anew(SERVER, &listeners.appservice_url(), None).unwrap();
        let (homeserver, stub) = start_homeserver(&listeners, &registration);
        let mut config = Config::default();
        SERVER.clone_into(&mut config.homeserver.server_name);
        config.homeserver.address.clone_from(&homeserver);
        config.appservice.listen = listeners.appservice;
        config.appservice.address.clone_from(&registration.url);
        config.native.listen = listeners.native;
        config.native.address = listeners.native_url();
        "error".clone_into(&mut config.logging.level);
        let yaml = registration.to_yaml().unwrap();
        init::replace_private(&dir.join(&config.appservice.registration), yaml.as_bytes()).unwrap();
        init::init(&dir.join("causeway.yaml"), &config).unwrap();
        let server = spawn(&dir, "server");
        let bridge = spawn(&dir, "bridge");
        let http = reqwest::Client::new();
        wait(&http, &format!("{}/ready", listeners.appservice_url())).await;
        let token: Secret =
            init::read_token(&dir.join(config.data_file(REGISTRATION_TOKEN))).unwrap();
        let url = listeners.native_url();
        let alice = Person::register(&url, &format!("alice:{SERVER}"), token.expose()).await;
        let bob = Person::register(&url, &format!("bob:{SERVER}"), token.expose()).await;
        let mut groups = Vec::new();
        for n in 0..portals {
            let group = alice.create_group(&format!("group {n}")).await;
            alice.add(group, &format!("bob:{SERVER}")).await;
            alice.bridge(group, &[]).await;
            groups.push(group);
        }
        let processes = vec![server, bridge, stub];
        let stage = Self {
            homeserver,
            dir,
            config,
            registration,
            processes,
            alice,
            groups,
            http,
            transactions: 0,
            events: 0,
            said: 0,
            _folder: folder,
        };
        while stage.count("rooms").await < portals {
            sleep(LOOK).await;
        }
        for n in 0..portals {
            stage.alice.say(stage.groups[n], &["hello".to_owned()]).await;
        }
        while stage.count("sent").await < portals {
            sleep(LOOK).await;
        }
        drop(bob);
        stage
    }

    /// Alice's mail waits from here on, so that her work is not measured.
    pub(super) fn nobody_reads(&self) {
        self.alice.reading.abort();
    }

    /// `messages` events in transactions of a hundred.
    pub(super) async fn run_to_native(&mut self, messages: usize) -> Figure {
        let done = self.metric("causeway_delivered_total{to=\"native\"}").await as usize;
        let meter = self.meter().await;
        for _ in 0..messages / AT_ONCE {
            self.push(AT_ONCE).await;
        }
        let goal = done + messages;
        self.delivered(goal).await;
        meter.read(self, messages).await
    }

    /// One event at a time, each when the one before has arrived with Alice.
    pub(super) async fn single_to_native(&mut self, messages: usize) -> Figure {
        let before = self.alice.mirrored().len();
        let meter = self.meter().await;
        for n in 1..=messages {
            self.push(1).await;
            let is_there = |read: &[_]| count_mirrored(read) >= before + n;
            self.alice.wait("one message", is_there).await;
        }
        meter.read(self, messages).await
    }

    /// `messages` wait in the bridge's mailbox when it starts.
    pub(super) async fn run_to_matrix(&mut self, messages: usize) -> Figure {
        self.end_bridge();
        let before = self.count("sent").await;
        let each = 50;
        for n in 0..messages / each {
            let bodies: Vec<String> = (0..each).map(|_| self.next_body()).collect();
            self.alice.say(self.groups[n % self.groups.len()], &bodies).await;
        }
        self.processes[1] = spawn(&self.dir, "bridge");
        while self.count("sent").await <= before {
            sleep(LOOK).await;
        }
        let meter = self.meter().await;
        let first = self.count("sent").await - before;
        while self.count("sent").await < before + messages {
            sleep(LOOK).await;
        }
        while self.metric("causeway_outbox_effects").await > 0.0 {
            sleep(LOOK).await;
        }
        meter.read(self, messages - first).await
    }

    /// One message at a time, each when the one before has arrived.
    pub(super) async fn single_to_matrix(&mut self, messages: usize) -> Figure {
        let before = self.count("sent").await;
        let meter = self.meter().await;
        for n in 1..=messages {
            let body = self.next_body();
            self.alice.say(self.groups[n % self.groups.len()], &[body]).await;
            while self.count("sent").await < before + n {
                tokio::task::yield_now().await;
            }
        }
        meter.read(self, messages).await
    }

    fn next_body(&mut self) -> String {
        self.said += 1;
        format!("message {:0100}", self.said)
    }

    async fn push(&mut self, count: usize) {
        let events: Vec<Value> = (0..count)
            .map(|_| {
                self.events += 1;
                let room = self.events % self.groups.len();
                json!({
                    "event_id": format!("$event{}", self.events),
                    "room_id": format!("!room{room}:b.example"),
                    "sender": "@al:x", "type": "m.room.message", "origin_server_ts": 1,
                    "content": {"msgtype": "m.text", "body": format!("message {:0100}", self.events)},
                })
            })
            .collect();
        self.transactions += 1;
        let url =
            format!("{}/_matrix/app/v1/transactions/{}", self.registration.url, self.transactions);
        let sent = self
            .http
            .put(url)
            .bearer_auth(self.registration.hs_token.expose())
            .body(json!({ "events": events }).to_string())
            .send()
            .await
            .unwrap();
        assert!(sent.status().is_success());
    }

    async fn delivered(&self, goal: usize) {
        while (self.metric("causeway_delivered_total{to=\"native\"}").await as usize) < goal {
            sleep(LOOK).await;
        }
    }

    async fn count(&self, what: &str) -> usize {
        let url = format!("{}/count", self.homeserver);
        let counts = self.http.get(url).send().await.unwrap().bytes().await.unwrap();
        let counts: Value = serde_json::from_slice(&counts).unwrap();
        usize::try_from(counts[what].as_u64().unwrap()).unwrap()
    }

    async fn metric(&self, name: &str) -> f64 {
        let url = format!("http://{}/metrics", self.config.appservice.listen);
        let text = self.http.get(url).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    }

    pub(super) fn bridge_rss_kib(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.processes[1].id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn end_bridge(&mut self) {
        let bridge = &mut self.processes[1];
        bridge.kill().unwrap();
        bridge.wait().unwrap();
    }

    async fn meter(&self) -> Meter {
        Meter {
            bridge_ms: cpu_ms(&self.processes[1]),
            server_ms: cpu_ms(&self.processes[0]),
            commits: self.metric("causeway_db_commits_total{db=\"bridge\"}").await,
            began: Instant::now(),
        }
    }
}

fn count_mirrored(read: &[Read]) -> usize {
    read.iter().filter(|read| read.mirror.is_some()).count()
}

struct Meter {
    bridge_ms: f64,
    server_ms: f64,
    commits: f64,
    began: Instant,
}

impl Meter {
    async fn read(self, stage: &Stage, messages: usize) -> Figure {
        let seconds = self.began.elapsed().as_secs_f64();
        Figure {
            messages,
            seconds,
            bridge_ms: cpu_ms(&stage.processes[1]) - self.bridge_ms,
            server_ms: cpu_ms(&stage.processes[0]) - self.server_ms,
            commits: stage.metric("causeway_db_commits_total{db=\"bridge\"}").await - self.commits,
        }
    }
}

/// CPU time of a process, user and system, in milliseconds (100 ticks a second on Linux).
fn cpu_ms(process: &Child) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let fields: Vec<f64> = after.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    (fields[11] + fields[12]) * 10.0
}

fn spawn(dir: &Path, part: &str) -> Child {
    // Another build of the binary can be measured by the same clients.
    let binary = env::var_os("CAUSEWAY_BENCH_BINARY");
    Command::new(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_causeway").into()))
        .args(["run", "--only", part, "--config"])
        .arg(dir.join("causeway.yaml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn start_homeserver(listeners: &Listeners, registration: &Registration) -> (String, Child) {
    let mut child = Command::new(env::current_exe().unwrap())
        .env("CAUSEWAY_BENCH_ROLE", "homeserver")
        .env("BRIDGE_URL", listeners.appservice_url())
        .env("HS_TOKEN", registration.hs_token.expose())
        .env("SENDER_LOCALPART", &registration.sender_localpart)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (format!("http://{}", line.trim()), child)
}

async fn wait(http: &reqwest::Client, url: &str) {
    while !http.get(url).send().await.is_ok_and(|answer| answer.status().is_success()) {
        sleep(LOOK).await;
    }
}

//! Three real homeservers that federate over TLS on loopback, each with its Causeway, and what passes between
//! them counted; groups of their people.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use causeway_bridge::demo::{
    causeway::{Causeway, Listeners},
    progress::Progress,
    synapse::Synapse,
};
use causeway_livekit::ports::free_port;
use causeway_protocol::{ids::GroupId, roster::Scheme};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    body,
    people::Person,
    process::{Mebibytes, fine_cpu_ms, rss},
    wire::Wire,
};

/// Homeservers: with two a group has no relay room.
const SIDES: usize = 3;
/// What many messages of few people on one address take.
const PLENTY: &str = "1000000";
/// Between looks.
const LOOK: Duration = Duration::from_millis(10);
/// After so long without a byte nothing more comes of what was said: what is gathered is gathered for 5 s.
const QUIET: Duration = Duration::from_secs(8);

/// What Causeway says in its log of each errand to a database, where it is told to.
const ERRAND: &str = "sqlx::query";
/// Has it say so.
pub(crate) const WITH_ERRANDS: &str = "info,sqlx::query=trace";

/// What a Causeway has done.
#[derive(Default)]
pub(crate) struct Counts {
    /// Requests to its homeserver, by what they ask for.
    pub(crate) requests: BTreeMap<String, u64>,
    pub(crate) commits: u64,
}

impl Counts {
    /// Since `before`.
    pub(crate) fn since(mut self, before: &Self) -> Self {
        self.commits -= before.commits;
        for (call, count) in &mut self.requests {
            *count -= before.requests.get(call).copied().unwrap_or(0);
        }
        self.requests.retain(|_, count| *count > 0);
        self
    }
}

/// A homeserver and its Causeway.
pub(crate) struct Side {
    pub(crate) synapse: Synapse,
    pub(crate) causeway: Causeway,
    http: reqwest::Client,
    wire: Wire,
}

/// All of them.
pub(crate) struct Stage {
    pub(crate) sides: Vec<Side>,
    /// Leads to the program that runs, and lives in a folder of its own.
    program: PathBuf,
    _folder: tempfile::TempDir,
}

/// The build of this bench.
pub(crate) const OURS: &str = env!("CARGO_BIN_EXE_causeway");

impl Stage {
    pub(crate) async fn build() -> Self {
        let listeners: [Listeners; SIDES] =
            std::array::from_fn(|_| Listeners::free().expect("free ports"));
        let urls = listeners.map(|listeners| listeners.appservice_url());
        let synapses = Synapse::start_federation(&urls, &Progress::new()).await;
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("causeway");
        symlink(OURS, &program).expect("a link");
        let mut sides = Vec::new();
        for (synapse, listeners) in synapses.expect("homeservers").into_iter().zip(listeners) {
            sides.push(Side::build(&program, synapse, listeners).await);
        }
        Self { sides, program, _folder: folder }
    }

    /// From now on this build serves, with what it logs of that level.
    pub(crate) async fn run(&mut self, build: &Path, level: &str) {
        fs::remove_file(&self.program).expect("is there");
        symlink(build, &self.program).expect("a link");
        for side in &mut self.sides {
            assert!(side.causeway.stop().await.expect("ends"), "it ends in order");
            side.causeway.set_env("CAUSEWAY__LOGGING__LEVEL", level);
            side.causeway.start().await.expect("starts");
        }
    }

    /// A group of these, of whom the first is its founder and on the first server.
    pub(crate) async fn group(&self, people: &[(usize, &Person)]) -> GroupId {
        let ((_, founder), others) = people.split_first().expect("one");
        let group = founder.create_group_as("Garden", Scheme::SenderKeys).await;
        for (_, other) in others {
            founder.add(group, other.client.me().account.as_str()).await;
        }
        for (_, other) in others {
            while other.client.sync_group(group).await.is_err() {
                sleep(LOOK).await;
            }
        }
        group
    }

    /// Bytes between all homeservers so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.sides.iter().map(|side| side.wire.bytes()).sum()
    }

    /// Waits until nothing passes any more; how much had passed.
    pub(crate) async fn quiet(&self) -> u64 {
        let (mut bytes, mut since) = (self.bytes(), Instant::now());
        while since.elapsed() < QUIET {
            sleep(LOOK).await;
            if bytes != self.bytes() {
                (bytes, since) = (self.bytes(), Instant::now());
            }
        }
        bytes
    }

    /// Waits until each server of a group sees the agents of all others in its room, and the room brings them
    /// what is said.
    pub(crate) async fn by_room(&self, group: GroupId) {
        for side in &self.sides {
            while !side.replicas(group).await.iter().all(|it| it["by_room"] == true) {
                sleep(LOOK).await;
            }
        }
    }
}

impl Side {
    async fn build(program: &Path, mut synapse: Synapse, listeners: Listeners) -> Self {
        let federation = port_of(synapse.server_name());
        let behind = free_port().expect("a free port");
        let listener = |port: u16, tls: bool, names: &[&str]| {
            json!({
                "port": port, "bind_addresses": ["127.0.0.1"], "type": "http", "tls": tls,
                "resources": [{ "names": names, "compress": false }],
            })
        };
        let all = [
            listener(port_of(&synapse.url()), false, &["client", "openid"]),
            listener(behind, true, &["federation"]),
        ];
        synapse.set("listeners", json!(all));
        synapse.kill().expect("ends");
        let wire = Wire::lay(federation, behind).await;
        synapse.start_again().await.expect("starts");
        let mut causeway = Causeway::prepare(
            program,
            &synapse.dir().join("causeway"),
            &synapse.url(),
            synapse.server_name(),
            listeners,
            synapse.registration(),
        )
        .expect("its files");
        for limit in ["REGISTRATIONS", "REQUESTS", "ENVELOPES", "ENVELOPE_KIB", "TRAFFIC_KIB"] {
            for part in ["PER_MINUTE", "BURST"] {
                causeway.set_env(&format!("CAUSEWAY__LIMITS__{limit}__{part}"), PLENTY);
            }
        }
        for part in ["PER_HOUR", "BURST"] {
            causeway.set_env(&format!("CAUSEWAY__LIMITS__STRANGERS__{part}"), PLENTY);
        }
        causeway.set_env("CAUSEWAY__LIMITS__CONNECTIONS_PER_ADDRESS", "10000");
        causeway.start().await.expect("Causeway");
        Self { synapse, causeway, http: reqwest::Client::new(), wire }
    }

    pub(crate) async fn person(&self, name: &str) -> Person {
        let token = self.causeway.registration_token().expect("made");
        let name = format!("{name}:{}", self.synapse.server_name());
        Person::register(self.causeway.native_url(), &name, token.expose()).await
    }

    /// The other servers of a group, as the operator sees them.
    async fn replicas(&self, group: GroupId) -> Vec<Value> {
        let base = self.causeway.appservice_url();
        let url = format!("{base}/_causeway/admin/v1/groups/{group}/replicas");
        let token = self.causeway.admin_token().expect("made");
        let answer = self.http.get(url).bearer_auth(token.expose()).send().await;
        let shown: Value = answer.expect("answers").json().await.expect("JSON");
        shown["replicas"].as_array().cloned().expect("a group")
    }

    /// Waits until the others have all that was said here in a group.
    pub(crate) async fn all_taken(&self, group: GroupId) {
        while !self.replicas(group).await.iter().all(|it| it["waiting"] == 0) {
            sleep(LOOK).await;
        }
    }

    /// Counts of this Causeway so far.
    pub(crate) async fn counts(&self) -> Counts {
        let url = format!("{}/metrics", self.causeway.appservice_url());
        let text = self.http.get(url).send().await.expect("answers").text().await.expect("text");
        let of = |line: &str, name: &str| -> Option<(String, u64)> {
            let (label, rest) = line.strip_prefix(name)?.split_once('"')?;
            Some((label.to_owned(), rest.rsplit_once(' ')?.1.parse().ok()?))
        };
        let mut counts = Counts::default();
        for line in text.lines() {
            if let Some((call, count)) = of(line, "causeway_matrix_requests_total{call=\"") {
                *counts.requests.entry(call).or_default() += count;
            }
            counts.commits += of(line, "causeway_db_commits_total{db=\"").map_or(0, |(_, n)| n);
        }
        counts
    }

    /// Errands to its databases so far, as far as its log says so: to be asked for behind counts and before
    /// those that follow, which cost some.
    pub(crate) fn errands(&self) -> u64 {
        let log = fs::read_to_string(self.causeway.log_file()).unwrap_or_default();
        log.matches(ERRAND).count() as u64
    }

    pub(crate) fn cpu_ms(&self) -> f64 {
        fine_cpu_ms(self.causeway.id().expect("runs"))
    }

    pub(crate) fn rss(&self) -> Mebibytes {
        rss(self.causeway.id().expect("runs"))
    }
}

/// Says so many, each in a request of its own, one after the other's answer, and waits until each of these has
/// read the last.
pub(crate) async fn say(group: GroupId, who: &Person, readers: &[&Person], count: usize) {
    let goals: Vec<_> = readers.iter().map(|reader| reader.read().len() + count).collect();
    for number in 0..count {
        who.say(group, &[body(number)]).await;
    }
    for (reader, goal) in readers.iter().zip(goals) {
        reader.wait("what was said", |read| read.len() >= goal).await;
    }
}

fn port_of(address: &str) -> u16 {
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port")
}

//! What a message costs in counts, which neither a clock nor a machine changes: errands to the thread
//! of a database's connection, statements, commits, and bytes of its write-ahead log.
//!
//! A binary of its own, because it hears of every statement of its process. When something costs less
//! or has a reason to cost more, put what the test says it found into [`COSTS`], and say why in the
//! commit; what costs a tenth more without anybody noticing is what this is against.
#![cfg(test)]

#[expect(dead_code, reason = "of it the world takes the time alone")]
#[path = "../it/harness.rs"]
mod harness;
mod heard;
#[expect(dead_code, reason = "what people read is looked at by other tests")]
#[path = "../shared/people.rs"]
mod people;
#[expect(dead_code, reason = "faults are for other tests")]
#[path = "../it/stub.rs"]
mod stub;
#[expect(dead_code, reason = "nothing ends here before the test does")]
#[path = "../it/world.rs"]
mod world;

use std::{fs, path::Path, time::Duration};

use causeway_bridge::{figures, steps::Steps};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use crate::{
    heard::{Asked, Heard},
    people::PATIENCE,
    world::World,
};

/// Messages of which each costs the mean.
const MESSAGES: usize = 40;
/// An errand that comes less often is not a message's.
const OFTEN: usize = MESSAGES / 4;
/// Where nothing was said before, things are made that stay.
const BEFORE: usize = 8;
/// The server's upkeep comes when it is counted, not by the clock.
const NEVER: Duration = Duration::from_hours(24);
/// Bytes of the log at which it is brought home, and begins anew.
const LOG: u64 = 4_000 * 4_096;

const BRIDGE: &str = "bridge.db";
const SERVER: &str = "server.db";
const TO_NATIVE: &str = "one event in a transaction, Matrix → native";
const TO_MATRIX: &str = "one native message → Matrix";
const BROADCAST: &str = "one message to ten devices that are away";

/// What each message costs now: errands, statements, commits, bytes.
const COSTS: [(&str, &str, [f64; 4]); 5] = [
    (TO_NATIVE, BRIDGE, [4.0, 29.0, 1.0, 18_800.0]),
    (TO_NATIVE, SERVER, [7.1, 20.2, 2.0, 16_000.0]),
    (TO_MATRIX, BRIDGE, [8.0, 32.0, 1.0, 19_400.0]),
    (TO_MATRIX, SERVER, [5.0, 21.0, 2.0, 17_480.0]),
    (BROADCAST, SERVER, [2.0, 12.0, 1.0, 13_600.0]),
];

/// What was counted of one kind of message in one database.
struct Found {
    what: &'static str,
    file: &'static str,
    costs: [f64; 4],
    most: String,
}

/// Counts while messages go by.
struct Count<'a> {
    heard: &'a Heard,
    folder: &'a Path,
    bytes: [u64; 2],
}

impl<'a> Count<'a> {
    fn begin(heard: &'a Heard, folder: &'a Path) -> Self {
        let bytes = [BRIDGE, SERVER].map(|file| log_of(folder, file));
        drop(heard.take());
        Self { heard, folder, bytes }
    }

    fn end(self, what: &'static str) -> Vec<Found> {
        let heard = self.heard.take();
        let mut all = Vec::new();
        for (file, before) in [BRIDGE, SERVER].into_iter().zip(self.bytes) {
            let (own, bytes) = (Asked::of(file, &heard, OFTEN), log_of(self.folder, file));
            assert!(bytes < LOG, "the log of {file} has begun anew: its bytes say nothing");
            if own.errands() > 0 {
                let grown = usize::try_from(bytes - before).unwrap();
                let costs = [own.errands(), own.statements(), own.commits(), grown].map(each);
                all.push(Found { what, file, costs, most: own.most() });
            }
        }
        all
    }
}

fn each(all: usize) -> f64 {
    f64::from(u32::try_from(all).unwrap()) / f64::from(u32::try_from(MESSAGES).unwrap())
}

fn log_of(folder: &Path, file: &str) -> u64 {
    fs::metadata(folder.join(format!("{file}-wal"))).map_or(0, |log| log.len())
}

/// A counter that goes up when what it counts is committed.
struct Counter<'a> {
    metrics: &'a PrometheusHandle,
    name: String,
}

impl Counter<'_> {
    fn now(&self) -> u64 {
        let text = self.metrics.render();
        let value = |line: &str| line.strip_prefix(&*self.name)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(value).unwrap_or(0)
    }

    async fn reach(&self, goal: u64) {
        while self.now() < goal {
            tokio::task::yield_now().await;
        }
    }
}

/// Al says something in the room of Alice's group, and she reads it; then the other way round.
async fn through_the_bridge(heard: &Heard, metrics: &PrometheusHandle) -> Vec<Found> {
    let mut world = World::with_upkeep(NEVER).await;
    let bridge = world.begin(Steps::default()).await;
    // Messages follow each other so closely that the end of one shares the next one's commit, however
    // slow the machine is.
    bridge.spine.db.soon_is(NEVER);
    // The server's acknowledgements do not, since they are waited for.
    world.app.soon_is(Duration::ZERO);
    // As homeservers do where people talk; what comes first on a connection is doubted.
    world.kept = Some(reqwest::Client::new());
    let alice = world.person("alice").await;
    let group = alice.create_group("Walkers").await;
    let stub = world.stub.clone();
    let invited = async {
        alice.bridge(group, &["@al:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@al:x")).await
    };
    let room = world.during(&bridge, invited).await;
    stub.change(|rooms| rooms.membership(&room, "@al:x", "@al:x", "join").unwrap());
    let folder = world.folder.path().to_owned();
    let read = Counter { metrics, name: "causeway_messages_delivered_total".to_owned() };
    let mut found = Vec::new();
    for (what, way) in [(TO_NATIVE, "matrix_to_native"), (TO_MATRIX, "native_to_matrix")] {
        let name = format!("causeway_message_seconds_count{{direction=\"{way}\"}}");
        let done = Counter { metrics, name };
        let mut count = None;
        for n in 0..BEFORE + MESSAGES {
            if n == BEFORE {
                world.pass_on_server(0).await;
                count = Some(Count::begin(heard, &folder));
            }
            let goals = (done.now() + 1, read.now() + 1);
            if what == TO_NATIVE {
                let said = json!({"msgtype": "m.text", "body": format!("m{n}")});
                stub.change(|rooms| rooms.event(&room, "@al:x", "m.room.message", None, said));
                assert!(world.push(&bridge).await);
            } else {
                alice.say(group, &[format!("a{n}")]).await;
            }
            done.reach(goals.0).await;
            read.reach(goals.1).await;
        }
        // It lets go of what all have read, which is to be paid for too.
        world.pass_on_server(0).await;
        found.extend(count.unwrap().end(what));
    }
    bridge.drop_dead().await;
    found
}

/// Alice says something to ten who are away.
async fn to_ten(heard: &Heard) -> Vec<Found> {
    let world = World::with_upkeep(NEVER).await;
    let alice = world.person("alice").await;
    let group = alice.create_group("Walkers").await;
    for n in 0..10 {
        let name = format!("p{n}");
        let away = world.person(&name).await;
        alice.add(group, &format!("{name}:b.example")).await;
        away.reading.abort();
    }
    let folder = world.folder.path().to_owned();
    let mut count = None;
    for n in 0..BEFORE + MESSAGES {
        if n == BEFORE {
            count = Some(Count::begin(heard, &folder));
        }
        alice.say(group, &[format!("a{n}")]).await;
    }
    count.unwrap().end(BROADCAST)
}

#[tokio::test]
async fn no_message_costs_a_tenth_more_or_less_than_is_written_down() {
    let heard = Heard::listen();
    let recorder = figures::builder().unwrap().build_recorder();
    // All but the statements runs on this thread.
    let _gathering = metrics::set_default_local_recorder(&recorder);
    let all = async {
        let mut found = through_the_bridge(&heard, &recorder.handle()).await;
        found.extend(to_ten(&heard).await);
        found
    };
    let found = tokio::time::timeout(PATIENCE, all).await.unwrap();
    let mut wrong = Vec::new();
    for Found { what, file, costs, most } in &found {
        println!("{what}, {file}: {costs:?}\n{most}");
        let (.., written) = COSTS.iter().find(|cost| (cost.0, cost.1) == (*what, *file)).unwrap();
        if costs.iter().zip(written).any(|(found, written)| (found / written - 1.0).abs() > 0.1) {
            wrong.push(format!("{what}, {file}: {costs:?}, written down {written:?}"));
        }
    }
    assert_eq!(found.len(), COSTS.len());
    assert!(wrong.is_empty(), "errands, statements, commits, bytes of each: {wrong:#?}");
}

//! Between servers: real Synapses that federate over TLS on loopback, each with its Causeway.
//!
//! `cargo bench -p causeway-bridge --bench servers [-- --quick] [WHAT…]`; with `--quick` in small numbers,
//! which say nothing and show that it runs. Beside ours, in turns, the same homeservers alone: `PUT send` at
//! one, `/sync` at the others. People and what counts bytes are of this process.
//!
//! What: `rates`, `sizes`, `many` (sizes in a group of 1,000), `keys`, `missed`; all where nothing is said. With
//! the path of another build of `causeway` behind `keys` or `missed`, both have their turns.
#![cfg(test)]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod bare;
mod keys;
mod many;
mod missed;
#[expect(dead_code, reason = "what people read is looked at by tests")]
#[path = "../../tests/shared/people.rs"]
mod people;
#[expect(dead_code, reason = "what is for other benches alone")]
#[path = "../bridge/process.rs"]
mod process;
#[path = "../../../homeserver-ext/groups/benches/crowd/signer.rs"]
mod signer;
mod sizes;
mod stage;
mod wire;

use std::{fs, future::Future, path::PathBuf, time::Duration};

use bare::Bare;
use causeway_protocol::ids::GroupId;
use keys::Crowd;
use people::Person;
use sizes::{Weighed, weigh};
use stage::{Stage, say};
use tokio::time::Instant;

/// How much is said.
struct Size {
    rounds: usize,
    /// Messages of a round.
    each: usize,
    /// Messages of which each waits for the one before.
    one_by_one: usize,
    /// Messages that are weighed in a row, and alone.
    weighed: (usize, usize),
    members: usize,
    /// Groups to which each build gives keys.
    turns: usize,
    /// Members of a group that is only weighed.
    many: usize,
    /// Messages that a server misses, each time.
    missed: [usize; 2],
}

const FULL: Size = Size {
    rounds: 12,
    each: 50,
    one_by_one: 100,
    weighed: (200, 3),
    members: 50,
    turns: 3,
    many: 1_000,
    missed: [10_000, 30_000],
};
const QUICK: Size = Size {
    rounds: 2,
    each: 5,
    one_by_one: 4,
    weighed: (4, 1),
    members: 6,
    turns: 1,
    many: 70,
    missed: [150, 300],
};
/// Messages of one request where many are said at once.
const AT_ONCE: usize = 64;

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let has = |word: &str| std::env::args().any(|argument| argument == word);
    // Cargo's own argument; with `cargo test` there is none, and nothing is measured.
    if !has("--bench") {
        return;
    }
    let size = if has("--quick") { &QUICK } else { &FULL };
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let other = words.iter().find(|word| word.contains('/')).map(PathBuf::from);
    let wants = |what: &str| words.is_empty() || words.iter().any(|word| word == what);
    say_load();
    let mut stage = Stage::build().await;
    if wants("rates") {
        rates(&stage, size).await;
    }
    if wants("sizes") {
        weigh_few(&stage, size).await;
    }
    if wants("many") {
        many::weigh(&stage, size).await;
    }
    if wants("keys") {
        keys::in_turns(&mut stage, size, other.clone()).await;
    }
    if wants("missed") {
        missed::in_turns(&mut stage, size, other).await;
    }
    say_load();
}

/// Rates and times of two and of three servers.
async fn rates(stage: &Stage, size: &Size) {
    let People { alice, bob: _, carol, erin, two, three } = &People::meet(stage, "rate").await;
    let mut bare = Bare::open(&stage.sides[..2], "bare-two").await;
    compare("two, by the link", (*two, alice, &[carol]), &mut bare, size).await;
    let mut bare = Bare::open(&stage.sides, "bare-three").await;
    compare("three, by the room", (*three, alice, &[carol, erin]), &mut bare, size).await;
    at_once(stage, (*two, alice), size).await;
}

/// Bytes of few members of two and of three servers, and of more of two.
async fn weigh_few(stage: &Stage, size: &Size) {
    let People { alice, bob, carol, erin, two, three } = &People::meet(stage, "size").await;
    let few = [bob, carol];
    let few = weigh(stage, async |count| say(*two, alice, &few, count).await, size.weighed).await;
    stage.by_room(*three).await;
    let room = [carol, erin];
    let room =
        weigh(stage, async |count| say(*three, alice, &room, count).await, size.weighed).await;
    let crowd = Crowd::gather(stage, "many", size.members).await;
    let (readers, first) = (crowd.readers(), &crowd.people[0]);
    say(crowd.group, first, &readers, 1).await;
    let say_all = async |count| say(crowd.group, first, &readers, count).await;
    let more = weigh(stage, say_all, size.weighed).await;
    println!("\n{}", Weighed::HEAD);
    println!("{}", few.row(3, 2, "the link"));
    println!("{}", more.row(size.members, 2, "the link"));
    println!("{}", room.row(3, 3, "the room"));
    println!("{}", room.between_ten().row(10, 10, "the room, computed"));
}

/// Two of the first server, one of each other, and their groups.
struct People {
    alice: Person,
    bob: Person,
    carol: Person,
    erin: Person,
    two: GroupId,
    three: GroupId,
}

impl People {
    async fn meet(stage: &Stage, tag: &str) -> Self {
        let person = async |at: usize, name| stage.sides[at].person(&format!("{name}-{tag}")).await;
        let alice = person(0, "alice").await;
        let (bob, carol, erin) =
            (person(0, "bob").await, person(1, "carol").await, person(2, "erin").await);
        let two = stage.group(&[(0, &alice), (0, &bob), (1, &carol)]).await;
        let three = stage.group(&[(0, &alice), (1, &carol), (2, &erin)]).await;
        say(two, &alice, &[&bob, &carol], 1).await;
        say(three, &alice, &[&carol, &erin], 1).await;
        stage.by_room(three).await;
        Self { alice, bob, carol, erin, two, three }
    }
}

/// Rates and times of ours and of the homeservers alone, in turns.
async fn compare(
    what: &str,
    (group, who, readers): (GroupId, &Person, &[&Person]),
    bare: &mut Bare,
    size: &Size,
) {
    let mut rounds = Vec::with_capacity(size.rounds);
    for round in 0..size.rounds {
        // Who begins changes, because Synapse works off its queue after each.
        rounds.push(if round % 2 == 0 {
            let alone = timed(bare.say(size.each)).await;
            (alone, timed(say(group, who, readers, size.each)).await)
        } else {
            let ours = timed(say(group, who, readers, size.each)).await;
            (timed(bare.say(size.each)).await, ours)
        });
    }
    let rate = |time: Duration| size.each as f64 / time.as_secs_f64();
    let alone = median(rounds.iter().map(|(alone, _)| rate(*alone)).collect());
    let ours = median(rounds.iter().map(|(_, ours)| rate(*ours)).collect());
    let ratio = median(rounds.iter().map(|(alone, ours)| rate(*ours) / rate(*alone)).collect());
    println!("{what}: {ours:.1} messages/s, bare {alone:.1}/s, ratio {ratio:.2}");
    let (mut alone, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..size.one_by_one {
        alone.push(ms(timed(bare.say(1)).await));
        ours.push(ms(timed(say(group, who, readers, 1)).await));
    }
    let (alone, ours) = (median(alone), median(ours));
    let added = ours - alone;
    println!("{what}: p50 {ours:.1} ms until read, bare {alone:.1} ms, {added:.1} ms more");
}

/// Many in each request.
async fn at_once(stage: &Stage, (group, who): (GroupId, &Person), size: &Size) {
    let count = (size.missed[0] / 5).max(AT_ONCE);
    let began = Instant::now();
    say_many(group, who, count).await;
    stage.sides[0].all_taken(group).await;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!("{count} messages, {AT_ONCE} in a request: {rate:.0} messages/s by the link");
}

async fn say_many(group: GroupId, who: &Person, count: usize) {
    let texts: Vec<_> = (0..count).map(body).collect();
    for texts in texts.chunks(AT_ONCE) {
        who.say(group, texts).await;
    }
}

/// What is said, ours and bare.
fn body(number: usize) -> String {
    format!("{number} {}", "x".repeat(200))
}

async fn timed(what: impl Future<Output = ()>) -> Duration {
    let began = Instant::now();
    what.await;
    began.elapsed()
}

fn say_load() {
    let load = fs::read_to_string("/proc/loadavg").expect("Linux");
    let load: Vec<_> = load.split(' ').take(3).collect();
    println!("load average {}", load.join(", "));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Starts a task that lives as long as this process.
#[expect(clippy::disallowed_methods, reason = "the one place where this bench starts tasks")]
pub(crate) fn start(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

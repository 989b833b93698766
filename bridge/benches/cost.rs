//! What a message costs where benchmarks flatter: alone in its transaction or its `POST`, steadily,
//! among a thousand portals, after a start, and after quiet. `cargo bench -p causeway-bridge --bench
//! cost [-- ROW… PORTALS…]`, with rows of [`ROWS`] and 1, 20 or `CAUSEWAY_BENCH_PORTALS` portals.
//!
//! A stub homeserver, the native server and the bridge in a process each; people's devices are away.
//! CPU is user and system time from `/proc/PID/stat`, of what happens once that of its threads; bytes
//! are `write_bytes` of `/proc/PID/io`.
#![cfg(test)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

#[path = "bridge/alone.rs"]
mod alone;
#[expect(dead_code, reason = "ratios to the floor are of the other table")]
#[path = "bridge/figure.rs"]
mod figure;
#[path = "bridge/floor.rs"]
mod floor;
#[path = "bridge/ground.rs"]
mod ground;
#[path = "bridge/homeserver.rs"]
mod homeserver;
#[expect(dead_code, reason = "what people read is looked at by tests")]
#[path = "../tests/shared/people.rs"]
mod people;
#[path = "bridge/process.rs"]
mod process;
#[expect(dead_code, reason = "one message after the other is of the other table")]
#[path = "bridge/stage.rs"]
mod stage;
#[path = "bridge/talk.rs"]
mod talk;

use std::time::Duration;

use alone::{Alone, Way};
use figure::Figure;
use ground::Ground;
use process::rss;
use stage::Stage;

/// Between looks at whether all is done.
const LOOK: Duration = Duration::from_millis(50);
/// After so long without work a process is idle.
const IDLE: Duration = Duration::from_secs(10);
/// Who speak at once.
const PEOPLE: usize = 4;
/// How often a message comes after quiet, for a median.
const TIMES: usize = 3;
/// What can be asked for.
const ROWS: [&str; 8] = ["idle", "hundred", "one", "steady", "batches", "posts", "start", "quiet"];

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some(role) = std::env::var_os("CAUSEWAY_BENCH_ROLE") {
        assert_eq!(role, "homeserver");
        return homeserver::serve();
    }
    // Cargo's own arguments (`--bench`), and with `cargo test` none: then nothing is measured.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let asked = Asked::read();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        if asked.wants("idle", 0) {
            idle().await;
        }
        println!("{}", Figure::COST_HEAD);
        let mut alone = Vec::new();
        for portals in asked.sizes {
            alone.extend(at(&asked, portals).await);
        }
        if !alone.is_empty() {
            println!("\n{}\n{}", Alone::HEAD, alone.join("\n"));
        }
    });
}

/// What is to be measured.
struct Asked {
    rows: Vec<String>,
    portals: Vec<usize>,
    sizes: [usize; 3],
}

impl Asked {
    fn read() -> Self {
        let sizes = [20, 1, setting("CAUSEWAY_BENCH_PORTALS", 1_000)];
        let words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
        let (mut rows, mut portals) = (Vec::new(), Vec::new());
        for word in words {
            match word.parse() {
                Ok(number) => portals.push(number),
                Err(_) => rows.push(word),
            }
        }
        let is_known = |row: &String| ROWS.contains(&row.as_str());
        assert!(rows.iter().all(is_known), "{rows:?}: there are only {ROWS:?}");
        let is_size = |portals: &usize| *portals == 0 || sizes.contains(portals);
        assert!(
            portals.iter().all(is_size),
            "{portals:?}: there are only {sizes:?}, and 0 for idle"
        );
        Self { rows, portals, sizes }
    }

    fn wants(&self, row: &str, portals: usize) -> bool {
        (self.rows.is_empty() || self.rows.iter().any(|wanted| wanted == row))
            && (self.portals.is_empty() || self.portals.contains(&portals))
    }
}

/// Both parts in one process, and each in its own, that have nothing to do.
async fn idle() {
    let ground = Ground::new();
    let http = reqwest::Client::new();
    let both = ground.spawn(None);
    ground.ready(&http).await;
    tokio::time::sleep(IDLE).await;
    println!("idle memory of `causeway run` with no portals: {}\n", rss(both.id()));
}

/// Prints what many messages cost with so many portals; what those cost that come alone is for later.
/// One room is asked only how fast it takes what several say.
async fn at(asked: &Asked, portals: usize) -> Vec<String> {
    let rows = match portals {
        1 => &["batches", "posts"],
        20 => &ROWS[1..],
        _ => &ROWS[..],
    };
    let here: Vec<&str> = rows.iter().copied().filter(|row| asked.wants(row, portals)).collect();
    let mut alone = Vec::new();
    if here.is_empty() {
        return alone;
    }
    let wants = |row| here.contains(&row);
    let many = setting("CAUSEWAY_BENCH_MESSAGES", 10_000);
    let mut stage = Stage::new(portals, PEOPLE).await;
    stage.warm().await;
    println!("{}", floor::measure(&stage, 6_400, 64, portals.min(8)).await.cost(64, portals));
    println!("{}", floor::measure(&stage, 1_000, 1, 1).await.cost(1, portals));
    if wants("hundred") {
        let figure = stage.run_to_native(many).await;
        println!("{}", figure.cost("Matrix → native, 100 events in a transaction", portals));
    }
    if wants("one") {
        let figure = stage.ones_to_native(many / 4).await;
        println!("{}", figure.cost("Matrix → native, one event in a transaction", portals));
    }
    if wants("steady") {
        let figure = stage.steadily_to_native(50, Duration::from_secs(30)).await;
        println!("{}", figure.cost("Matrix → native, 50 a second", portals));
    }
    if wants("posts") {
        let figure = stage.posts_to_matrix(many / 4).await;
        println!("{}", figure.cost("native → Matrix, one envelope in a POST", portals));
    }
    if wants("batches") {
        let figure = stage.run_to_matrix(many / 2).await;
        println!(
            "{}",
            figure.cost("native → Matrix, 50 envelopes in a POST, kept before", portals)
        );
    }
    for (way, name) in [(Way::ToNative, "Matrix → native"), (Way::ToMatrix, "native → Matrix")]
    {
        if wants("start") {
            let (start, first) = stage.start_and_first(way).await;
            alone.push(start.row("start of the bridge, until ready", portals));
            alone.push(first.row(&format!("{name}, the first after it"), portals));
        }
        if wants("quiet") {
            let one = stage.after_quiet(way, IDLE, TIMES).await;
            alone.push(one.row(&format!("{name}, after 10 s of quiet"), portals));
        }
    }
    if wants("idle") {
        let (_stage, both) = stage.both_in_one(IDLE).await;
        alone.push(String::new());
        alone.push(format!("idle memory of `causeway run` with {portals} portals: {}", rss(both)));
    }
    alone
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

//! The bridge alone (design §8): a stub homeserver, the native server and the bridge in a process
//! each, 20 portals and one, each direction by itself. `cargo bench -p causeway-bridge`.
//!
//! A message counts when its envelope is committed in the mailboxes, or its PUT is answered and the
//! link committed. The floor is one commit for as many rows and one PUT for each, nothing else, by
//! the same clients in the same run.
#![cfg(test)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

#[expect(dead_code, reason = "what is for `cost.rs` alone")]
#[path = "bridge/figure.rs"]
mod figure;
#[path = "bridge/floor.rs"]
mod floor;
#[expect(dead_code, reason = "what is for `cost.rs` alone")]
#[path = "bridge/ground.rs"]
mod ground;
#[path = "bridge/homeserver.rs"]
mod homeserver;
#[expect(dead_code, reason = "what people read is looked at by tests")]
#[path = "../tests/shared/people.rs"]
mod people;
#[expect(dead_code, reason = "what is for other benches alone")]
#[path = "bridge/process.rs"]
mod process;
#[path = "bridge/stage.rs"]
mod stage;

use std::time::Duration;

use figure::Figure;
use ground::Ground;
use process::rss;
use stage::{EACH_SAYS, Stage};

/// Between looks at whether all is done.
const LOOK: Duration = Duration::from_millis(50);
/// Rows that the bridge has in one commit at most.
const ROWS: usize = 64;
/// Lanes that the bridge serves at once.
const LANES: usize = 8;
/// After so long without work a process is idle.
const IDLE: Duration = Duration::from_secs(10);

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
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        idle_memory().await;
        println!("{}", Figure::HEAD);
        for portals in [20, 1] {
            throughput(portals, setting("CAUSEWAY_BENCH_MESSAGES", 10_000)).await;
        }
        let long = setting("CAUSEWAY_BENCH_LONG", 100_000);
        if long > 10_000 {
            long_memory(long).await;
        }
    });
}

/// One process with both parts that has nothing to do.
async fn idle_memory() {
    let ground = Ground::new();
    let both = ground.spawn(None);
    ground.ready(&reqwest::Client::new()).await;
    tokio::time::sleep(IDLE).await;
    println!("idle memory of `causeway run`: {}\n", rss(both.id()));
}

async fn throughput(portals: usize, messages: usize) {
    let mut stage = Stage::new(portals, 2).await;
    let batched = floor::measure(&stage, 6_400, ROWS, portals.min(LANES)).await;
    println!("{}", batched.row(ROWS, portals));
    let single = floor::measure(&stage, 1_000, 1, 1).await;
    println!("{}", single.row(1, portals));
    let figure = stage.run_to_native(messages).await;
    println!("{}", figure.row("Matrix → native", portals, batched));
    let figure = stage.run_to_matrix(messages).await;
    println!("{}", figure.row("native → Matrix", portals, batched));
    let figure = stage.single_to_native(500).await;
    println!("{}", figure.row("Matrix → native, one by one", portals, single));
    let figure = stage.single_to_matrix(500).await;
    println!("{}", figure.row("native → Matrix, one by one", portals, single));
}

/// Whether memory grows with what passes, each direction in a process of its own.
async fn long_memory(messages: usize) {
    let told = |way, before, stage: &Stage| {
        let after = rss(stage.bridge());
        println!("{way}: {before} after 10,000 messages, {after} after {messages}");
    };
    println!();
    let mut stage = Stage::new(20, 2).await;
    stage.run_to_native(10_000).await;
    let before = rss(stage.bridge());
    stage.run_to_native(messages - 10_000).await;
    told("Matrix → native", before, &stage);
    drop(stage);
    let mut stage = Stage::new(5, messages.div_ceil(EACH_SAYS)).await;
    stage.talk_to_matrix(10_000).await;
    let before = rss(stage.bridge());
    stage.talk_to_matrix(messages - 10_000).await;
    told("native → Matrix", before, &stage);
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

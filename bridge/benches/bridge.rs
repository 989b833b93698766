//! The bridge alone (design §8): a stub homeserver, the native server and the bridge in a process
//! each, 20 portals and one, each direction by itself. `cargo bench -p causeway-bridge`.
//!
//! A message counts when its envelope is committed in the mailboxes, or its PUT is answered and the
//! link committed. The floor is one commit for as many rows and one PUT for each, nothing else.
#![cfg(test)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

#[path = "bridge/floor.rs"]
mod floor;
#[path = "bridge/homeserver.rs"]
mod homeserver;
#[path = "../tests/shared/people.rs"]
mod people;
#[path = "bridge/stage.rs"]
mod stage;

use std::time::Duration;

use stage::{Figure, Stage};

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
    let messages = setting("CAUSEWAY_BENCH_MESSAGES", 10_000);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        println!("{}", Figure::HEAD);
        for portals in [20, 1] {
            let mut stage = Stage::new(portals).await;
            let floor = floor::measure(&stage, 2_000).await;
            let one = stage.single_to_native(200).await;
            println!("{}", one.row("to native, one by one", portals, floor));
            stage.nobody_reads();
            println!("{}", stage.run_to_native(messages).await.row("to native", portals, floor));
            println!("{}", stage.run_to_matrix(messages).await.row("to matrix", portals, floor));
            println!(
                "{}",
                stage.single_to_matrix(100).await.row("to matrix, one by one", portals, floor)
            );
        }
        let long = setting("CAUSEWAY_BENCH_LONG", 100_000);
        if long > 0 {
            let mut stage = Stage::new(20).await;
            stage.nobody_reads();
            stage.run_to_native(10_000).await;
            let before = stage.bridge_rss_kib();
            stage.run_to_native(long - 10_000).await;
            println!(
                "memory after 10,000 messages {before} KiB, after {long} {} KiB",
                stage.bridge_rss_kib()
            );
        }
    });
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Between looks at whether all is done.
const LOOK: Duration = Duration::from_millis(50);

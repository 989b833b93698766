//! What a message to a group costs the server by how many devices it is for: CPU, bytes that stay
//! on disk, and how long the answer takes, one by one and 4,096 in one request.
//!
//! `cargo bench -p causeway-server --bench broadcast [-- DEVICES…]`. The server is a process of its
//! own; nobody's stream is open, and nothing in the group was said by the server's API.
#![cfg(test)]

#[expect(dead_code, reason = "what is written is asked by the other benchmark")]
#[path = "shared/served.rs"]
mod served;

use std::path::Path;

use causeway_protocol::api::{Accepted, PREFIX, PostEnvelopes};
use tokio::time::Instant;

use served::{FOLDER, GROUP, Served, bytes, cpu, fill, message, serve, token};

const MESSAGES: u32 = 500;
/// What one request carries at most.
const BATCH: u32 = 4_096;
const BYTES: usize = 200;

#[tokio::main]
async fn main() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return serve(Path::new(&folder)).await;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let asked: Vec<u32> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if asked.is_empty() { vec![3, 10, 100, 1_000, 10_000] } else { asked };
    println!(
        "{:>8}{:>12}{:>14}{:>12}{:>18}{:>18}",
        "devices", "CPU each", "bytes each", "answer p50", "4,096 at once", "bytes of them"
    );
    for devices in sizes {
        measure(devices).await;
    }
}

async fn measure(devices: u32) {
    let folder = tempfile::tempdir().expect("a folder");
    // Makes the tables.
    drop(Served::start(folder.path()));
    fill(&folder.path().join("server.db"), devices).await;
    let served = Served::start(folder.path());
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let post = async |from: u32, count: u32| {
        let envelopes = (from..from + count).map(|n| message(n, BYTES)).collect();
        let body = serde_json::to_vec(&PostEnvelopes { envelopes, count: None }).expect("JSON");
        let url = format!("{}{PREFIX}/groups/{GROUP}/envelopes", served.base);
        let began = Instant::now();
        let answer = http.post(url).bearer_auth(token(1)).body(body).send().await.expect("answers");
        let took = began.elapsed();
        let accepted: Accepted = answer.json().await.expect("accepts");
        assert!(accepted.accepted.iter().all(|one| one.recipients == devices - 1));
        took
    };
    post(0, 20).await;
    let (before, kept) = (cpu(served.pid()), bytes(folder.path()).await);
    let mut answers = Vec::new();
    for n in 0..MESSAGES {
        answers.push(post(1_000 + n, 1).await);
    }
    answers.sort();
    let cpu = cpu(served.pid()).saturating_sub(before) / MESSAGES;
    let each = (bytes(folder.path()).await - kept) / i64::from(MESSAGES);
    let kept = bytes(folder.path()).await;
    let at_once = post(100_000, BATCH).await;
    println!(
        "{devices:>8}{:>9.2} ms{each:>14}{:>9.2} ms{:>15.0} ms{:>18}",
        cpu.as_secs_f64() * 1e3,
        answers[answers.len() / 2].as_secs_f64() * 1e3,
        at_once.as_secs_f64() * 1e3,
        bytes(folder.path()).await - kept,
    );
}

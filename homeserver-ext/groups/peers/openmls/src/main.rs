//! A group of 50 devices, one each: a message, and a removal after which all of the rest speak.
//!
//! `cargo run --release --manifest-path homeserver-ext/groups/peers/openmls/Cargo.toml`
//!
//! Neither side has a database or a network here: CPU time of the constructions, of all members
//! together where a row says so, and the bytes that they hand to a server. MLS has a full tree, in
//! which every member has committed once, as in a group that has lived for a while; its cipher suite
//! is that of RFC 9420 with X25519, AES-128-GCM and Ed25519.

mod mls;
mod ours;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Members, of one device each.
const MEMBERS: usize = 50;
const MESSAGES: usize = 200;
const TEXT: [u8; 1024] = [0x61; 1024];

/// What something took.
struct Cost {
    cpu: Duration,
    bytes: usize,
}

fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("not negative")
}

/// Runs `work`, which says how many bytes it sent.
fn cost(work: impl FnOnce() -> usize) -> Cost {
    let started = cpu();
    let bytes = work();
    Cost { cpu: cpu() - started, bytes }
}

fn row(what: &str, whose: &str, cost: &Cost, count: usize) {
    let cpu = cost.cpu.as_secs_f64() * 1e6 / count as f64;
    println!("{what:<44}{whose:<14}{cpu:>12.0} µs{:>12} B", cost.bytes / count);
}

fn main() {
    println!("{:<44}{:<14}{:>15}{:>14}", "what", "by", "CPU", "sent");
    let mut mls = mls::Group::of(MEMBERS);
    let mut keys = ours::Group::of(MEMBERS);
    for (what, by, cost) in [
        ("seal 1 KiB for 49", "MLS", mls.seal(MESSAGES)),
        ("seal 1 KiB for 49", "Sender Keys", keys.seal(MESSAGES)),
        ("seal 1 KiB for 49", "pairwise", keys.fan_out(MESSAGES)),
        ("open it, one reader", "MLS", mls.open()),
        ("open it, one reader", "Sender Keys", keys.open()),
    ] {
        row(what, by, &cost, MESSAGES);
    }
    let [removal, speaking] = mls.remove_and_speak();
    row("one is put out: all who stay hear of it", "MLS", &removal, 1);
    let [ours_removal, ours_speaking] = keys.remove_and_speak();
    row("one is put out: all who stay hear of it", "Sender Keys", &ours_removal, 1);
    row("then each of 49 speaks, and all read it", "MLS", &speaking, 1);
    row("then each of 49 speaks, and all read it", "Sender Keys", &ours_speaking, 1);
}

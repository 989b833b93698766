//! Through a real Synapse: what the bridge adds to it, each way.
//!
//! `cargo bench -p causeway-bridge --bench synapse`. Both ways pass a tap of this process, the bare
//! loop as well as ours. To Matrix: the time for 25 messages, by turns as a bare loop of `PUT send`
//! and as said by native people, until the last `PUT` is answered. To native: the time from the
//! moment when Synapse pushes an event until its envelope comes out of the recipient's mailbox.
#![cfg(test)]

mod natives;
mod tap;

use std::{
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use causeway_bridge::{
    demo::{
        causeway::{Causeway, Listeners},
        matrix_user::MatrixUser,
        progress::Progress,
        synapse::Synapse,
    },
    domain::ghost::Names,
    gateway::matrix::Matrix,
};
use natives::{Door, Portal};
use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::{json, value::to_raw_value};
use tap::Tap;

const ROUNDS: usize = 12;
/// Messages of a round.
const MESSAGES: u16 = 25;
/// Messages of which each waits for the one before.
const ONE_BY_ONE: usize = 60;

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider().install_default().expect("the first");
    let folder = tempfile::tempdir().expect("a folder");
    let listeners = Listeners::free().expect("free ports");
    let (to_us, our_url) = Tap::start().await;
    to_us.lead_to(&listeners.appservice_url());
    let synapse = Synapse::start(&our_url, &Progress::new()).await.expect("Synapse");
    let (to_synapse, synapse_url) = Tap::start().await;
    to_synapse.lead_to(&synapse.url());

    let mut causeway = Causeway::prepare(
        Path::new(env!("CARGO_BIN_EXE_causeway")),
        folder.path(),
        &synapse_url,
        synapse.server_name(),
        listeners,
        synapse.registration(),
    )
    .expect("its files");
    causeway.start().await.expect("Causeway");
    let mut matthew = synapse.register("matthew", "secret of matthew").await.expect("a user");
    let door = Door {
        url: listeners.native_url(),
        token: causeway.registration_token().expect("made").expose().to_owned(),
        folder: folder.path().to_path_buf(),
    };
    let mut portal = Portal::open(&door, "bench", matthew.user_id().as_str()).await;
    let room = joined(&mut matthew).await;
    portal.room = room.to_string();
    portal.count_arrivals();
    matthew.say(&room, "hello").await.expect("said");
    portal.until_arrived(1).await;
    let before = to_synapse.sent();
    portal.talk(2).await;
    to_synapse.until_sent(before + 2).await;

    let token = synapse.registration().as_token.clone();
    let names = Names::new(synapse.server_name()).expect("a server name");
    let alice = format!("alice-bench:{}", names.server()).parse().expect("an account");
    let bare = Bare {
        matrix: Matrix::new(&synapse_url, token).expect("a URL"),
        ghost: names.ghost(&alice).expect("a ghost"),
        room: room.clone(),
    };
    let mut rounds = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let ours = || async {
            let (start, before) = (now(), to_synapse.sent());
            portal.talk(usize::from(MESSAGES)).await;
            to_synapse.until_sent(before + u64::from(MESSAGES)).await;
            start.elapsed()
        };
        // Who begins changes, because Synapse works off its queue after each.
        rounds.push(if round % 2 == 0 {
            let bare = bare.send(round).await;
            (bare, ours().await)
        } else {
            let ours = ours().await;
            (bare.send(round).await, ours)
        });
    }
    let rate = |time: &Duration| f64::from(MESSAGES) / time.as_secs_f64();
    let bare = median(rounds.iter().map(|(bare, _)| rate(bare)).collect());
    let ours = median(rounds.iter().map(|(_, ours)| rate(ours)).collect());
    let ratio = median(rounds.iter().map(|(bare, ours)| rate(ours) / rate(bare)).collect());
    println!("native → Matrix: bare PUT {bare:.1}/s, ours {ours:.1}/s, ratio {ratio:.2}");

    let (mut added, mut whole) = (Vec::new(), Vec::new());
    for number in 0..ONE_BY_ONE {
        let (start, before) = (now(), portal.arrived());
        let event = matthew.say(&room, &number.to_string()).await.expect("said");
        portal.until_arrived(before + 1).await;
        let pushed = to_us.pushed(event.as_str()).expect("it came by");
        added.push(ms(pushed.elapsed()));
        whole.push(ms(start.elapsed()));
    }
    println!(
        "Matrix → native: {:.1} ms from push to mailbox (p50), {:.1} ms from the start of the send",
        median(added),
        median(whole),
    );
    causeway.stop().await.expect("ends");
}

/// Events put by a bare loop, one in flight.
struct Bare {
    matrix: Matrix,
    ghost: OwnedUserId,
    room: OwnedRoomId,
}

impl Bare {
    async fn send(&self, round: usize) -> Duration {
        let body = format!("bare {}", "x".repeat(200));
        let content =
            to_raw_value(&json!({ "msgtype": "m.text", "body": body })).expect("an object");
        let start = now();
        for number in 0..MESSAGES {
            let txn = format!("bare-{round}-{number}");
            self.matrix
                .send(&self.ghost, &self.room, "m.room.message", &txn, &content, None)
                .await
                .expect("sent");
        }
        start.elapsed()
    }
}

/// Waits to be invited, and goes in.
async fn joined(user: &mut MatrixUser) -> OwnedRoomId {
    loop {
        if let Some(room) = user.sync().await.expect("synced").invites.pop() {
            user.join(&room).await.expect("joined");
            return room;
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Time, for intervals.
#[expect(clippy::disallowed_methods, reason = "the one clock of this bench")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Starts a task that lives as long as this process.
#[expect(clippy::disallowed_methods, reason = "the one place where this bench starts tasks")]
pub(crate) fn start(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

//! What the machine costs for each message, its rows durable: sealing and receiving in slices.
//!
//! `cargo bench -p causeway-groups --bench machine`. CPU time is of the whole process, SQLite's
//! threads included; what a homeserver, a network or a bridge adds is measured elsewhere.
#![cfg(test)]

use std::time::Duration;

use causeway_groups::{
    Machine, SCHEMA, Vault,
    machine::{AddedBy, Batch, NewGroup, Outgoing, What},
};
use causeway_protocol::{
    api::{AccountDevices, ClaimedKeys, KeyCount, OpBytes, StreamRow},
    content::{Content, Text, TextKind},
    device::OneTimeKey,
    envelope::Submission,
    ids::{AccountId, ClientId, DeviceId, GroupId, Seq, Timestamp},
    roster::{Role, Scheme},
};
use causeway_store::{Db, Lock, Options};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use vodozemac::olm::{Account, Session, SessionConfig};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const MESSAGES: usize = 6_400;

struct Device {
    machine: Machine,
    db: Db,
    account: AccountId,
    devices: AccountDevices,
    key: OneTimeKey,
    _dir: TempDir,
}

#[tokio::main]
async fn main() {
    println!("{:<34}{:>14}{:>18}{:>16}", "what", "per commit", "messages/s", "CPU/message");
    for slice in [64, 10, 1] {
        let (devices, group) = crowd(Scheme::SenderKeys, 2).await;
        let (alice, bob) = (&devices[0], &devices[1]);
        let count = if slice == 1 { MESSAGES / 8 } else { MESSAGES };
        let mut batches = Vec::new();
        let sealing = Lap::start();
        for first in (0..count).step_by(slice) {
            batches.push(seal(alice, group, first, slice).await);
        }
        sealing.end("seal", slice, count);
        let rows: Vec<_> = (1..)
            .zip(batches.iter().flat_map(|batch| &batch.submissions).flat_map(Submission::rows))
            .map(|(seq, envelope)| StreamRow { seq: Seq(seq), envelope })
            .collect();
        let receiving = Lap::start();
        let mut shown = 0;
        for rows in rows.chunks(slice) {
            let mut tx = bob.db.begin().await.expect("begins");
            let receipts = bob.machine.receive(&mut tx, NOW, rows).await.expect("receives");
            tx.commit().await.expect("commits");
            let messages = receipts.received.iter().filter(|r| matches!(r.what, What::Message(_)));
            shown += messages.count();
        }
        receiving.end("receive", slice, count);
        assert_eq!(shown, count, "every message is shown");
    }
    distribute(50).await;
    for others in [50, 499] {
        fan_out(others).await;
    }
}

struct Lap {
    wall: Duration,
    cpu: Duration,
}

fn clock(id: ClockId) -> Duration {
    Duration::try_from(clock_gettime(id)).expect("not negative")
}

impl Lap {
    fn start() -> Self {
        Self { wall: clock(ClockId::Monotonic), cpu: clock(ClockId::ProcessCPUTime) }
    }

    fn cpu_ms(&self) -> f64 {
        clock(ClockId::ProcessCPUTime).saturating_sub(self.cpu).as_secs_f64() * 1e3
    }

    fn end(&self, what: &str, slice: usize, count: usize) {
        let count = f64::from(u32::try_from(count).expect("a small count"));
        let wall = clock(ClockId::Monotonic).saturating_sub(self.wall).as_secs_f64();
        let cpu = self.cpu_ms() / count;
        println!("{what:<34}{slice:>14}{:>18.0}{cpu:>13.3} ms", count / wall);
    }
}

async fn device(name: &str) -> Device {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("client.db");
    let options = Options { path, lock: Lock::Exclusive, schemas: &[SCHEMA] };
    let db = Db::open(options).await.expect("opens");
    let vault = Vault::open(&db, &dir.path().join("storage.key")).await.expect("a vault");
    let account: AccountId = format!("{name}:a.example").parse().expect("an account");
    let mut tx = db.begin().await.expect("begins");
    let (machine, _) =
        Machine::create(&mut tx, vault, account.clone(), NOW).await.expect("creates");
    let machine = machine.added_by_these(AddedBy::All);
    let mut request = machine.register_request(&mut tx, None).await.expect("a request");
    machine.uploaded(&mut tx, NOW, KeyCount { one_time_keys: 50 }).await.expect("uploaded");
    tx.commit().await.expect("commits");
    let devices = AccountDevices { list: request.list, devices: vec![request.device] };
    let key = request.one_time_keys.pop().expect("a key");
    Device { machine, db, account, devices, key, _dir: dir }
}

async fn learn(who: &Device, whom: &Device) {
    let mut tx = who.db.begin().await.expect("begins");
    let answer = whom.devices.clone().into();
    who.machine.learn(&mut tx, NOW, &whom.account, Some(&answer)).await.expect("learns");
    tx.commit().await.expect("commits");
}

async fn install(who: &Device, group: GroupId, ops: &[OpBytes]) {
    let mut tx = who.db.begin().await.expect("begins");
    who.machine.install_ops(&mut tx, NOW, group, ops).await.expect("installs");
    tx.commit().await.expect("commits");
}

/// A group of this many devices; the first has a session with each of the others, and the second
/// knows the group too.
async fn crowd(scheme: Scheme, count: usize) -> (Vec<Device>, GroupId) {
    let mut devices = Vec::new();
    for n in 0..count {
        devices.push(device(&format!("m{n}")).await);
    }
    let (alice, others) = devices.split_first().expect("at least one");
    let new = NewGroup {
        scheme,
        suite: None,
        name: "Garden".to_owned(),
        description: String::new(),
        members_may_add: false,
        is_channel: false,
        max_members: 500,
        ttl_s: 86_400,
    };
    let mut tx = alice.db.begin().await.expect("begins");
    let (group, create) = alice.machine.create_group(&mut tx, NOW, new).await.expect("creates");
    drop(tx);
    install(alice, group, std::slice::from_ref(&create)).await;
    let mut ops = vec![create];
    for other in others {
        learn(alice, other).await;
        let mut tx = alice.db.begin().await.expect("begins");
        let add = alice.machine.add(&mut tx, NOW, group, &other.account, Role::Member).await;
        drop(tx);
        let add = add.expect("adds");
        install(alice, group, std::slice::from_ref(&add)).await;
        ops.push(add);
    }
    learn(&others[0], alice).await;
    install(&others[0], group, &ops).await;
    let id = |device: &Device| -> DeviceId { device.machine.me().record.device_id };
    let asked: Vec<_> = others.iter().map(id).collect();
    let keys = others.iter().map(|other| (id(other), other.key.clone())).collect();
    let mut tx = alice.db.begin().await.expect("begins");
    let answer = ClaimedKeys { keys };
    alice.machine.claimed(&mut tx, NOW, &asked, &answer).await.expect("claims");
    tx.commit().await.expect("commits");
    (devices, group)
}

/// A new chain for everybody, and the message that begins it.
async fn distribute(others: usize) {
    let (devices, group) = crowd(Scheme::SenderKeys, others + 1).await;
    let alice = &devices[0];
    let rounds = 10;
    let mut laps = Vec::new();
    for round in 0..rounds {
        let mut tx = alice.db.begin().await.expect("begins");
        alice.machine.rotate(&mut tx, group).await.expect("rotates");
        tx.commit().await.expect("commits");
        let lap = Lap::start();
        let batch = seal(alice, group, round, 1).await;
        laps.push(lap.cpu_ms());
        assert_eq!(batch.submissions.len(), others + 1);
    }
    laps.sort_by(f64::total_cmp);
    println!(
        "a new chain for {others} devices: {:.1} ms CPU, median of {rounds}",
        laps[rounds / 2]
    );
}

/// One message for everybody, its key a piece for each, beside what Olm alone takes for so many pieces.
async fn fan_out(others: usize) {
    let (devices, group) = crowd(Scheme::Pairwise, others + 1).await;
    let mut sessions: Vec<_> = (0..others).map(|_| session()).collect();
    let rounds = 10;
    let (mut laps, mut bare, mut bytes) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        let lap = Lap::start();
        for session in &mut sessions {
            std::hint::black_box(session.encrypt([0x46; 65]).expect("encrypts"));
        }
        bare.push(lap.cpu_ms());
        let lap = Lap::start();
        let batch = seal(&devices[0], group, round, 1).await;
        laps.push(lap.cpu_ms());
        let rows: usize = batch.submissions.iter().map(|s| s.rows().count()).sum();
        assert_eq!(rows, others, "a piece for each");
        bytes = batch.submissions.iter().map(size).sum();
    }
    for laps in [&mut laps, &mut bare] {
        laps.sort_by(f64::total_cmp);
    }
    println!(
        "a pairwise message for {others} devices: {:.1} ms CPU, {bytes} bytes; Olm alone {:.1} ms; \
         medians of {rounds}",
        laps[rounds / 2],
        bare[rounds / 2],
    );
}

/// What a submission takes of the 45,000 bytes of an envelope.
fn size(submission: &Submission) -> usize {
    let pieces = submission.rows().filter_map(|row| row.piece).map(|piece| 32 + piece.0.len());
    submission.payload.len() + pieces.sum::<usize>()
}

/// A session with a device that has not answered, as those of the group are.
fn session() -> Session {
    let (here, mut there) = (Account::new(), Account::new());
    there.generate_one_time_keys(1);
    let key = *there.one_time_keys().values().next().expect("a key");
    here.create_outbound_session(SessionConfig::version_1(), there.curve25519_key(), key)
        .expect("a session")
}

async fn seal(alice: &Device, group: GroupId, first: usize, slice: usize) -> Batch {
    let item = |n: usize| Outgoing {
        client_id: ClientId::new((n as u128).to_be_bytes()),
        ttl_s: 0,
        content: Content::Text(Text {
            kind: TextKind::Text,
            body: format!("message {n} {}", "x".repeat(200)),
            html: None,
            reply_to: None,
            mirror: None,
        }),
    };
    let items: Vec<_> = (first..first + slice).map(item).collect();
    let mut tx = alice.db.begin().await.expect("begins");
    let batch = alice.machine.seal(&mut tx, NOW, group, &items).await.expect("seals");
    if batch.has_keys() {
        alice.machine.accepted(&mut tx, &batch).await.expect("accepted");
    }
    tx.commit().await.expect("commits");
    batch
}

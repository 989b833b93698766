//! What the machine costs for each message, its rows durable: sealing and receiving in slices.
//!
//! `cargo bench -p causeway-groups --bench machine`. CPU time is of the whole process, SQLite's
//! threads included; what a homeserver, a network or a bridge adds is measured elsewhere.
#![cfg(test)]

use std::{collections::BTreeMap, time::Duration};

use causeway_groups::{
    Machine, SCHEMA, Vault,
    machine::{Batch, NewGroup, Outgoing, What},
};
use causeway_protocol::{
    api::{AccountDevices, ClaimedKeys, KeyCount, OpBytes, StreamRow},
    content::{Content, Text, TextKind},
    device::OneTimeKey,
    ids::{AccountId, ClientId, DeviceId, GroupId, Seq, Timestamp},
    roster::Role,
};
use causeway_store::{Db, Lock, Options};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

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
        let (alice, bob, group) = pair().await;
        let count = if slice == 1 { MESSAGES / 8 } else { MESSAGES };
        let mut batches = Vec::new();
        let sealing = Lap::start();
        for first in (0..count).step_by(slice) {
            batches.push(seal(&alice, group, first, slice).await);
        }
        sealing.end("seal", slice, count);
        let rows: Vec<_> = (1..)
            .zip(batches.iter().flat_map(|batch| &batch.submissions).flat_map(|s| s.rows()))
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

    fn end(&self, what: &str, slice: usize, count: usize) {
        let count = f64::from(u32::try_from(count).expect("a small count"));
        let wall = clock(ClockId::Monotonic).saturating_sub(self.wall).as_secs_f64();
        let cpu = clock(ClockId::ProcessCPUTime).saturating_sub(self.cpu).as_secs_f64();
        println!("{what:<34}{slice:>14}{:>18.0}{:>13.3} ms", count / wall, cpu * 1e3 / count);
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
    let mut request = machine.register_request(&mut tx, None).await.expect("a request");
    machine.uploaded(&mut tx, NOW, KeyCount { one_time_keys: 50 }).await.expect("uploaded");
    tx.commit().await.expect("commits");
    let devices = AccountDevices { list: request.list, devices: vec![request.device] };
    let key = request.one_time_keys.pop().expect("a key");
    Device { machine, db, account, devices, key, _dir: dir }
}

async fn learn(who: &Device, whom: &Device) {
    let mut tx = who.db.begin().await.expect("begins");
    let answer = Some(&whom.devices);
    who.machine.learn(&mut tx, NOW, &whom.account, answer).await.expect("learns");
    tx.commit().await.expect("commits");
}

async fn install(who: &Device, group: GroupId, ops: &[OpBytes]) {
    let mut tx = who.db.begin().await.expect("begins");
    who.machine.install_ops(&mut tx, NOW, group, ops).await.expect("installs");
    tx.commit().await.expect("commits");
}

/// Two devices in one group, with a session between them.
async fn pair() -> (Device, Device, GroupId) {
    let (alice, bob) = (device("alice").await, device("bob").await);
    learn(&alice, &bob).await;
    learn(&bob, &alice).await;
    let new = NewGroup {
        name: "Garden".to_owned(),
        description: String::new(),
        members_may_add: false,
        is_channel: false,
        max_members: 10,
        ttl_s: 86_400,
    };
    let mut tx = alice.db.begin().await.expect("begins");
    let (group, create) = alice.machine.create_group(&mut tx, NOW, new).await.expect("creates");
    drop(tx);
    install(&alice, group, std::slice::from_ref(&create)).await;
    let mut tx = alice.db.begin().await.expect("begins");
    let add = alice.machine.add(&mut tx, NOW, group, &bob.account, Role::Member).await;
    drop(tx);
    let add = add.expect("adds");
    install(&alice, group, std::slice::from_ref(&add)).await;
    install(&bob, group, &[create, add]).await;
    let device: DeviceId = bob.machine.me().record.device_id;
    let keys = ClaimedKeys { keys: BTreeMap::from([(device, bob.key.clone())]) };
    let mut tx = alice.db.begin().await.expect("begins");
    alice.machine.claimed(&mut tx, NOW, &[device], &keys).await.expect("claims");
    tx.commit().await.expect("commits");
    (alice, bob, group)
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

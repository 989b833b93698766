//! What a group's history costs a member: bytes of its database by table, CPU of an op, and of
//! what is looked up in it.
//!
//! `cargo bench -p causeway-groups --bench rosters [-- MEMBERS…]`. Members are added one by one, as
//! invites add them, by somebody who is not measured.
#![cfg(test)]

use std::time::Duration;

use causeway_groups::{Machine, SCHEMA, Vault, machine::AddedBy};
use causeway_protocol::{
    api::OpBytes,
    device::{DeviceOf, DeviceRecord},
    ids::{AccountId, CurveKey, DeviceId, GroupId, MemberId, Signature, Timestamp},
    roster::{Body, Create, Devices, Entry, Op, OpCore, Policy, Roster},
};
use causeway_store::{Db, Lock, Options};
use ed25519_dalek::{Signer as _, SigningKey};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// Ops of which the last are timed together.
const TIMED: u32 = 20;

#[tokio::main]
async fn main() {
    let asked: Vec<u32> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if asked.is_empty() { vec![50, 100, 150, 1_000] } else { asked };
    println!(
        "{:>8}{:>14}{:>12}{:>14}{:>14}{:>12}{:>12}",
        "members", "all bytes", "per member", "table ops", "the rest", "op", "first look"
    );
    for members in sizes {
        measure(members).await;
    }
}

async fn measure(members: u32) {
    let founder = Founder::new();
    let reader = Reader::new().await;
    let create = founder.create(members);
    let mut roster = Roster::create(&create).expect("valid");
    reader.install(&create).await;
    let mut taken = Duration::ZERO;
    for number in 1..members {
        let entry = if number == 1 { reader.entry() } else { stranger(number) };
        let op = founder.op(&roster, &Body::Add(vec![entry]));
        roster = roster.apply(&op).expect("valid");
        let started = cpu();
        reader.install(&op).await;
        if number + TIMED >= members {
            taken += cpu().saturating_sub(started);
        }
    }
    let group = roster.group();
    let machine = reader.again().await;
    let started = cpu();
    let mut tx = reader.db.begin().await.expect("begins");
    let head = machine.roster(&mut tx, group).await.expect("looks").expect("is known");
    let looked = cpu().saturating_sub(started);
    assert_eq!(*head, roster, "the head that the ops make");
    let all: i64 = bytes(&mut tx, "name NOT LIKE 'sqlite_schema%'").await;
    let ops: i64 = bytes(&mut tx, "name IN ('ops', 'sqlite_autoindex_ops_1', 'ops_whole')").await;
    println!(
        "{members:>8}{all:>14}{:>12}{ops:>14}{:>14}{:>9.2} ms{:>9.2} ms",
        all / i64::from(members),
        all - ops,
        ms(taken) / f64::from(TIMED.min(members - 1)),
        ms(looked),
    );
}

fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).expect("not negative")
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Bytes of the pages of what `of` names.
async fn bytes(tx: &mut causeway_store::Tx, of: &str) -> i64 {
    let sql = format!("SELECT COALESCE(SUM(pgsize), 0) FROM dbstat WHERE {of}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(tx.conn()).await.expect("dbstat")
}

/// A member with a database.
struct Reader {
    machine: Machine,
    db: Db,
    dir: TempDir,
}

impl Reader {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("client.db");
        let options = Options { path, lock: Lock::Exclusive, schemas: &[SCHEMA] };
        let db = Db::open(options).await.expect("opens");
        let vault = Vault::open(&db, &dir.path().join("storage.key")).await.expect("a vault");
        let account: AccountId = "reader:a.example".parse().expect("an account");
        let mut tx = db.begin().await.expect("begins");
        let (machine, _) = Machine::create(&mut tx, vault, account, NOW).await.expect("creates");
        tx.commit().await.expect("commits");
        let machine = machine.added_by_these(AddedBy::All);
        Self { machine, db, dir }
    }

    /// The machine of a process that has just started.
    async fn again(&self) -> Machine {
        let key = self.dir.path().join("storage.key");
        let vault = Vault::open(&self.db, &key).await.expect("a vault");
        Machine::load(&self.db, vault).await.expect("loads").expect("is there")
    }

    fn entry(&self) -> Entry {
        let me = self.machine.me();
        entry(me.record.device(), me.account.as_str().to_owned())
    }

    async fn install(&self, op: &Op) {
        let (group, op): (GroupId, _) = (op.group(), OpBytes(op.as_bytes().to_vec()));
        let mut tx = self.db.begin().await.expect("begins");
        self.machine.install_ops(&mut tx, NOW, group, &[op]).await.expect("installs");
        tx.commit().await.expect("commits");
    }
}

/// Who makes the group, and lets everybody in.
struct Founder {
    device: SigningKey,
    record: DeviceRecord,
}

impl Founder {
    fn new() -> Self {
        let (identity, device) =
            (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let of = DeviceOf {
            member_id: MemberId::new(identity.verifying_key().to_bytes()),
            device_id: DeviceId::new(device.verifying_key().to_bytes()),
        };
        let curve25519 = CurveKey::new([9; 32]);
        let record = DeviceRecord {
            member_id: of.member_id,
            device_id: of.device_id,
            curve25519,
            signature: sign(&device, &DeviceRecord::record_bytes(&of, &curve25519)),
            certificate: sign(&identity, &DeviceRecord::certificate_bytes(&of, &curve25519)),
        };
        Self { device, record }
    }

    fn create(&self, members: u32) -> Op {
        let create = Create {
            // Shared keys, which alone may have more; rosters are the same.
            scheme: if members > 1_000 { 3 } else { 1 },
            suite: 1,
            rand: [7; 16],
            account: "founder:a.example".to_owned(),
            legacy_id: String::new(),
            devices: Devices { version: 1, ids: vec![self.record.device_id] },
            policy: Policy {
                min_version: 2,
                add_by: 0,
                post_by: 0,
                max_members: if members > 1_000 { 10_000 } else { 1_000 },
                ttl_s: 86_400,
                name: "Garden".to_owned(),
                description: String::new(),
            },
        };
        self.seal(OpCore::create(&self.record, NOW, create).expect("fits"))
    }

    fn op(&self, head: &Roster, body: &Body) -> Op {
        self.seal(OpCore::next(head, &self.record, NOW, body).expect("fits"))
    }

    fn seal(&self, core: OpCore) -> Op {
        let signature = sign(&self.device, &core.signed_bytes().expect("fits"));
        core.sealed(self.record.certificate, signature).expect("fits")
    }
}

fn sign(key: &SigningKey, bytes: &[u8]) -> Signature {
    Signature::new(key.sign(bytes).to_bytes())
}

/// A member who is only a name here.
fn stranger(number: u32) -> Entry {
    let name = |byte: u8| {
        let mut name = [byte; 32];
        name[..4].copy_from_slice(&number.to_be_bytes());
        name
    };
    let device = DeviceOf { member_id: MemberId::new(name(3)), device_id: DeviceId::new(name(4)) };
    entry(device, format!("member.{number}:a.example"))
}

fn entry(device: DeviceOf, account: String) -> Entry {
    Entry {
        member_id: device.member_id,
        role: 0,
        account,
        legacy_id: String::new(),
        devices: Devices { version: 1, ids: vec![device.device_id] },
    }
}

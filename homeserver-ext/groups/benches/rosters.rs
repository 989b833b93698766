//! What a group's history costs a member: bytes of its database by table, CPU of an op, and of
//! what is looked up in it.
//!
//! `cargo bench -p causeway-groups --bench rosters [-- MEMBERS…]`. Members are added one by one, as
//! invites add them, by somebody who is not measured.
#![cfg(test)]

#[path = "crowd/founder.rs"]
mod founder;
#[path = "crowd/signer.rs"]
mod signer;

use std::time::Duration;

use causeway_groups::{Machine, SCHEMA, Vault, machine::AddedBy};
use causeway_protocol::{
    api::OpBytes,
    ids::{AccountId, GroupId, Timestamp},
    roster::{Body, Entry, Op, Roster},
};
use causeway_store::{Db, Lock, Options};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crate::{
    founder::{create, stranger},
    signer::{Signer, entry},
};

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
    let founder = Signer::new(0);
    let reader = Reader::new().await;
    let create = create(&founder, NOW, members);
    let mut roster = Roster::create(&create).expect("valid");
    reader.install(&create).await;
    let mut taken = Duration::ZERO;
    for number in 1..members {
        let entry = if number == 1 { reader.entry() } else { stranger(number) };
        let op = founder.op(&roster, NOW, &Body::Add(vec![entry]));
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

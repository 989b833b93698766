//! What a message to a group costs the server by how many devices it is for: CPU, bytes that stay
//! on disk, and how long the answer takes, one by one and 4,096 in one request.
//!
//! `cargo bench -p causeway-server --bench broadcast [-- DEVICES…]`. The server is a process of its
//! own; nobody's stream is open, and nothing in the group was said by the server's API.
#![cfg(test)]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use causeway_protocol::{
    api::{Accepted, PREFIX, PostEnvelopes},
    envelope::{Kind, Recipient, Sender, Submission, SubmittedTo, compute_id},
    ids::{DeviceId, Epoch, GroupId, Timestamp},
};
use causeway_server::{App, Clock, Config};
use sha2::{Digest as _, Sha256};
use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "CAUSEWAY_BENCH_SERVE";
const SERVER: &str = "a.example";
const TOKEN: &str = "the sender's token";
const GROUP: GroupId = GroupId::new([7; 32]);
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
        let envelopes = (from..from + count).map(message).collect();
        let body = serde_json::to_vec(&PostEnvelopes { envelopes, count: None }).expect("JSON");
        let url = format!("{}{PREFIX}/groups/{GROUP}/envelopes", served.base);
        let began = Instant::now();
        let answer = http.post(url).bearer_auth(TOKEN).body(body).send().await.expect("answers");
        let took = began.elapsed();
        let accepted: Accepted = answer.json().await.expect("accepts");
        assert!(accepted.accepted.iter().all(|one| one.recipients == devices - 1));
        took
    };
    post(0, 20).await;
    let (cpu, kept) = (served.cpu(), bytes(folder.path()).await);
    let mut answers = Vec::new();
    for n in 0..MESSAGES {
        answers.push(post(1_000 + n, 1).await);
    }
    answers.sort();
    let cpu = served.cpu().saturating_sub(cpu) / MESSAGES;
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

fn device(n: u32) -> DeviceId {
    DeviceId::new(Sha256::digest(n.to_be_bytes()).into())
}

fn message(n: u32) -> Submission {
    let mut payload = vec![0; BYTES];
    payload[..4].copy_from_slice(&n.to_be_bytes());
    let (kind, sender) = (Kind::Message, device(1));
    Submission {
        id: Some(compute_id(kind, Some(&sender), &Recipient::Broadcast, &payload, None)),
        kind,
        group: GROUP,
        epoch: Epoch(0),
        sender: Sender { account: account(1).parse().expect("an account"), device: sender },
        to: SubmittedTo::Broadcast,
        ttl_ms: 86_400_000,
        payload,
    }
}

fn account(n: u32) -> String {
    format!("p{n}:{SERVER}")
}

async fn open(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.expect("opens")
}

/// Bytes of the pages in use.
async fn bytes(folder: &Path) -> i64 {
    let mut conn = open(&folder.join("server.db")).await;
    let sql = "SELECT (page_count - freelist_count) * 4096
               FROM pragma_page_count(), pragma_freelist_count()";
    sqlx::query_scalar(sql).fetch_one(&mut conn).await.expect("counts")
}

/// A group of so many devices, each an account's only one; the first may post.
async fn fill(path: &Path, devices: u32) {
    let mut conn = open(path).await;
    sqlx::raw_sql("BEGIN").execute(&mut conn).await.expect("begins");
    sqlx::query(
        "INSERT INTO groups (grp, group_id, epoch, roster, roster_hash, name, members, closed,
            ttl_s, stale_below) VALUES (1, $1, 0, x'', $1, 'tea', $2, FALSE, 2592000, 0)",
    )
    .bind(GROUP.as_ref())
    .bind(devices)
    .execute(&mut conn)
    .await
    .expect("a group");
    for n in 1..=devices {
        let (member, token) = (Sha256::digest(device(n).as_ref()), Sha256::digest(TOKEN));
        let member = member.as_slice();
        for (statement, token) in [
            ("INSERT INTO accounts (account, member_id, list, created_ms)
              VALUES ($1, $2, '{}', 1)", None),
            ("INSERT INTO devices (device, device_id, member_id, account, record, listed, token_hash)
              VALUES ($4, $3, $2, $1, '{}', TRUE, $5)", Some(token.as_slice()).filter(|_| n == 1)),
            ("INSERT INTO group_members (grp, member_id, account, role) VALUES (1, $2, $1, 2)", None),
            ("INSERT INTO group_devices (grp, device_id, member_id, from_epoch)
              VALUES (1, $3, $2, 0)", None),
        ] {
            sqlx::query(statement)
                .bind(account(n))
                .bind(member)
                .bind(device(n).as_ref())
                .bind(n)
                .bind(token)
                .execute(&mut conn)
                .await
                .expect("a row");
        }
    }
    // An older version's tables differ by this.
    let old =
        "INSERT INTO mailboxes (device, last_seq, acked_seq) SELECT device, 0, 0 FROM devices";
    if sqlx::query(old).execute(&mut conn).await.is_err() {
        let new = "INSERT INTO mailboxes (device, acked_seq) SELECT device, 0 FROM devices;
                   UPDATE groups SET devices = (SELECT count(*) FROM devices)";
        sqlx::raw_sql(new).execute(&mut conn).await.expect("mailboxes");
    }
    sqlx::raw_sql("COMMIT").execute(&mut conn).await.expect("commits");
}

/// The server in a process of its own, killed on drop.
struct Served {
    child: Child,
    base: String,
}

impl Served {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let base = lines.map_while(Result::ok).find_map(|line| {
            line.split_once("listening on ").map(|(_, address)| format!("http://{address}"))
        });
        Self { child, base: base.expect("it listens") }
    }

    /// What it has used, user and system.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("it runs");
        let fields = stat.rsplit_once(") ").expect("a name").1.split(' ');
        let ticks: u64 = fields.skip(11).take(2).map(|n| n.parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn serve(folder: &Path) {
    let mut config = Config::new(SERVER, folder.join("server.db"));
    config.accounts.envelopes = None;
    let app = App::open(config, Clock::new(|| Timestamp(1_800_000_000_000))).await.expect("opens");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("listening on {}", listener.local_addr().expect("bound"));
    app.serve(listener, CancellationToken::new()).await;
}

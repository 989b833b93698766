//! A server in a process of its own, and a group on it that was written down and not made.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use causeway_protocol::{
    envelope::{Kind, Recipient, Sender, Submission, SubmittedTo, compute_id},
    ids::{DeviceId, Epoch, GroupId, Timestamp},
};
use causeway_server::{App, Clock, Config, EdgeLimits};
use sha2::{Digest as _, Sha256};
use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio_util::sync::CancellationToken;

/// Where the process that serves finds its folder.
pub(super) const FOLDER: &str = "CAUSEWAY_BENCH_SERVE";
pub(super) const GROUP: GroupId = GroupId::new([7; 32]);
const SERVER: &str = "a.example";

pub(super) fn device(n: u32) -> DeviceId {
    DeviceId::new(Sha256::digest(n.to_be_bytes()).into())
}

/// What the first device says, told apart by `n`.
pub(super) fn message(n: u32, bytes: usize) -> Submission {
    let mut payload = vec![0; bytes];
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

/// What device `n` shows.
pub(super) fn token(n: u32) -> String {
    format!("the token of device {n}")
}

fn account(n: u32) -> String {
    format!("p{n}:{SERVER}")
}

async fn open(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.expect("opens")
}

/// Bytes of the pages in use.
pub(super) async fn bytes(folder: &Path) -> i64 {
    let mut conn = open(&folder.join("server.db")).await;
    let sql = "SELECT (page_count - freelist_count) * 4096
               FROM pragma_page_count(), pragma_freelist_count()";
    sqlx::query_scalar(sql).fetch_one(&mut conn).await.expect("counts")
}

/// A group of so many devices, each an account's only one.
pub(super) async fn fill(path: &Path, devices: u32) {
    let mut conn = open(path).await;
    sqlx::raw_sql("BEGIN").execute(&mut conn).await.expect("begins");
    group(&mut conn, (1, GROUP), 1..=devices).await;
    mailboxes(&mut conn).await;
    sqlx::raw_sql("COMMIT").execute(&mut conn).await.expect("commits");
}

/// One group more, by its number, of devices that there are not yet.
pub(super) async fn group(
    conn: &mut SqliteConnection,
    (grp, group): (u32, GroupId),
    devices: std::ops::RangeInclusive<u32>,
) {
    sqlx::query(
        "INSERT INTO groups (grp, group_id, epoch, roster, roster_hash, name, members, closed,
            ttl_s, stale_below) VALUES ($1, $2, 0, x'', $2, 'tea', $3, FALSE, 2592000, 0)",
    )
    .bind(grp)
    .bind(group.as_ref())
    .bind(u32::try_from(devices.clone().count()).expect("few"))
    .execute(&mut *conn)
    .await
    .expect("a group");
    for n in devices {
        let (member, token) = (Sha256::digest(device(n).as_ref()), Sha256::digest(token(n)));
        let member = member.as_slice();
        for (statement, token) in [
            ("INSERT INTO accounts (account, member_id, list, created_ms)
              VALUES ($1, $2, '{}', 1)", None),
            ("INSERT INTO devices (device, device_id, member_id, account, record, listed, token_hash)
              VALUES ($4, $3, $2, $1, '{}', TRUE, $5)", Some(token.as_slice())),
            ("INSERT INTO group_members (grp, member_id, account, role) VALUES ($6, $2, $1, 2)", None),
            ("INSERT INTO group_devices (grp, device_id, member_id, from_epoch)
              VALUES ($6, $3, $2, 0)", None),
        ] {
            sqlx::query(statement)
                .bind(account(n))
                .bind(member)
                .bind(device(n).as_ref())
                .bind(n)
                .bind(token)
                .bind(grp)
                .execute(&mut *conn)
                .await
                .expect("a row");
        }
    }
}

/// What all devices have, once there are all.
pub(super) async fn mailboxes(conn: &mut SqliteConnection) {
    // An older version's tables differ by this.
    let old =
        "INSERT INTO mailboxes (device, last_seq, acked_seq) SELECT device, 0, 0 FROM devices";
    if sqlx::query(old).execute(&mut *conn).await.is_err() {
        let new = "INSERT INTO mailboxes (device, acked_seq) SELECT device, 0 FROM devices;
                   UPDATE groups SET devices =
                    (SELECT count(*) FROM group_devices d WHERE d.grp = groups.grp)";
        sqlx::raw_sql(new).execute(&mut *conn).await.expect("mailboxes");
    }
}

/// The server in a process of its own, killed on drop.
pub(super) struct Served {
    child: Child,
    pub(super) base: String,
}

impl Served {
    pub(super) fn start(folder: &Path) -> Self {
        Self::start_with(folder, None)
    }

    /// With one more variable in its environment.
    pub(super) fn start_with(folder: &Path, more: Option<(&str, String)>) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(FOLDER, folder)
            .envs(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let base = lines.map_while(Result::ok).find_map(|line| {
            line.split_once("listening on ").map(|(_, address)| format!("http://{address}"))
        });
        Self { child, base: base.expect("it listens") }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// What a process has caused to be written to the disk.
pub(super) fn written_kib(pid: u32) -> f64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("it runs");
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse::<f64>().ok()).expect("bytes") / 1024.0
}

/// What a process has used, user and system.
pub(super) fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields = stat.rsplit_once(") ").expect("a name").1.split(' ');
    let ticks: u64 = fields.skip(11).take(2).map(|n| n.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until it is killed; says its address on standard output.
pub(super) async fn serve(folder: &Path) {
    serve_with(folder, |_| ()).await;
}

/// Likewise, with more in its configuration.
pub(super) async fn serve_with(folder: &Path, more: impl FnOnce(&mut Config)) {
    let mut config = Config::new(SERVER, folder.join("server.db"));
    config.accounts.envelopes = None;
    // All devices are here.
    config.edge = EdgeLimits { per_address: 20_000, requests: None, ..EdgeLimits::default() };
    more(&mut config);
    let app = App::open(config, Clock::new(|| Timestamp(1_800_000_000_000))).await.expect("opens");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("listening on {}", listener.local_addr().expect("bound"));
    app.serve(listener, CancellationToken::new()).await;
}

//! What calls cost the server: 1,000 that nobody says anything in, and what lets devices go to LiveKit.
//!
//! `cargo bench -p causeway-server --bench calls [-- idle tokens]`. The server and who calls are a process
//! each; memory is the server's, from `/proc`. `tokens` needs a LiveKit, which is built where there is none.
#![cfg(test)]

#[expect(dead_code, reason = "what messages need is of the other benchmarks")]
#[path = "shared/served.rs"]
mod served;

use std::path::Path;

use causeway_livekit::{Binary, LiveKit, Settings};
use causeway_protocol::{
    api::{CallCap, CallIntent, CallSfus, CallState, JoinCall, PREFIX, StartCall},
    ids::{CallId, GroupId},
};
use futures_util::{StreamExt as _, stream};
use reqwest::Client;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, SqliteConnection};
use tokio::{net::TcpStream, time::Instant};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, tungstenite::client::IntoClientRequest as _,
};

use served::{FOLDER, Served, cpu, serve, serve_with, token};

/// Where the process that serves learns of LiveKit: its address and its secret.
const LIVEKIT: &str = "CAUSEWAY_BENCH_LIVEKIT";
const CALLS: u32 = 1_000;
/// Who calls whom: each call has two devices, of which no other has one.
const EACH: u32 = 2;
/// One call of so many, who each ask for so many tokens.
const MANY: u32 = 60;
const TOKENS: u32 = 40;
/// Requests at once.
const AT_ONCE: usize = 8;

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Some(folder) = std::env::var_os(FOLDER) {
        return match std::env::var(LIVEKIT) {
            Ok(livekit) => {
                let (url, secret) = livekit.split_once(' ').expect("both");
                let livekit = causeway_server::LiveKit {
                    api_url: url.to_owned(),
                    public_url: url.replace("http", "ws"),
                    api_key: "causeway".to_owned(),
                    api_secret: causeway_server::ApiSecret::new(secret),
                };
                serve_with(Path::new(&folder), |config| config.livekit = Some(livekit)).await;
            }
            Err(_) => serve(Path::new(&folder)).await,
        };
    }
    let words: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wants = |word: &str| words.is_empty() || words.iter().any(|asked| asked == word);
    if wants("idle") {
        idle().await;
    }
    if wants("tokens") {
        tokens().await;
    }
}

/// A server with groups of devices that listen.
struct Stage {
    served: Served,
    http: Client,
    _streams: Vec<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn new((groups, each): (u32, u32), more: Option<(&str, String)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        drop(Served::start(folder.path()));
        fill(&folder.path().join("server.db"), groups, each).await;
        let served = Served::start_with(folder.path(), more);
        let open = async |n| listen(&served.base, n).await;
        let streams = stream::iter(1..=groups * each).map(open).buffer_unordered(32);
        let streams: Vec<_> = streams.collect().await;
        Self { served, http: Client::new(), _streams: streams, _folder: folder }
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        n: u32,
        path: &str,
        body: &(impl serde::Serialize + Sync),
    ) -> T {
        let url = format!("{}{PREFIX}{path}", self.served.base);
        let answer = self.http.post(url).bearer_auth(token(n)).json(body).send().await;
        let answer = answer.expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {status} {text}"))
    }

    /// The devices of a group come into a call.
    async fn call(&self, nth: u32, each: u32) -> CallState {
        let (call, caps) = (call(nth), vec![CallCap::Mesh, CallCap::Sfu]);
        let group = format!("/groups/{}/calls", group(nth));
        let first = (nth - 1) * each + 1;
        let intent = CallIntent::Audio;
        let asked = StartCall { call, intent, caps: caps.clone(), may_degrade: false };
        let mut state: CallState = self.ask(first, &group, &asked).await;
        let asked = JoinCall { caps, may_degrade: false };
        for n in first + 1..first + each {
            state = self.ask(n, &format!("{group}/{call}/join"), &asked).await;
        }
        state
    }
}

fn group(nth: u32) -> GroupId {
    GroupId::new(Sha256::digest([b"group", nth.to_be_bytes().as_slice()].concat()).into())
}

fn call(nth: u32) -> CallId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&nth.to_be_bytes());
    CallId::new(id)
}

async fn listen(base: &str, n: u32) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
    let url = format!("{}{PREFIX}/stream", base.replace("http", "ws"));
    let mut request = url.into_client_request().expect("an address");
    let bearer = format!("Bearer {}", token(n)).parse().expect("a header");
    request.headers_mut().insert("authorization", bearer);
    tokio_tungstenite::connect_async(request).await.expect("a stream").0
}

/// What a process holds, in KiB: all of it, and what is its own.
fn memory(pid: u32) -> (f64, f64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).expect("KiB")
    };
    (of("VmRSS:"), of("RssAnon:"))
}

async fn idle() {
    let stage = Stage::new((CALLS, EACH), None).await;
    let pid = stage.served.pid();
    let (before, own_before) = memory(pid);
    let call = async |nth| stage.call(nth, EACH).await;
    let began = Instant::now();
    let calls = stream::iter(1..=CALLS).map(call).buffer_unordered(AT_ONCE).count().await;
    let took = began.elapsed().as_secs_f64();
    // Calls are looked after twice a second: what that takes, and what it leaves.
    let used = cpu(pid);
    let looked = Instant::now();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    let load = cpu(pid).saturating_sub(used).as_secs_f64() / looked.elapsed().as_secs_f64();
    let (after, own_after) = memory(pid);
    let mib = |kib: f64| kib / 1_024.0;
    println!("{calls} calls of {EACH}, begun in {took:.1} s; each device listens");
    println!(
        "memory: {:.1} MiB before, {:.1} after: {:.1} more, of which {:.1} its own; {:.1} KiB a call",
        mib(before),
        mib(after),
        mib(after - before),
        mib(own_after - own_before),
        (after - before) / f64::from(CALLS)
    );
    println!("CPU while nothing is said: {:.1} % of a core", 100.0 * load);
}

async fn tokens() {
    let kept = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.causeway"));
    let binary = Binary::ensure(kept, |said| println!("{said}")).await.expect("a LiveKit");
    let folder = tempfile::tempdir().expect("a folder");
    let livekit = LiveKit::start(&binary, folder.path(), &Settings::default()).await;
    let livekit = livekit.expect("it starts");
    let told = (LIVEKIT, format!("{} {}", livekit.api_url(), livekit.secret()));
    let stage = Stage::new((1, MANY), Some(told)).await;
    let epoch = stage.call(1, MANY).await.epoch;
    let path = format!("/groups/{}/calls/{}/sfu", group(1), call(1));
    let ask = async |n: u32| {
        let given: CallSfus = stage.ask(n % MANY + 1, &path, &json!({"epoch": epoch})).await;
        assert_eq!(given.sfus.len(), 1);
    };
    let (used, began) = (cpu(stage.served.pid()), Instant::now());
    let count = MANY * TOKENS;
    stream::iter(0..count).map(ask).buffer_unordered(AT_ONCE).count().await;
    let took = began.elapsed().as_secs_f64();
    let used = cpu(stage.served.pid()).saturating_sub(used).as_secs_f64() * 1e3 / f64::from(count);
    println!(
        "{count} tokens, {AT_ONCE} asked for at once: {:.0} a second, {used:.2} ms of the server's CPU each",
        f64::from(count) / took
    );
}

/// So many groups of so many devices, none in two, each an account's only one.
async fn fill(path: &Path, groups: u32, each: u32) {
    let url = format!("sqlite://{}", path.display());
    let mut conn = SqliteConnection::connect(&url).await.expect("opens");
    sqlx::raw_sql("BEGIN").execute(&mut conn).await.expect("begins");
    for nth in 1..=groups {
        served::group(&mut conn, (nth, group(nth)), (nth - 1) * each + 1..=nth * each).await;
    }
    served::mailboxes(&mut conn).await;
    sqlx::raw_sql("COMMIT").execute(&mut conn).await.expect("commits");
}

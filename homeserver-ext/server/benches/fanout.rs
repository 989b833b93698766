//! What a message to a group costs the server whose devices are there: 1 KiB to all of 2, 99 and 999
//! that read and acknowledge, and to 999 that are away.
//!
//! `cargo bench -p causeway-server --bench fanout [-- DEVICES… away]`. The server, those who read and
//! who posts are a process each; CPU and bytes are the server's, from `/proc`.
#![cfg(test)]

#[expect(dead_code, reason = "pages in use are of the other benchmark")]
#[path = "shared/served.rs"]
mod served;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use causeway_protocol::{
    api::{Accepted, PREFIX, PostEnvelopes, StreamAck, StreamRow},
    ids::Seq,
};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _, future::join_all, stream};
use tokio::time::Instant;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use served::{FOLDER, GROUP, Served, fill, message, serve, token};

/// Where the process that reads finds the server, how many devices it is, and after how many messages
/// it says that all have them.
const READ: &str = "CAUSEWAY_BENCH_READ";
const BYTES: usize = 1_024;
/// Messages that are posted at once.
const POSTERS: usize = 4;
/// Messages before those that are measured.
const BEFORE: u32 = 20;
/// Streams that are opened at once.
const AT_A_TIME: usize = 32;

#[tokio::main]
async fn main() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return serve(Path::new(&folder)).await;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    if let Ok(task) = std::env::var(READ) {
        return read(&task).await;
    }
    let words: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wants = |word: &str| words.is_empty() || words.iter().any(|asked| asked == word);
    println!(
        "| devices | messages/s | CPU of the server, ms each | µs for each device | written, KiB each |\n\
         |---|---|---|---|---|"
    );
    for (devices, messages) in [(2, 2_000), (99, 500), (999, 100)] {
        if wants(&devices.to_string()) {
            measure(devices, messages, true).await;
        }
    }
    if wants("away") {
        measure(999, 1_000, false).await;
    }
}

/// One row: so many devices beside the one that posts.
async fn measure(devices: u32, messages: u32, are_there: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    // Makes the tables.
    drop(Served::start(folder.path()));
    fill(&folder.path().join("server.db"), devices + 1).await;
    let served = Served::start(folder.path());
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let post = async |n: u32| {
        let body = PostEnvelopes { envelopes: vec![message(n, BYTES)], count: None };
        let body = serde_json::to_vec(&body).expect("JSON");
        let url = format!("{}{PREFIX}/groups/{GROUP}/envelopes", served.base);
        let answer = http.post(url).bearer_auth(token(1)).body(body).send().await.expect("answers");
        let accepted: Accepted = answer.json().await.expect("accepts");
        assert_eq!(accepted.accepted[0].recipients, devices);
    };
    let mut readers =
        are_there.then(|| Readers::start(&served.base, devices, [BEFORE, BEFORE + messages]));
    stream::iter(0..BEFORE).map(post).buffer_unordered(POSTERS).count().await;
    let mut all_have_them = || readers.as_mut().map(Readers::wait);
    all_have_them();
    let (cpu, written, began) = (served.cpu(), served.written_kib(), Instant::now());
    stream::iter(BEFORE..BEFORE + messages).map(post).buffer_unordered(POSTERS).count().await;
    all_have_them();
    let (seconds, n) = (began.elapsed().as_secs_f64(), f64::from(messages));
    let cpu = served.cpu().saturating_sub(cpu).as_secs_f64() * 1e3 / n;
    println!(
        "| {devices}{} | {:.1} | {cpu:.2} | {:.1} | {:.0} |",
        if are_there { "" } else { ", all away" },
        n / seconds,
        cpu * 1e3 / f64::from(devices),
        (served.written_kib() - written) / n,
    );
}

/// The process of those who read, killed on drop.
struct Readers {
    child: Child,
    said: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Readers {
    /// Returns when all streams are open.
    fn start(base: &str, devices: u32, [first, all]: [u32; 2]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(READ, format!("{base} {devices} {first} {all}"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let said = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut readers = Self { child, said };
        readers.wait();
        readers
    }

    /// Until it says that it is so far.
    fn wait(&mut self) {
        self.said.next().expect("it goes on").expect("it speaks");
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// Reads as all devices but the first, and says when the streams are open and when all have what they
/// should.
async fn read(task: &str) {
    let mut words = task.split(' ');
    let base = words.next().expect("the server");
    let numbers: Vec<u32> = words.map(|word| word.parse().expect("a number")).collect();
    let devices = numbers[0];
    let opened = stream::iter(2..devices + 2).map(|n| open(base, n)).buffered(AT_A_TIME);
    let mut sockets: Vec<Socket> = opened.collect().await;
    println!("open");
    let mut before = 0;
    for goal in &numbers[1..] {
        join_all(sockets.iter_mut().map(|socket| take(socket, goal - before))).await;
        before = *goal;
        println!("{goal} messages");
    }
    // Acknowledgements are on their way.
    std::future::pending::<()>().await;
}

async fn open(base: &str, n: u32) -> Socket {
    let url = format!("{base}{PREFIX}/stream").replace("http", "ws");
    let mut request = url.into_client_request().expect("an address");
    let bearer = format!("Bearer {}", token(n)).parse().expect("a header");
    request.headers_mut().insert("authorization", bearer);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("opens");
    socket.next().await.expect("goes on").expect("says hello");
    socket
}

/// So many messages, and what came together acknowledged together.
async fn take(socket: &mut Socket, count: u32) {
    let mut taken = 0;
    while taken < count {
        let mut last = None;
        let mut next = Some(socket.next().await);
        while let Some(frame) = next.take() {
            if let Message::Text(text) = frame.expect("goes on").expect("a frame") {
                let row: StreamRow = serde_json::from_str(&text).expect("a row");
                (last, taken) = (Some(row.seq), taken + 1);
            }
            if taken < count {
                next = socket.next().now_or_never();
            }
        }
        if let Some(Seq(seq)) = last {
            let ack = serde_json::to_string(&StreamAck::from(Seq(seq))).expect("JSON");
            socket.send(Message::text(ack)).await.expect("goes on");
        }
    }
}

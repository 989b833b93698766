//! What a message to a group costs the server whose devices are there: 1 KiB to all of 2, 99 and 999
//! that read and acknowledge, and to 999 that are away.
//!
//! `cargo bench -p causeway-server --bench fanout [-- DEVICES… away]`. The server, those who read and
//! who posts are a process each; CPU and bytes are the server's, from `/proc`. Mosquitto does the same
//! where it is installed.
#![cfg(test)]

#[expect(dead_code, reason = "pages in use are of the other benchmark")]
#[path = "shared/served.rs"]
mod served;

#[path = "shared/mosquitto.rs"]
mod mosquitto;

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

use mosquitto::{Broker, Client};
use served::{FOLDER, GROUP, Served, cpu, fill, message, serve, token, written_kib};

/// Where the process that reads finds the server, how many devices it is, and after how many messages
/// it says that all have them.
const READ: &str = "CAUSEWAY_BENCH_READ";
/// Where the server would stand, if it is Mosquitto.
const MQTT: &str = "mqtt:";
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
            ours(Row { name: "", devices, messages, are_there: true }).await;
            mosquitto(Row { name: ", Mosquitto", devices, messages, are_there: true }).await;
        }
    }
    if wants("away") {
        let away = |name| Row { name, devices: 999, messages: 1_000, are_there: false };
        ours(away(", all away")).await;
        mosquitto(away(", all away, Mosquitto")).await;
    }
}

/// One row: so many devices beside the one that posts.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    devices: u32,
    messages: u32,
    are_there: bool,
}

impl Row {
    fn readers(self, base: &str) -> Readers {
        Readers::start(base, self.devices, [BEFORE, BEFORE + self.messages])
    }

    async fn measure(
        self,
        pid: u32,
        mut readers: Option<Readers>,
        post: impl AsyncFn(std::ops::Range<u32>),
    ) {
        let mut all_have_them = || readers.as_mut().map(Readers::wait);
        post(0..BEFORE).await;
        all_have_them();
        let (used, written, began) = (cpu(pid), written_kib(pid), Instant::now());
        post(BEFORE..BEFORE + self.messages).await;
        all_have_them();
        let (seconds, n) = (began.elapsed().as_secs_f64(), f64::from(self.messages));
        let used = cpu(pid).saturating_sub(used).as_secs_f64() * 1e3 / n;
        println!(
            "| {}{} | {:.1} | {used:.2} | {:.1} | {:.0} |",
            self.devices,
            self.name,
            n / seconds,
            used * 1e3 / f64::from(self.devices),
            (written_kib(pid) - written) / n,
        );
    }
}

async fn mosquitto(row: Row) {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(broker) = Broker::start(folder.path()).await else {
        println!("Mosquitto is not installed: nothing beside this.");
        return;
    };
    let readers = row.readers(&format!("{MQTT}{}", broker.port));
    // Whoever was there once is away from now on.
    let readers = row.are_there.then_some(readers);
    let mut posters = Vec::new();
    for n in 0..POSTERS {
        let poster = Client::connect(broker.port, &format!("poster {n}")).await;
        posters.push(tokio::sync::Mutex::new(poster));
    }
    let payload = vec![0; BYTES];
    let post = async |messages: std::ops::Range<u32>| {
        let one = async |n: u32| {
            let poster = posters[usize::try_from(n).expect("few") % POSTERS].lock();
            poster.await.publish(&payload).await;
        };
        stream::iter(messages).map(one).buffer_unordered(POSTERS).count().await;
    };
    row.measure(broker.pid(), readers, post).await;
}

async fn ours(row: Row) {
    let devices = row.devices;
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
    let readers = row.are_there.then(|| row.readers(&served.base));
    let all = async |messages: std::ops::Range<u32>| {
        stream::iter(messages).map(&post).buffer_unordered(POSTERS).count().await;
    };
    row.measure(served.pid(), readers, all).await;
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
    if let Some(port) = base.strip_prefix(MQTT) {
        return read_from_mosquitto(port.parse().expect("a port"), &numbers).await;
    }
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

async fn read_from_mosquitto(port: u16, numbers: &[u32]) {
    let opened = stream::iter(0..numbers[0]).map(async |n| {
        let mut client = Client::connect(port, &format!("device {n}")).await;
        client.subscribe().await;
        client
    });
    let mut clients: Vec<Client> = opened.buffered(AT_A_TIME).collect().await;
    println!("open");
    let mut before = 0;
    for goal in &numbers[1..] {
        join_all(clients.iter_mut().map(|client| client.take(goal - before))).await;
        before = *goal;
        println!("{goal} messages");
    }
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

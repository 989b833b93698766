//! The server's process killed between taking in and answering, and at any other moment.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use causeway_protocol::{
    api::{Accepted, PREFIX, Session},
    envelope::Kind,
    ids::{Epoch, Timestamp},
    roster::Body,
};
use causeway_server::{App, Clock, Config, TokenHash};
use tokio_util::sync::CancellationToken;

use crate::harness::{Group, Person, SERVER, Stream, TOKEN, json, op_body, random, text};

const FOLDER: &str = "CAUSEWAY_SERVE";
const NAME: &str = "kill::what_is_accepted_survives_any_kill_and_is_read_once_and_in_order";
const KILLS: usize = 25;

/// The server in a process of its own, killed on drop.
struct Served {
    child: Child,
    base: String,
}

impl Served {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let base = lines.map(Result::unwrap).find_map(|line| {
            line.split_once("listening on ").map(|(_, address)| format!("http://{address}"))
        });
        Self { child, base: base.expect("the server did not start") }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(folder: &Path) {
    let mut config = Config::new(SERVER, folder.join("server.db"));
    config.registration_token = Some(TokenHash::of(TOKEN));
    let clock = Clock::new(|| Timestamp(1_800_000_000_000));
    let app = App::open(config, clock).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    app.serve(listener, CancellationToken::new()).await;
}

/// Posts; `None` where the outcome is unknown.
async fn post(base: &str, path: &str, token: &str, body: &[u8]) -> Option<Vec<u8>> {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.post(format!("{base}{PREFIX}{path}")).bearer_auth(token);
    let answer = request.body(body.to_vec()).send().await.ok()?;
    let status = answer.status();
    let bytes = answer.bytes().await.ok()?.to_vec();
    assert!(status.is_success(), "{status} {}", String::from_utf8_lossy(&bytes));
    Some(bytes)
}

async fn registered(base: &str, name: &str) -> Person {
    let person = Person::new(name);
    let answer = post(base, "/register", "", &json(&person.registration(TOKEN))).await.unwrap();
    let session: Session = serde_json::from_slice(&answer).unwrap();
    person.with_token(session.access_token)
}

/// What a reader has, in order; its stream may break at any byte.
struct Reader {
    token: String,
    last: u64,
    texts: Vec<String>,
}

impl Reader {
    /// Reads until the connection is gone, or until it has `enough` texts.
    async fn read(&mut self, base: &str, enough: usize) {
        let Ok(mut stream) = Stream::open_at(base, &self.token).await else { return };
        while self.texts.len() < enough {
            let Some(row) = stream.row().await else { return };
            // What was not acknowledged in time comes again.
            if row.seq.0 > self.last {
                self.last = row.seq.0;
                if row.envelope.kind == Kind::Message {
                    self.texts.push(text(&row.envelope));
                }
            }
            stream.try_ack(row.seq.0).await;
        }
    }
}

#[tokio::test]
async fn what_is_accepted_survives_any_kill_and_is_read_once_and_in_order() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return serve(Path::new(&folder)).await;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(folder.path());
    let alice = registered(&served.base, "alice").await;
    let bob = registered(&served.base, "bob").await;
    let create = Group::first_op(&alice);
    post(&served.base, "/groups", &alice.token, &json(&op_body(&create))).await.unwrap();
    let mut group = Group::begun(create);
    let add = group.op(&alice, &Body::Add(vec![bob.entry(0)]));
    let body = json(&op_body(&add));
    post(&served.base, &group.path("/roster"), &alice.token, &body).await.unwrap();
    group.install(add);

    let path = group.path("/envelopes");
    let Epoch(epoch) = group.roster.epoch();
    let mut reader = Reader { token: bob.token.clone(), last: 0, texts: Vec::new() };
    let (mut sent, mut unknown) = (Vec::new(), 0);
    // A batch whose outcome is unknown, to be posted again as it is.
    let mut pending: Option<Vec<u8>> = None;
    for kill in 0..KILLS {
        let [byte]: [u8; 1] = random();
        let moment = Duration::from_micros(u64::from(byte) * 200);
        println!("kill {kill} after {moment:?}");
        let base = served.base.clone();
        let posting = async {
            loop {
                let body = pending.take().unwrap_or_else(|| {
                    let texts: Vec<String> =
                        (0..3).map(|n| format!("{}", sent.len() + n)).collect();
                    let envelopes =
                        texts.iter().map(|text| alice.message(group.id(), epoch, text)).collect();
                    sent.extend(texts);
                    json(&causeway_protocol::api::PostEnvelopes { envelopes, count: None })
                });
                let Some(answer) = post(&base, &path, &alice.token, &body).await else {
                    pending = Some(body);
                    unknown += 1;
                    return;
                };
                let accepted: Accepted = serde_json::from_slice(&answer).unwrap();
                assert!(accepted.accepted.iter().all(|one| one.recipients == 1));
            }
        };
        let killing = async {
            tokio::time::sleep(moment).await;
            served.kill();
        };
        tokio::join!(posting, reader.read(&base, usize::MAX), killing);
        served = Served::start(folder.path());
    }
    assert_eq!(unknown, KILLS);
    if let Some(body) = pending {
        post(&served.base, &path, &alice.token, &body).await.unwrap();
    }
    reader.read(&served.base, sent.len()).await;
    assert_eq!(reader.texts, sent, "none lost, none doubled, all in order");
}

//! Members on another server that cannot be reached: who else is there does not wait for it.

use std::{
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    cli_proxy::Proxy,
    cli_server::{DOOR_TOKEN, Server},
    cli_world::{Person, World, texts},
};

type Lie = Arc<Mutex<Option<(u16, Value)>>>;

/// What carries frames from one server's door to the other's, as their agents do.
struct Wire {
    is_cut: Arc<AtomicBool>,
    /// What everybody is answered by the second of them, status and body, instead of what he was answered.
    lie: Lie,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    fn between(here: &Server, there: &Server) -> Self {
        let (is_cut, stop) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let (lie, none) = (Lie::default(), Lie::default());
        let url = |server: &Server| format!("{}/_causeway/relay/v1/frames", server.url());
        let (here, there) = (("a.example", url(here)), ("b.example", url(there)));
        let (cut, stopped, lies) = (Arc::clone(&is_cut), stop.clone(), Arc::clone(&lie));
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let both = async {
                tokio::join!(
                    carry(&here, &there.1, (&cut, &none)),
                    carry(&there, &here.1, (&cut, &lies))
                );
            };
            runtime.block_on(stopped.run_until_cancelled(both));
        });
        Self { is_cut, lie, stop, thread: Some(thread) }
    }

    /// What leaves from now on is lost, or not any more.
    fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }

    /// The second server answers so from now on.
    fn lies(&self, status: u16, body: Value) {
        *self.lie.lock().unwrap() = Some((status, body));
    }

    /// It does not any more.
    fn is_honest(&self) {
        *self.lie.lock().unwrap() = None;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = self.thread.take().unwrap().join();
    }
}

async fn carry((name, from): &(&str, String), to: &str, (is_cut, lie): (&AtomicBool, &Lie)) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    loop {
        let fetched = http.get(format!("{from}?wait_ms=1000")).bearer_auth(DOOR_TOKEN).send().await;
        let Ok(fetched) = fetched else { return };
        let Ok(body) = fetched.json::<Value>().await else { return };
        for frame in body["frames"].as_array().unwrap() {
            if is_cut.load(Ordering::SeqCst) {
                continue;
            }
            let mut content = frame["content"].clone();
            if let Some((status, body)) = lie.lock().unwrap().clone() {
                for item in content["items"].as_array_mut().into_iter().flatten() {
                    if item["t"] == "answer" {
                        (item["status"], item["body"]) = (json!(status), body.clone());
                    }
                }
            }
            let body = json!({"frames": [{"from": name, "content": content}]});
            if http.post(to).bearer_auth(DOOR_TOKEN).json(&body).send().await.is_err() {
                return;
            }
        }
    }
}

/// Alice and Bob of one server, Carol of another, in a group that Alice made; Bob has not met Carol.
fn across(here: &World, there: &World) -> [Person; 3] {
    let [alice, bob] = here.group(["alice", "bob"]);
    bob.ok(&["send", "team", "before"]);
    let carol = there.registered("carol");
    let invite = alice.ok(&["invite", "create", "team"]);
    let tail = alice.tail(&[]);
    carol.ok(&["invite", "accept", invite[0]["link"].as_str().unwrap()]);
    tail.stop();
    alice.ok(&["send", "team", "welcome"]);
    let mut tail = carol.tail(&[]);
    tail.until(|line| line["body"] == "welcome");
    tail.stop();
    [alice, bob, carol]
}

/// Whether something waits for another server, as Alice is shown it.
fn waits(alice: &Person) -> bool {
    let shown = alice.ok(&["group", "show", "team"]);
    let mut servers = shown[0]["servers"].as_array().unwrap().iter();
    servers.any(|server| server["waits_since_ms"].is_u64())
}

#[test]
fn who_cannot_be_reached_holds_up_no_message_is_named_and_reads_it_later() {
    let here = World::of(Server::among_others("a.example"));
    let there = World::of(Server::among_others("b.example"));
    let wire = Wire::between(&here.server, &there.server);
    let [alice, bob, carol] = across(&here, &there);
    wire.cut(true);
    alice.ok(&["send", "team", "one"]);
    while !waits(&alice) {}
    // Longer than a lost frame would wait, and nothing that was said of an account is good any more.
    here.server.is_ahead_by(61_000);
    let began = Instant::now();
    let sent = bob.ok(&["send", "team", "two"]);
    // One that is not known to be away is waited for 15 s.
    assert!(began.elapsed() < Duration::from_secs(14), "{:?}", began.elapsed());
    let unreached = &sent[0]["unreached"];
    assert_eq!(
        (&unreached[0]["server"], &unreached[0]["members"]),
        (&json!("b.example"), &json!(1))
    );
    assert!(unreached[0]["since_ms"].is_u64(), "{sent:?}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway-client"));
    command.env_clear().arg("--home").arg(&bob.home).args(["--server", &bob.url]);
    let said = command.args(["send", "team", "three"]).output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.starts_with("note: b.example cannot be reached since "), "{said}");
    assert!(
        said.trim_end().ends_with(": carol:b.example will read this when it is back"),
        "{said}"
    );
    assert_eq!(texts(&alice.read()).last().unwrap(), "three");
    wire.cut(false);
    while waits(&alice) {}
    // He does not ask again for ten minutes; then they have passed.
    bob.meddle(&["UPDATE asked SET done_ms = 0 WHERE done_ms > 0"]);
    let sent = bob.ok(&["send", "team", "four"]);
    assert!(sent[0]["unreached"].is_null(), "{sent:?}");
    let mut tail = carol.tail(&[]);
    let mut read = Vec::new();
    while read.len() < 4 {
        let line = tail.until(|line| line["type"] == "message");
        read.push(line["body"].as_str().unwrap().to_owned());
    }
    read.sort_unstable();
    assert_eq!(read, ["four", "one", "three", "two"]);
}

#[test]
fn whatever_another_server_answers_stops_nobody_who_sends() {
    let here = World::of(Server::among_others("a.example"));
    let there = World::of(Server::among_others("b.example"));
    let wire = Wire::between(&here.server, &there.server);
    let [alice, bob, _carol] = across(&here, &there);
    let limit = json!({"errcode": "M_LIMIT_EXCEEDED", "error": "x", "retry_after_ms": u64::MAX});
    let refusal = |code: &str| json!({"errcode": code, "error": "x"});
    let answers = [
        (200, json!({"no": "list"})),
        (200, json!(7)),
        (204, Value::Null),
        (400, refusal("M_INVALID_PARAM")),
        (401, refusal("M_UNKNOWN_TOKEN")),
        (403, refusal("M_FORBIDDEN")),
        (409, refusal("M_STALE_EPOCH")),
        (429, limit),
        (507, refusal("M_RESOURCE_LIMIT_EXCEEDED")),
        (0, json!({})),
        (503, json!("<html>")),
    ];
    for (n, (status, body)) in answers.into_iter().enumerate() {
        wire.lies(status, body.clone());
        // Nothing that was said of an account is good any more, and she is asked for again.
        here.server.is_ahead_by(61_000);
        bob.meddle(&["UPDATE asked SET done_ms = 0 WHERE done_ms > 0"]);
        let began = Instant::now();
        let word = format!("word {n}");
        bob.ok(&["send", "team", &word]);
        assert!(began.elapsed() < Duration::from_secs(10), "{status} {body}");
        assert_eq!(texts(&alice.read()).last(), Some(&word), "{status} {body}");
    }
}

#[test]
fn who_asks_to_be_let_in_while_his_server_says_nothing_of_use_waits_until_it_does() {
    let here = World::of(Server::among_others("a.example"));
    let there = World::of(Server::among_others("b.example"));
    let wire = Wire::between(&here.server, &there.server);
    let [alice, _bob, _carol] = across(&here, &there);
    let refusal = |code: &str| json!({"errcode": code, "error": "x"});
    let answers = [
        (200, json!({"no": "list"})),
        (401, refusal("M_UNKNOWN_TOKEN")),
        (403, refusal("M_FORBIDDEN")),
        (429, refusal("M_LIMIT_EXCEEDED")),
    ];
    for (n, (status, body)) in answers.into_iter().enumerate() {
        let dave = there.registered(&format!("dave{n}"));
        let joined = alice.count("SELECT count(*) FROM joins");
        let invite = alice.ok(&["invite", "create", "team"]);
        dave.run(&["invite", "accept", "--wait", "0", invite[0]["link"].as_str().unwrap()]);
        wire.lies(status, body);
        let tail = alice.tail(&[]);
        let waits = format!(
            "SELECT count(*) FROM asked WHERE what = 'away' AND CAST(name AS TEXT) LIKE 'dave{n}%'"
        );
        let is_new = "SELECT count(*) FROM joins WHERE state = 'new'";
        while alice.count("SELECT count(*) FROM joins") <= joined {}
        tail.stop();
        // It looks at who waits once more.
        alice.ok(&["invite", "create", "team"]);
        assert_eq!((alice.count(is_new), alice.count(&waits)), (1, 1), "{status}");
        wire.is_honest();
        // He is not asked for again for a while; then that has passed.
        alice.meddle(&["UPDATE asked SET done_ms = 0 WHERE done_ms > 0"]);
        let tail = alice.tail(&[]);
        while alice.count(is_new) == 1 {}
        tail.stop();
        assert_eq!(alice.count(&waits), 0);
        let word = format!("welcome {n}");
        alice.ok(&["send", "team", &word]);
        let mut tail = dave.tail(&[]);
        tail.until(|line| line["body"] == json!(word));
        tail.stop();
    }
}

#[test]
fn what_comes_in_is_shown_while_an_account_is_asked_for() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let invite = alice.ok(&["invite", "create", "team"]);
    let link = invite[0]["link"].as_str().unwrap().to_owned();
    let proxy = Proxy::before(world.server.address());
    let held = proxy.hold_accounts();
    let mut tail = world.person_at("alice", &proxy.url()).tail(&[]);
    let carol = world.registered("carol");
    let accepting = thread::spawn(move || carol.ok(&["invite", "accept", &link]));
    while proxy.asked() == 0 {
        thread::yield_now();
    }
    let began = Instant::now();
    bob.ok(&["send", "team", "meanwhile"]);
    tail.until(|line| line["body"] == "meanwhile");
    // Else it came when the question was given up.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(!accepting.is_finished());
    drop(held);
    accepting.join().unwrap();
    tail.stop();
}

//! `causeway doctor` against set-ups that are broken in one place each: it finds that one.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header::DATE},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

/// What a homeserver does otherwise than it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It does not know the token.
    Token,
    /// It is another server than the configuration says.
    Name,
    /// Its clock is five minutes ahead.
    Clock,
    /// It calls nobody.
    Deaf,
    /// It has a version of long ago.
    Old,
    /// It is no homeserver.
    Other,
    /// It lets nobody read the bot's account.
    Sync,
    /// By its registration, ghosts are not ours.
    Ghosts,
    /// It says things to the terminal.
    Loud,
    /// What it says has no end.
    Endless,
    /// It sends whoever asks who he is elsewhere.
    Elsewhere,
}

/// One that nobody listens at just now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

type Shared = Arc<Mutex<Fault>>;

struct SetUp {
    folder: tempfile::TempDir,
    fault: Shared,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for SetUp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SetUp {
    #[expect(clippy::disallowed_methods, reason = "a homeserver beside the test")]
    async fn new() -> Self {
        // One provider for the whole process; a second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let fault = Shared::new(Mutex::new(Fault::None));
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let homeserver = format!("http://{}", listener.local_addr().unwrap());
        let (port, native) = (free_port(), free_port());
        let made = Command::new(env!("CARGO_BIN_EXE_causeway"))
            .args(["init", "--server-name", "b.example", "--homeserver", &homeserver])
            .args(["--address", &format!("http://127.0.0.1:{port}")])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let file = folder.path().join("causeway.yaml");
        let text = fs::read_to_string(&file).unwrap();
        let text = text.replace("127.0.0.1:29360", &format!("127.0.0.1:{port}"));
        fs::write(&file, text.replace("127.0.0.1:29361", &format!("127.0.0.1:{native}"))).unwrap();
        let registration = fs::read_to_string(folder.path().join("registration.yaml")).unwrap();
        let of = |key: &str| {
            let line = registration.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.trim().trim_matches('"').to_owned()
        };
        let known = Known {
            fault: Arc::clone(&fault),
            sender: of("sender_localpart:"),
            url: of("url:"),
            hs_token: of("hs_token:"),
        };
        let app = Router::new()
            .route("/_matrix/client/versions", get(versions))
            .route("/_matrix/client/v3/account/whoami", get(whoami))
            .route("/_matrix/client/v1/appservice/{id}/ping", post(ping))
            .route("/_matrix/client/v3/sync", get(sync))
            .route(
                "/_matrix/client/v3/devices/{device}",
                put(|| async { Json(json!({})) }).delete(|| async { Json(json!({})) }),
            )
            .route(
                "/_matrix/client/v3/sendToDevice/{kind}/{txn}",
                put(|| async { Json(json!({})) }),
            )
            .with_state(known);
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { folder, fault, task }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn run(&self, fault: Fault, more: &'static [&'static str]) -> std::process::Output {
        *self.fault.lock().unwrap() = fault;
        let folder = self.folder.path().to_owned();
        tokio::task::spawn_blocking(move || {
            Command::new(env!("CARGO_BIN_EXE_causeway"))
                .arg("doctor")
                .args(more)
                .current_dir(folder)
                .output()
                .unwrap()
        })
        .await
        .unwrap()
    }

    /// Exit code, and what was found.
    async fn found(&self, fault: Fault) -> (Option<i32>, Value) {
        let output = self.run(fault, &["--json"]).await;
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
    }

    /// What somebody should look after.
    async fn looked_after(&self, fault: Fault) -> Vec<String> {
        let (_, said) = self.found(fault).await;
        let checks = said["checks"].as_array().unwrap();
        let warnings = checks.iter().filter(|check| check["state"] == "warning");
        warnings.map(|check| check["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Exit code, and what failed, with its fix.
    async fn failed(&self, fault: Fault) -> (Option<i32>, Vec<(String, String)>) {
        let (code, said) = self.found(fault).await;
        let checks = said["checks"].as_array().unwrap();
        let failed = checks.iter().filter(|check| check["state"] == "failed");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let failed: Vec<_> =
            failed.map(|check| (text(&check["name"]), text(&check["fix"]))).collect();
        assert_eq!(said["failed"], failed.len());
        (code, failed)
    }
}

#[derive(Clone)]
struct Known {
    fault: Shared,
    sender: String,
    url: String,
    hs_token: String,
}

impl Known {
    fn is(&self, fault: Fault) -> bool {
        *self.fault.lock().unwrap() == fault
    }
}

async fn versions(State(known): State<Known>) -> Response {
    if known.is(Fault::Other) {
        return "welcome".into_response();
    }
    if known.is(Fault::Endless) {
        let blank = futures_util::stream::repeat(());
        let blank = blank.map(|()| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
        return axum::body::Body::from_stream(blank).into_response();
    }
    let version = match *known.fault.lock().unwrap() {
        Fault::Old => "r0.6.1",
        Fault::Loud => "r0\u{1b}[2J\u{9b}31m\u{202e}\nok  everything  is right",
        _ => "v1.12",
    };
    let ahead = std::time::Duration::from_secs(if known.is(Fault::Clock) { 300 } else { 0 });
    let now = std::time::Duration::from_millis(causeway_bridge::clock::now().0);
    let now = httpdate::fmt_http_date(std::time::UNIX_EPOCH + now + ahead);
    ([(DATE, now)], Json(json!({ "versions": [version] }))).into_response()
}

async fn whoami(
    State(known): State<Known>,
    Query(query): Query<std::collections::BTreeMap<String, String>>,
) -> Response {
    if known.is(Fault::Token) {
        let refusal = json!({"errcode": "M_UNKNOWN_TOKEN", "error": "no"});
        return (StatusCode::UNAUTHORIZED, Json(refusal)).into_response();
    }
    let is_ghost = query.get("user_id").is_some_and(|user| user.starts_with("@causeway_"));
    if is_ghost && known.is(Fault::Ghosts) {
        let refusal = json!({"errcode": "M_FORBIDDEN", "error": "cannot masquerade as this user"});
        return (StatusCode::FORBIDDEN, Json(refusal)).into_response();
    }
    if known.is(Fault::Elsewhere) {
        return axum::response::Redirect::temporary("http://127.0.0.1:9/").into_response();
    }
    let server = if known.is(Fault::Name) { "other.example" } else { "b.example" };
    let sender = format!("@{}:{server}", known.sender);
    Json(json!({"user_id": query.get("user_id").unwrap_or(&sender)})).into_response()
}

async fn ping(State(known): State<Known>, _: HeaderMap) -> Response {
    let asked = reqwest::Client::new()
        .post(format!("{}/_matrix/app/v1/ping", known.url))
        .bearer_auth(&known.hs_token)
        .json(&json!({}))
        .send();
    let is_answered = !known.is(Fault::Deaf) && asked.await.is_ok_and(|a| a.status().is_success());
    if is_answered {
        return Json(json!({"duration_ms": 1})).into_response();
    }
    let refusal = json!({"errcode": "M_CONNECTION_FAILED", "error": "nobody there"});
    (StatusCode::BAD_GATEWAY, Json(refusal)).into_response()
}

async fn sync(State(known): State<Known>) -> Response {
    if known.is(Fault::Sync) {
        let refusal = json!({"errcode": "M_FORBIDDEN", "error": "no"});
        return (StatusCode::FORBIDDEN, Json(refusal)).into_response();
    }
    let events = json!([{"type": "dev.causeway.doctor", "content": {}}]);
    Json(json!({"next_batch": "s1", "to_device": {"events": events}})).into_response()
}

#[tokio::test]
async fn each_fault_of_a_homeserver_is_found() {
    let set_up = SetUp::new().await;
    let table = [
        (Fault::None, None),
        (Fault::Token, Some(("as_token", "app_service_config_files"))),
        (Fault::Name, Some(("as_token", "homeserver.server_name"))),
        (Fault::Clock, Some(("clock", "NTP"))),
        (Fault::Deaf, Some(("hs_token", "appservice.address"))),
        (Fault::Old, Some(("homeserver", "update the homeserver"))),
        (Fault::Other, Some(("homeserver", "causeway.yaml write, under `homeserver:`, `address:"))),
        (Fault::Sync, Some(("bot's /sync", "homeserver's log"))),
        (Fault::Ghosts, Some(("ghosts", "causeway registration"))),
        (Fault::Loud, Some(("homeserver", "update the homeserver"))),
        (Fault::Endless, Some(("homeserver", "homeserver's client API"))),
        (Fault::Elsewhere, Some(("as_token", "what stands between"))),
    ];
    for (fault, expected) in table {
        let (code, failed) = set_up.failed(fault).await;
        let names: Vec<&str> = failed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            expected.map(|(name, _)| name).into_iter().collect::<Vec<_>>(),
            "{fault:?}"
        );
        assert_eq!(code, Some(i32::from(expected.is_some())), "{fault:?}");
        if let Some((_, fix)) = expected {
            assert!(failed[0].1.contains(fix), "{fault:?}: {failed:?}");
        }
    }
}

#[tokio::test]
async fn each_fault_of_the_machine_is_found() {
    let set_up = SetUp::new().await;
    let keep = |name: &str| (set_up.path(name), fs::read(set_up.path(name)).unwrap());
    // What is broken by writing this into that file; `None`: by taking it away.
    let table = [
        ("causeway.yaml", Some("homeserver: [\n"), "configuration"),
        ("causeway.yaml", Some("homeserver:\n  server_nam: b.example\n"), "configuration"),
        ("registration.yaml", None, "registration"),
        ("registration.yaml", Some("id: x\n"), "registration"),
        ("data/storage.key", None, "storage.key"),
        ("data/storage.key", Some("short"), "storage.key"),
        ("data/admin.token", Some("\n"), "admin.token"),
        ("data/bridge-registration.token", None, "bridge-registration.token"),
    ];
    for (file, text, expected) in table {
        let (path, before) = keep(file);
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let (code, failed) = set_up.failed(Fault::None).await;
        assert_eq!((code, failed.len()), (Some(1), 1), "{file} {text:?}: {failed:?}");
        assert_eq!(failed[0].0, expected, "{file} {text:?}");
        fs::write(&path, before).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::write(set_up.path("data/bridge.db"), "no database, and longer than a header of one is")
        .unwrap();
    let (_, failed) = set_up.failed(Fault::None).await;
    assert_eq!(failed[0].0, "bridge.db");
    assert!(failed[0].1.contains("backup restore"), "{failed:?}");
    fs::remove_file(set_up.path("data/bridge.db")).unwrap();
    assert_eq!(set_up.failed(Fault::None).await, (Some(0), vec![]), "mended");
}

#[tokio::test]
async fn where_nothing_is_there_is_what_to_do() {
    let set_up = SetUp::new().await;
    fs::remove_file(set_up.path("causeway.yaml")).unwrap();
    let (code, failed) = set_up.failed(Fault::None).await;
    assert_eq!((code, failed.len()), (Some(1), 1));
    assert!(failed[0].1.contains("causeway init"), "{failed:?}");
}

/// Synapse limits the rate where the registration says nothing of it.
#[tokio::test]
async fn a_registration_that_says_nothing_of_the_rate_is_looked_after() {
    let set_up = SetUp::new().await;
    let path = set_up.path("registration.yaml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("rate_limited: false\n"), "{text}");
    assert_eq!(set_up.looked_after(Fault::None).await, ["well-known"]);
    fs::write(&path, text.replace("rate_limited: false\n", "")).unwrap();
    assert_eq!(set_up.looked_after(Fault::None).await, ["registration", "well-known"]);
}

/// Found by an attack: a homeserver cleared the operator's terminal, and said that all was well.
#[tokio::test]
async fn what_a_homeserver_says_does_nothing_to_a_terminal() {
    let set_up = SetUp::new().await;
    let output = set_up.run(Fault::Loud, &[]).await;
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("everything  is right"), "{shown:?}");
    let is_harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!shown.contains(is_harmful), "{shown:?}");
    assert!(!shown.lines().any(|line| line.starts_with("ok  everything")), "{shown:?}");
}

#[tokio::test]
async fn a_homeserver_that_does_not_answer_who_we_are_has_refused_nothing() {
    let set_up = SetUp::new().await;
    let output = set_up.run(Fault::Elsewhere, &["--json"]).await;
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = said["checks"].as_array().unwrap();
    let rest = checks.iter().filter(|check| check["state"] == "skipped");
    let why: Vec<&str> = rest.filter_map(|check| check["found"].as_str()).collect();
    assert!(why.iter().filter(|why| why.contains("does not say whether")).count() > 2, "{why:?}");
    assert!(!why.iter().any(|why| why.contains("does not take our as_token")), "{why:?}");
}

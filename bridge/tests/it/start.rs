//! What keeps `causeway run` from running: each cause has its words and its exit code, and is found
//! before anything is written. The homeserver's own doing is looked at with the real one (`e2e`).

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::{self, Query, State},
    http::{StatusCode, header::DATE},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use causeway_bridge::{
    demo::causeway::{Causeway, CausewayError, Listeners},
    registration::{Registration, Tokens},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

/// Nobody is at home there.
const NOBODY: &str = "http://127.0.0.1:9";

pub(crate) fn prepared(dir: &Path, homeserver: &str) -> Causeway {
    let listeners = Listeners::free().unwrap();
    let url = listeners.appservice_url();
    let registration = Registration::new("example.org", &url, Tokens::random().unwrap());
    let binary = Path::new(env!("CARGO_BIN_EXE_causeway"));
    Causeway::prepare(binary, dir, homeserver, "example.org", listeners, &registration).unwrap()
}

/// Starts it and waits for its end: exit code and last words.
async fn refused(causeway: &mut Causeway) -> (i32, String) {
    let error = causeway.start().await.unwrap_err();
    assert!(matches!(error, CausewayError::Ended(_)), "{error}");
    (causeway.exit_code().unwrap().unwrap(), error.to_string())
}

/// Every file of `dir` but the log, by its hash.
fn hashes(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files =
        [dir, &dir.join("data")].map(|dir| fs::read_dir(dir).unwrap()).into_iter().flatten();
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file() && !path.ends_with("causeway.log"))
        // The lock file names whoever had it last, the index of a log is made anew by each reader.
        .filter(|path| !matches!(path.extension().and_then(OsStr::to_str), Some("lock" | "db-shm")))
        .filter(|path| {
            !path.display().to_string().ends_with("-wal") || fs::read(path).unwrap() != b""
        })
        .map(|path| (path.display().to_string(), Sha256::digest(fs::read(&path).unwrap()).to_vec()))
        .collect()
}

/// A homeserver's answers that do not fit.
#[derive(Debug, Clone)]
pub(crate) struct Misfit {
    versions: (u16, Value),
    whoami: (u16, Value),
    register: (u16, Value),
    bot: Value,
    pub(crate) ping: (u16, Value),
    /// To whoever makes the agent's device, for as long as the test wants.
    device: Arc<Mutex<(u16, Value)>>,
    /// How far its clock is ahead, seconds.
    pub(crate) ahead: u64,
}

impl Misfit {
    /// One that fits, for the registration in `dir`.
    pub(crate) fn none(dir: &Path) -> Self {
        let read = Registration::read(&dir.join("registration.yaml")).unwrap();
        Self {
            versions: (200, json!({"versions": ["v1.12"]})),
            whoami: (200, json!({"user_id": format!("@{}:example.org", read.sender_localpart)})),
            register: (400, json!({"errcode": "M_USER_IN_USE", "error": "x"})),
            bot: json!("@causewaybot:example.org"),
            ping: (200, json!({})),
            device: Arc::new(Mutex::new((200, json!({})))),
            ahead: 0,
        }
    }
}

/// Makes one answer of a good homeserver a wrong one.
type Change = fn(&mut Misfit);

fn nothing() -> (u16, Value) {
    (200, json!({}))
}

fn answer((status, body): (u16, Value)) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

/// The homeserver's address.
#[expect(clippy::disallowed_methods, reason = "a server beside the test")]
pub(crate) async fn homeserver(misfit: Misfit) -> String {
    let ahead = misfit.ahead;
    let dated = move |mut response: Response| async move {
        let now = Duration::from_millis(causeway_bridge::clock::now().0);
        let then = UNIX_EPOCH + now + Duration::from_secs(ahead);
        let then = httpdate::fmt_http_date(then).parse().unwrap();
        response.headers_mut().insert(DATE, then);
        response
    };
    let whoami = async |query: Query<BTreeMap<String, String>>, State(misfit): State<Misfit>| {
        let as_bot = query.contains_key("user_id");
        answer(if as_bot { (200, json!({"user_id": misfit.bot})) } else { misfit.whoami })
    };
    let client = Router::new()
        .route("/versions", get(async |State(misfit): State<Misfit>| answer(misfit.versions)))
        .route("/v3/account/whoami", get(whoami))
        .route("/v3/register", post(async |State(misfit): State<Misfit>| answer(misfit.register)))
        .route(
            "/v1/appservice/{id}/ping",
            post(async |State(misfit): State<Misfit>| answer(misfit.ping)),
        )
        .route(
            "/v3/devices/{id}",
            put(async |extract::Path(id): extract::Path<String>, State(misfit): State<Misfit>| {
                let is_agents = id == "CAUSEWAY_RELAY";
                answer(if is_agents { misfit.device.lock().unwrap().clone() } else { nothing() })
            }),
        )
        .route(
            "/v3/user/{id}/account_data/{kind}",
            get(async || answer((404, json!({"errcode": "M_NOT_FOUND", "error": "none"}))))
                .put(async || answer(nothing())),
        )
        .fallback(async || Json(json!({})));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .nest("/_matrix/client", client)
        .layer(axum::middleware::map_response(dated))
        .with_state(misfit);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test]
async fn each_homeserver_that_does_not_fit_is_told_apart() {
    let rows: [(Change, i32, &str); 9] = [
        (
            |m| m.versions = (200, json!("<html>")),
            16,
            "GET URL/_matrix/client/versions is not answered as a Matrix homeserver does: … \
             homeserver.address (CAUSEWAY__HOMESERVER__ADDRESS in the environment)",
        ),
        (
            |m| m.versions = (404, json!("<html>")),
            16,
            "GET URL/_matrix/client/versions … 404, and not in the words of Matrix … \
             homeserver.address (CAUSEWAY__HOMESERVER__ADDRESS in the environment)",
        ),
        (
            |m| m.versions.1 = json!({"versions": ["r0.6.1", "v1.6"]}),
            18,
            "GET URL/_matrix/client/versions … v1.7 of the Matrix",
        ),
        (
            |m| m.whoami = (401, json!({"errcode": "M_UNKNOWN_TOKEN", "error": "x"})),
            16,
            "GET URL/_matrix/client/v3/account/whoami … the as_token of DIR/registration.yaml … \
             Is the registration installed",
        ),
        (
            |m| m.whoami.1 = json!({"user_id": "@other:example.org"}),
            17,
            "GET URL/_matrix/client/v3/account/whoami … of DIR/registration.yaml for that of @other:",
        ),
        (
            |m| m.whoami.1 = json!({"user_id": "@other:other.org"}),
            17,
            "GET URL/_matrix/client/v3/account/whoami … is other.org … \
             homeserver.server_name (DIR/causeway.yaml: … write `other.org` there",
        ),
        (
            |m| m.register = (400, json!({"errcode": "M_EXCLUSIVE", "error": "x"})),
            17,
            "our bot @causewaybot:example.org … Copy DIR/registration.yaml",
        ),
        (|m| m.bot = json!("@other:example.org"), 17, "@causewaybot:example.org"),
        (
            |m| {
                m.ping =
                    (502, json!({"errcode": "M_BAD_STATUS", "error": "Got 403", "status": 403}));
            },
            13,
            "refuses its hs_token … Is DIR/registration.yaml … appservice.listen (",
        ),
    ];
    for (change, code, words) in rows {
        let dir = tempfile::tempdir().unwrap();
        let mut causeway = prepared(dir.path(), NOBODY);
        let mut misfit = Misfit::none(dir.path());
        change(&mut misfit);
        let url = homeserver(misfit.clone()).await;
        causeway.set_env("CAUSEWAY__HOMESERVER__ADDRESS", &url);
        let (exit, said) = refused(&mut causeway).await;
        assert_eq!(exit, code, "{misfit:?}: {said}");
        let named = words.replace("URL", &url).replace("DIR", &dir.path().display().to_string());
        for words in named.split(" … ") {
            assert!(said.contains(words), "{misfit:?}: {words} is not in {said}");
        }
    }
}

#[tokio::test]
async fn each_file_that_does_not_fit_is_told_apart_and_left_as_it_is() {
    let rows: [(&str, Option<&str>, i32, &str); 9] = [
        ("data/admin.token", None, 11, "admin.token"),
        ("data/admin.token", Some("\n"), 11, "holds no token"),
        ("data/admin.token", Some("one\ntwo\n"), 11, "holds no token, on one line"),
        ("data/admin.token", Some("\u{feff}one\n"), 11, "holds no token, on one line"),
        ("data/bridge-registration.token", None, 11, "bridge-registration.token"),
        ("data/bridge.db", Some("no database"), 18, "data/bridge.db: it is damaged"),
        ("data/server.db", Some("no database"), 18, "data/server.db: it is damaged"),
        ("registration.yaml", Some("id: [canary\n"), 21, "registration.yaml:1:"),
        ("registration.yaml", None, 20, "registration.yaml"),
    ];
    for (file, content, code, words) in rows {
        let dir = tempfile::tempdir().unwrap();
        let mut causeway = prepared(dir.path(), NOBODY);
        let path = dir.path().join(file);
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let before = fs::read(&path).ok();
        let (exit, said) = refused(&mut causeway).await;
        assert_eq!(exit, code, "{file}: {said}");
        assert!(said.contains(words) && !said.contains("canary"), "{file}: {said}");
        assert_eq!(fs::read(&path).ok(), before, "{file} was written to");
    }
}

/// A Causeway that has run, and ended in order.
async fn has_run(dir: &Path) -> Causeway {
    let mut causeway = prepared(dir, NOBODY);
    causeway.spawn().unwrap();
    causeway.live().await.unwrap();
    assert!(causeway.stop().await.unwrap(), "{}", causeway.log());
    causeway
}

#[tokio::test]
async fn a_newer_database_is_refused_before_any_write() {
    for (file, schema) in
        [("bridge.db", "bridge"), ("bridge.db", "client"), ("server.db", "server")]
    {
        let dir = tempfile::tempdir().unwrap();
        let mut causeway = has_run(dir.path()).await;
        let options = SqliteConnectOptions::new().filename(dir.path().join("data").join(file));
        let mut database = options.connect().await.unwrap();
        let newer = sqlx::query(
            "INSERT INTO schema_versions SELECT schema_name, 9999, description, checksum
             FROM schema_versions WHERE schema_name = $1 LIMIT 1",
        );
        assert_eq!(newer.bind(schema).execute(&mut database).await.unwrap().rows_affected(), 1);
        sqlx::Connection::close(database).await.unwrap();
        let before = hashes(dir.path());
        let (exit, said) = refused(&mut causeway).await;
        assert_eq!(exit, 15, "{said}");
        assert!(said.contains(&format!("data/{file}: it has version 9999")), "{said}");
        assert_eq!(hashes(dir.path()), before, "something was written");
    }
}

#[tokio::test]
async fn a_second_process_is_told_who_has_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = prepared(dir.path(), NOBODY);
    first.spawn().unwrap();
    first.live().await.unwrap();
    let elsewhere = Listeners::free().unwrap();
    let mut second = prepared(dir.path(), NOBODY);
    second.set_env("CAUSEWAY__APPSERVICE__LISTEN", &elsewhere.appservice.to_string());
    second.set_env("CAUSEWAY__NATIVE__LISTEN", &elsewhere.native.to_string());
    let error = second.start().await.unwrap_err().to_string();
    assert!(error.contains("is in use by causeway (process"), "{error}");
    assert_eq!(second.exit_code().unwrap(), Some(14));
    assert_eq!(first.status("/live").await, Some(200));
    assert!(first.stop().await.unwrap(), "{}", first.log());
}

/// What a command says of the set-up in `dir`: exit code and words.
fn asked(dir: &Path, command: &[&str]) -> (i32, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_causeway"))
        .args(command)
        .arg("--config")
        .arg(dir.join("causeway.yaml"))
        .output()
        .unwrap();
    (output.status.code().unwrap(), crate::ops::said(&output))
}

#[tokio::test]
async fn a_wrong_or_missing_storage_key_is_refused_before_any_write() {
    let dir = tempfile::tempdir().unwrap();
    let mut causeway = has_run(dir.path()).await;
    let key = dir.path().join("data/storage.key");
    let right = fs::read(&key).unwrap();
    for wrong in [Some(vec![7; 32]), Some(vec![7; 31]), None] {
        match &wrong {
            Some(bytes) => fs::write(&key, bytes).unwrap(),
            None => fs::remove_file(&key).unwrap(),
        }
        let before = hashes(dir.path());
        let (exit, said) = refused(&mut causeway).await;
        assert_eq!(exit, 19, "{said}");
        assert!(said.contains("data/bridge.db: ") && said.contains("storage.key"), "{said}");
        let is_one = wrong.is_some_and(|bytes| bytes.len() == 32);
        let (exit, said) = asked(dir.path(), &["config", "check"]);
        assert_eq!(exit, if is_one { 19 } else { 11 }, "{said}");
        let both = "data/storage.key is not the storage key of this database";
        assert_eq!(said.contains(both) && said.contains("data/bridge.db: "), is_one, "{said}");
        let (exit, said) = asked(dir.path(), &["doctor"]);
        assert_eq!(exit, 1, "{said}");
        assert_eq!(said.contains(both) && said.contains("fix: put back the"), is_one, "{said}");
        assert_eq!(hashes(dir.path()), before, "something was written");
    }
    fs::write(&key, right).unwrap();
    let (exit, said) = asked(dir.path(), &["config", "check"]);
    assert_eq!(exit, 0, "{said}");
    // Where there is no database yet, none is made.
    let (database, aside) = (dir.path().join("data/bridge.db"), dir.path().join("bridge.db"));
    fs::rename(&database, &aside).unwrap();
    for command in [&["config", "check"][..], &["doctor"]] {
        let (_, said) = asked(dir.path(), command);
        assert!(!said.contains("storage key of this database"), "{said}");
        assert!(!database.exists(), "{command:?}");
    }
    fs::rename(&aside, &database).unwrap();
    causeway.spawn().unwrap();
    causeway.live().await.unwrap();
}

/// What the running program says of its agent in `GET health`, each as `why`.
async fn troubles_of_agent(causeway: &Causeway) -> Vec<String> {
    let token = causeway.admin_token().unwrap();
    let url = format!("{}/_causeway/admin/v1/health", causeway.appservice_url());
    let answer = reqwest::Client::new().get(url).bearer_auth(token.expose()).send().await;
    // It listens there once it has reached the homeserver.
    let Ok(answer) = answer else { return Vec::new() };
    let health: Value = answer.json().await.unwrap();
    let troubles = health["troubles"].as_array().unwrap_or_else(|| panic!("{health}")).iter();
    let its = troubles.filter(|trouble| trouble["kind"] == "agent");
    its.map(|trouble| trouble["why"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_agent_that_cannot_begin_is_a_trouble_of_the_running_program_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let mut causeway = prepared(dir.path(), NOBODY);
    let misfit = Misfit::none(dir.path());
    let device = Arc::clone(&misfit.device);
    *device.lock().unwrap() = (403, json!({"errcode": "M_FORBIDDEN", "error": "no devices here"}));
    causeway.set_env("CAUSEWAY__HOMESERVER__ADDRESS", &homeserver(misfit).await);
    causeway.spawn().unwrap();
    causeway.live().await.unwrap();
    let is_it = |why: &String| why.starts_with("no agent to speak with other servers yet");
    let all = tokio::time::timeout(Duration::from_mins(1), async {
        let why = loop {
            let troubles = troubles_of_agent(&causeway).await;
            if let Some(why) = troubles.into_iter().find(is_it) {
                break why;
            }
        };
        assert!(why.contains("no devices here"), "{why}");
        assert!(why.contains("What to do: write the registration anew"), "{why}");
        *device.lock().unwrap() = (200, json!({}));
        while troubles_of_agent(&causeway).await.iter().any(is_it) {}
    });
    assert!(all.await.is_ok(), "it is shown, and over: {}", causeway.log());
    assert!(causeway.stop().await.unwrap(), "{}", causeway.log());
}

//! The commands as an operator types them: what they write, say and return.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use causeway_bridge::demo::causeway::Listeners;
use serde_json::Value;

use crate::prometheus::Page;

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct Causeway {
    pub(crate) dir: tempfile::TempDir,
}

impl Causeway {
    /// After `causeway init`.
    pub(crate) fn new() -> Self {
        let causeway = Self { dir: tempfile::tempdir().unwrap() };
        let made = causeway.run(&["init", "--server-name", "example.org"]);
        assert!(made.status.success(), "{}", said(&made));
        causeway
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command.args(arguments).current_dir(self.dir.path());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Whether a run comes so far that it listens; it is killed then.
    fn listens(&self, arguments: &[&str]) -> bool {
        let mut run = self.command(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
        let listens = lines.any(|line| line.contains("listening"));
        run.kill().unwrap();
        run.wait().unwrap();
        listens
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.dir.path().join(file)).unwrap()
    }

    fn append(&self, text: &str) {
        let whole = self.read("causeway.yaml") + text;
        fs::write(self.dir.path().join("causeway.yaml"), whole).unwrap();
    }
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// What stands in a folder and may be read by more than its owner.
fn open_to_others(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut open = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let mode = entry.metadata().unwrap().permissions().mode();
        if mode & 0o077 != 0 {
            open.push(entry.path());
        }
        if entry.path().is_dir() {
            open.extend(open_to_others(&entry.path()));
        }
    }
    open
}

#[test]
fn whatever_the_umask_what_is_written_is_its_owners() {
    let causeway = Causeway { dir: tempfile::tempdir().unwrap() };
    let openly = |arguments: &str| {
        let mut shell = Command::new("sh");
        let script = format!("umask 0; exec \"$0\" {arguments}");
        shell
            .args(["-c", &script, env!("CARGO_BIN_EXE_causeway")])
            .current_dir(causeway.dir.path());
        shell
    };
    assert!(openly("init --server-name example.org").output().unwrap().status.success());
    let mut run = openly("run --only server").stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("listening")));
    assert_eq!(open_to_others(causeway.dir.path()), Vec::<std::path::PathBuf>::new());
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(causeway.dir.path().join("data/server.db-wal").exists());
}

#[test]
fn what_init_writes_is_right_and_stays() {
    let causeway = Causeway::new();
    let checked = causeway.run(&["config", "check"]);
    assert!(checked.status.success(), "{}", said(&checked));
    let token = causeway.read("data/admin.token");
    let again = causeway.run(&["init", "--server-name", "example.org"]);
    assert!(again.status.success() && said(&again).contains("kept  causeway.yaml"));
    for other in [
        &["--server-name", "example.com"][..],
        &["--server-name", "example.org", "--homeserver", "http://elsewhere:8008"],
        &["--server-name", "example.org", "--address", "http://elsewhere:29360"],
        &["--server-name", "example.org", "--data-dir", "elsewhere"],
    ] {
        let other = causeway.run(&[&["init"], other].concat());
        assert_eq!(other.status.code(), Some(11));
        // With the line to change.
        assert!(said(&other).contains("causeway.yaml is there, and says `"), "{other:?}");
        assert!(said(&other).contains(" (causeway.yaml:"), "{other:?}");
    }
    // The same folder in other words is the same.
    let absolute = causeway.dir.path().join("data").display().to_string();
    for written in ["data", &absolute] {
        let text = causeway.read("causeway.yaml");
        let (_, rest) = text.split_once("homeserver:").unwrap();
        let text = format!("data_dir: {written}\nhomeserver:{rest}");
        fs::write(causeway.dir.path().join("causeway.yaml"), text).unwrap();
        for config in
            ["causeway.yaml", &causeway.dir.path().join("causeway.yaml").display().to_string()]
        {
            for asked in ["data", &absolute] {
                let more = ["--server-name", "example.org", "--data-dir", asked, "-c", config];
                let again = causeway.run(&[&["init"], &more[..]].concat());
                assert!(again.status.success(), "{written}, {asked}: {}", said(&again));
                assert!(!said(&again).contains("made "), "{}", said(&again));
            }
        }
    }
    let back = causeway.read("causeway.yaml").replace(&absolute, "data");
    fs::write(causeway.dir.path().join("causeway.yaml"), back).unwrap();
    // What is missing is made where the file that is there says.
    let moved = causeway.read("causeway.yaml").replace("data_dir: data", "data_dir: kept");
    fs::write(causeway.dir.path().join("causeway.yaml"), moved).unwrap();
    assert!(causeway.run(&["init", "--server-name", "example.org"]).status.success());
    assert_eq!(causeway.read("kept/admin.token").trim().len(), 64);
    let back = causeway.read("causeway.yaml").replace("data_dir: kept", "data_dir: data");
    fs::write(causeway.dir.path().join("causeway.yaml"), back).unwrap();
    std::fs::rename(causeway.dir.path().join("data/storage.key"), causeway.dir.path().join("key"))
        .unwrap();
    let checked = causeway.run(&["config", "check"]);
    assert_eq!(checked.status.code(), Some(11), "{}", said(&checked));
    assert!(said(&checked).contains("storage.key"));
    assert_eq!(causeway.read("data/admin.token"), token);
}

#[test]
fn a_dump_holds_what_is_in_force_and_no_secret() {
    let causeway = Causeway::new();
    let dump = causeway
        .command(&["config", "dump", "--set", "native.listen=127.0.0.1:7"])
        .env("CAUSEWAY__NATIVE__LISTEN", "127.0.0.1:8")
        .env("CAUSEWAY__LOGGING__FORMAT", "json")
        .output()
        .unwrap();
    let text = said(&dump);
    for line in ["server_name: example.org", "listen: 127.0.0.1:7", "format: json"] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let registration = causeway.read("registration.yaml");
    let tokens = registration.lines().filter_map(|line| line.split_once("s_token: "));
    let tokens: Vec<_> = tokens.map(|(_, token)| token.to_owned()).collect();
    assert_eq!(tokens.len(), 2);
    let files = ["admin.token", "registration.token", "bridge-registration.token"];
    let files = files.map(|file| causeway.read(&format!("data/{file}")).trim().to_owned());
    for secret in tokens.iter().chain(&files) {
        assert!(!text.contains(secret));
    }
}

#[tokio::test]
async fn a_bridge_db_that_was_put_back_is_run_on_only_if_that_is_meant() {
    use causeway_groups::{Machine, Vault};
    let causeway = Causeway::new();
    let data = causeway.dir.path().join("data");
    let path = data.join("bridge.db");
    let schemas = &[causeway_groups::SCHEMA, causeway_bridge::storage::SCHEMA];
    let options = causeway_store::Options {
        path: path.clone(),
        lock: causeway_store::Lock::Exclusive,
        schemas,
    };
    let db = causeway_store::Db::open(options).await.unwrap();
    let vault = Vault::open(&db, &data.join("storage.key")).await.unwrap();
    let account = "bridge:example.org".parse().unwrap();
    let mut tx = db.begin().await.unwrap();
    Machine::create(&mut tx, vault, account, causeway_bridge::clock::now()).await.unwrap();
    tx.commit().await.unwrap();
    db.close().await;
    let copy = fs::read(&path).unwrap();
    assert!(causeway.listens(&["run", "--only", "bridge"]));
    // Commits that the copy does not know.
    fs::write(data.join("bridge.db.generation"), "committed 00000000000000000999\n").unwrap();
    fs::write(&path, copy).unwrap();
    let refused = causeway.run(&["run", "--only", "bridge"]);
    assert_eq!(refused.status.code(), Some(23), "{}", said(&refused));
    assert!(said(&refused).contains("--after-restore"), "{}", said(&refused));
    assert!(causeway.listens(&["run", "--only", "bridge", "--after-restore"]));
}

#[test]
fn a_backup_is_put_back_into_the_right_place_or_nowhere() {
    let causeway = Causeway::new();
    let ends = |arguments: &[&str], code: i32| {
        let output = causeway.run(&[&["backup"], arguments, &["--output", "json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        let text = if code == 0 { output.stdout } else { output.stderr };
        serde_json::from_slice::<Value>(&text).unwrap()
    };
    assert!(ends(&["create", "copy"], 1).to_string().contains("no database"));
    let listeners = Listeners::free().unwrap();
    let (shown, native) = (listeners.appservice, listeners.native);
    let set = [format!("appservice.listen={shown}"), format!("native.listen={native}")];
    let run = ["run", "--only", "server", "--set", &set[0], "--set", &set[1]];
    assert!(causeway.listens(&run) && causeway.listens(&["run", "--only", "bridge"]));
    let made = ends(&["create", "copy"], 0);
    assert_eq!(made["storage_key"], false);
    let files = made["manifest"]["files"].as_array().unwrap();
    let names: Vec<_> = files.iter().map(|file| &file["name"]).collect();
    assert_eq!(names, ["bridge.db", "server.db"]);
    assert!(files[0]["schemas"]["client"].is_u64() && files[0]["schemas"]["bridge"].is_u64());
    assert_eq!(ends(&["verify", "copy"], 0)["manifest"], made["manifest"]);
    let there = ends(&["create", "copy"], 1);
    assert_eq!(there["error"]["exit"], 1);
    let text = there.to_string();
    assert!(text.contains("name another folder") && !text.contains("--move-aside"), "{text}");
    assert!(ends(&["restore", "copy"], 1).to_string().contains("--move-aside"));
    assert!(ends(&["restore", "data"], 1).to_string().contains("manifest.json"));

    let mut running = causeway.command(&run).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(running.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("listening")));
    let held = ends(&["restore", "copy", "--move-aside"], 14);
    assert!(held.to_string().contains("in use by causeway"), "{held}");
    running.kill().unwrap();
    running.wait().unwrap();

    let one = ends(&["restore", "copy", "--only", "server", "--move-aside"], 0);
    assert_eq!((&one["next"], &one["storage_key"]), (&"causeway run".into(), &true.into()));
    let all = ends(&["restore", "copy", "--move-aside"], 0);
    assert_eq!(all["next"], "causeway run --after-restore");
    let aside = causeway.dir.path().join(all["moved_aside"].as_str().unwrap());
    assert!(aside.join("bridge.db").exists() && causeway.listens(&run));
    let copy = causeway.dir.path().join("copy/server.db");
    let mut bytes = fs::read(&copy).unwrap();
    bytes[5_000] ^= 1;
    fs::write(&copy, bytes).unwrap();
    assert!(ends(&["verify", "copy"], 18).to_string().contains("server.db"));
}

#[test]
fn each_fault_of_the_configuration_has_its_words_and_its_exit_code() {
    let rows = [
        ("naitve: {}\n", 10, "did you mean `native`?"),
        ("a: [\n", 10, "causeway.yaml"),
        ("logging: {level: '=,='}\n", 11, "logging.level"),
    ];
    for (wrong, code, words) in rows {
        let causeway = Causeway::new();
        if wrong.starts_with("logging") {
            let file = causeway.read("causeway.yaml");
            let (before, _) = file.split_once("logging:").unwrap();
            fs::write(causeway.dir.path().join("causeway.yaml"), before).unwrap();
        }
        causeway.append(wrong);
        for command in [&["config", "check"][..], &["run"]] {
            let output = causeway.run(command);
            assert_eq!(output.status.code(), Some(code), "{}", said(&output));
            assert!(said(&output).contains(words), "{}", said(&output));
        }
    }
    let nowhere = Causeway { dir: tempfile::tempdir().unwrap() };
    let output = nowhere.run(&["config", "dump", "--config", "causeway.yaml"]);
    assert_eq!(output.status.code(), Some(10), "{}", said(&output));
}

#[test]
fn every_command_speaks_to_programs() {
    let causeway = Causeway { dir: tempfile::tempdir().unwrap() };
    let printed = |arguments: &[&str]| {
        let output = causeway.run(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{}", said(&output));
        assert!(output.stderr.is_empty(), "{}", said(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let made = printed(&["init", "--server-name", "example.org"]);
    assert_eq!(made["files"].as_array().unwrap().len(), 7);
    assert!(made["files"].as_array().unwrap().iter().all(|file| file["made"] == true), "{made}");
    let again = printed(&["init", "--server-name", "example.org"]);
    assert!(again["files"].as_array().unwrap().iter().all(|file| file["made"] == false), "{again}");
    assert_eq!(printed(&["config", "check"])["configuration"], "right");
    assert_eq!(printed(&["config", "dump"])["homeserver"]["server_name"], "example.org");
    assert_eq!(printed(&["config", "schema"])["type"], "object");
    assert_eq!(printed(&["registration"])["new_tokens"], false);
    assert_eq!(
        printed(&["registration", "--example"])["sender_localpart"],
        "causeway-sender-00000000"
    );

    let rows: [(&[&str], i32, &str); 7] = [
        (&["config", "check", "--config", "nowhere.yaml"], 10, "nowhere.yaml"),
        (&["config", "dump", "--set", "homeserver.server_name=a b"], 11, "homeserver.server_name"),
        (&["healthcheck", "--set", "appservice.listen=127.0.0.1:9"], 1, "nobody listens"),
        (&["run", "--set", "appservice.registration=nowhere.yaml"], 20, "nowhere.yaml"),
        (&["servers", "show", "B.example"], 2, "lower case: b.example"),
        (&["nonsense"], 2, "nonsense"),
        (&["config", "check", "--nonsense"], 2, "--nonsense"),
    ];
    for (arguments, code, words) in rows {
        let output = causeway.run(&[arguments, &["--output", "json"]].concat());
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        let last = said(&output).lines().last().unwrap().to_owned();
        let error: Value = serde_json::from_str(&last).unwrap();
        assert!(code != 2 || said(&output).lines().count() == 1, "{}", said(&output));
        assert_eq!(error["error"]["exit"], code, "{error}");
        assert!(error["error"]["what"].as_str().unwrap().contains(words), "{error}");
    }
}

#[test]
fn every_command_explains_itself() {
    let causeway = Causeway { dir: tempfile::tempdir().unwrap() };
    let commands: [&[&str]; 16] = [
        &[],
        &["init"],
        &["run"],
        &["registration"],
        &["config"],
        &["config", "check"],
        &["config", "dump"],
        &["config", "schema"],
        &["backup"],
        &["backup", "create"],
        &["backup", "verify"],
        &["backup", "restore"],
        &["healthcheck"],
        &["events"],
        &["stats"],
        &["demo"],
    ];
    for command in commands {
        let output = causeway.run(&[command, &["--help"]].concat());
        assert!(
            output.status.success() && said(&output).contains("Usage: causeway"),
            "{command:?}"
        );
    }
    assert!(said(&causeway.run(&["--help"])).contains("Exit codes:"));
    assert_eq!(causeway.run(&["dance"]).status.code(), Some(2));
    assert_eq!(causeway.run(&["demo", "--messages", "0"]).status.code(), Some(2));
    assert_eq!(
        causeway.run(&["demo", "--homeserver", "http://127.0.0.1:9"]).status.code(),
        Some(2)
    );
    // Without a file anywhere there is a hint at how to get one.
    if !Path::new("/etc/causeway/config.yaml").exists() {
        let output = causeway.run(&["config", "check"]);
        assert_eq!(output.status.code(), Some(10));
        assert!(said(&output).contains("causeway init"), "{}", said(&output));
    }
}

#[test]
fn the_environment_is_checked_as_the_file_is() {
    let causeway = Causeway::new();
    let rows = [
        ("CAUSEWAY__NATIVE__LISEN", "127.0.0.1:1", "did you mean `listen`?"),
        ("CAUSEWAY__NATIVE__LISTEN", "nowhere", "native.listen"),
    ];
    for (name, value, words) in rows {
        let output = causeway.command(&["config", "check"]).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(10), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
    }
}

#[test]
fn a_registration_is_made_anew_with_the_same_tokens_unless_asked() {
    let causeway = Causeway::new();
    let first = causeway.read("registration.yaml");
    let moved = causeway.run(&["registration", "--set", "appservice.address=http://bridge:1"]);
    assert!(moved.status.success(), "{}", said(&moved));
    let second = causeway.read("registration.yaml");
    assert_eq!(second, first.replace("http://127.0.0.1:29360", "http://bridge:1"));
    assert!(causeway.run(&["registration", "--new-tokens"]).status.success());
    let third = causeway.read("registration.yaml");
    let token =
        |text: &str| text.lines().find(|line| line.contains("as_token")).unwrap().to_owned();
    assert_ne!(token(&third), token(&first));

    fs::remove_file(causeway.dir.path().join("registration.yaml")).unwrap();
    let output = causeway.run(&["run"]);
    assert_eq!(output.status.code(), Some(20), "{}", said(&output));
}

#[test]
fn a_healthcheck_fails_where_nobody_listens() {
    let causeway = Causeway::new();
    let output = causeway.run(&["healthcheck", "--set", "appservice.listen=127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

#[tokio::test]
async fn the_native_server_alone_is_watched_where_nobody_else_gets_in() {
    let causeway = Causeway::new();
    let listeners = Listeners::free().unwrap();
    let set = |key: &str, address| format!("{key}={address}");
    let (shown, native) =
        (set("appservice.listen", listeners.appservice), set("native.listen", listeners.native));
    let healthcheck = || causeway.run(&["healthcheck", "--set", &shown]);
    let mut server = causeway
        .command(&["run", "--only", "server", "--while-stdin", "--set", &shown, "--set", &native])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while healthcheck().status.code() != Some(0) {
        assert_eq!(server.try_wait().unwrap(), None);
        tokio::time::sleep(LOOK).await;
    }
    assert!(said(&healthcheck()).contains("\"database\":true"));

    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    let get = async |base: &str, path: &str, token: &str| {
        let answer = http.get(format!("{base}{path}")).bearer_auth(token).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let base = listeners.appservice_url();
    for path in ["/live", "/ready", "/health", "/_matrix/mau/live", "/_matrix/mau/ready"] {
        assert_eq!(get(&base, path, "").await.0, 200, "{path}");
    }
    let page = Page::read(&get(&base, "/metrics", "").await.1);
    assert!(page.value("causeway_db_bytes{db=\"server\"}") > 0.0);
    let token = causeway.read("data/admin.token").trim().to_owned();
    for path in ["groups", "health"].map(|path| format!("/_causeway/admin/v1/{path}")) {
        assert_eq!(get(&base, &path, &token).await.0, 200, "{path}");
        assert_eq!(get(&base, &path, "wrong").await.0, 403, "{path}");
        // What is for the operator is never on the listener for people.
        assert_eq!(get(&listeners.native_url(), &path, &token).await.0, 404, "{path}");
    }
    for path in ["/metrics", "/openapi.json", "/_matrix/app/v1/ping"] {
        assert_eq!(get(&listeners.native_url(), path, &token).await.0, 404, "{path}");
    }

    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
    assert_eq!(healthcheck().status.code(), Some(1));
}

//! Set-ups that are broken in one place each, and what the real program says of them: the file, the
//! key with its line, the URL that was tried.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use causeway_bridge::demo::causeway::Listeners;
use serde_json::json;

use crate::start::{Misfit, homeserver, prepared};

/// Longest that something is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// After `causeway init`, with listeners of its own.
pub(crate) struct SetUp {
    folder: tempfile::TempDir,
    pub(crate) appservice: SocketAddr,
    pub(crate) native: SocketAddr,
}

impl SetUp {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let Listeners { appservice, native, .. } = Listeners::free().unwrap();
        let set_up = Self { folder, appservice, native };
        let made = set_up.run(&["init", "--server-name", "example.org"]);
        assert!(made.status.success(), "{}", said(&made));
        set_up.edit("127.0.0.1:29360", &appservice.to_string());
        set_up.edit("127.0.0.1:29361", &native.to_string());
        let anew = set_up.run(&["registration"]);
        assert!(anew.status.success(), "{}", said(&anew));
        set_up
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> String {
        fs::read_to_string(self.path("causeway.yaml")).unwrap()
    }

    fn edit(&self, from: &str, to: &str) {
        let text = self.config();
        assert!(text.contains(from), "{from} is not in\n{text}");
        fs::write(self.path("causeway.yaml"), text.replace(from, to)).unwrap();
    }

    /// `key` of a section, with the line that it stands on.
    fn key(&self, section: &str, key: &str) -> String {
        let text = self.config();
        let mut lines = text.lines().enumerate();
        lines.find(|(_, line)| *line == format!("{section}:")).unwrap();
        let (at, _) = lines.find(|(_, line)| line.trim_start().starts_with(key)).unwrap();
        format!("{section}.{key} (causeway.yaml:{})", at + 1)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a run says before `last`, that included; it is killed then.
    fn says_until(&self, arguments: &[&str], last: &str) -> Vec<String> {
        let mut run = self.command(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap) {
            let is_last = line.contains(last);
            lines.push(line);
            if is_last {
                break;
            }
        }
        run.kill().unwrap();
        run.wait().unwrap();
        assert!(lines.last().is_some_and(|line| line.contains(last)), "{lines:#?}");
        lines
    }
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// What is run, its exit code, and what breaks the set-up before and says what is to be named.
type Row = (&'static [&'static str], i32, fn(&SetUp) -> Vec<String>);

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

#[test]
fn what_is_wrong_in_a_file_or_an_option_is_told_with_its_place_and_what_belongs_there() {
    let rows: [Row; 13] = [
        (&["run"], 10, |of| {
            of.edit("logging:", "limits:\n  devices: 5\nlogging:");
            words(["causeway.yaml:", "duplicate mapping key: limits", "keep one of them"])
        }),
        (&["run"], 10, |of| {
            of.edit("  server_name: example.org", "\tserver_name: example.org");
            words(["causeway.yaml:4:", "spaces in place of the tab"])
        }),
        (&["config", "check"], 10, |of| {
            of.edit("devices: 16", "devices: many");
            let line = of.config().lines().position(|line| line.contains("many")).unwrap() + 1;
            let said = format!("causeway.yaml:{line}: limits.devices: it is the text `many`");
            vec![said, "write a whole number from 0 to 4294967295".to_owned()]
        }),
        (&["config", "check", "--set", "bridge.allow=ann"], 10, |_| {
            words(["--set bridge.allow: it is the text `ann`", "in brackets: [ann]"])
        }),
        (&["config", "check", "--set", "homeserver.server_name=5"], 10, |_| {
            words(["--set homeserver.server_name: it is the number 5", "with quotes: \"5\""])
        }),
        (&["config", "check", "--set", "=3"], 10, |_| {
            words(["--set: a key is missing before `=`"])
        }),
        (&["config", "check", "--set", "limits=[]"], 10, |_| {
            words(["--set limits: it is a list; write keys and values below it"])
        }),
        (&["run", "--set", "logging.level=nonsense=5"], 11, |_| {
            words(["--set logging.level: with `nonsense=5` Causeway logs nothing", "write `error`"])
        }),
        (&["config", "check"], 11, |of| {
            of.edit("level: info", "level: loud");
            words(["causeway.yaml:", "logging.level: `loud` is no level: write `error`, `warn`"])
        }),
        (&["run"], 11, |of| {
            of.edit("http://127.0.0.1:8008", "localhost:8008");
            words(["causeway.yaml:5: homeserver.address: `localhost:8008` begins neither"])
        }),
        (&["run", "--set", "homeserver.server_name=other.org"], 22, |_| {
            words([
                "registration.yaml is the registration for example.org",
                "homeserver.server_name (--set) is other.org",
            ])
        }),
        (&["config", "check"], 22, |of| {
            of.edit("server_name: example.org", "server_name: other.org");
            words(["homeserver.server_name (causeway.yaml:4) is other.org"])
        }),
        (&["run"], 21, |of| {
            fs::write(of.path("registration.yaml"), "as_token: canary\nurl: [\n").unwrap();
            words(["registration.yaml:", "the registration is not what it should be"])
        }),
    ];
    try_all(&rows);
}

#[test]
fn each_file_that_is_missing_or_no_file_is_told_with_its_path_and_its_key() {
    let rows: [Row; 7] = [
        (&["run", "--set", "data_dir=nowhere"], 11, |_| {
            words(["nowhere/admin.token cannot be read: there is no such file", "data_dir (--set)"])
        }),
        (&["run"], 11, |of| {
            fs::remove_file(of.path("data/admin.token")).unwrap();
            fs::create_dir(of.path("data/admin.token")).unwrap();
            words(["data/admin.token cannot be read: it is a folder", "data_dir (causeway.yaml:2)"])
        }),
        (&["config", "check"], 11, |of| {
            fs::remove_file(of.path("data/storage.key")).unwrap();
            words([
                "data/storage.key cannot be read: there is no such file",
                "`causeway init` makes it",
            ])
        }),
        (&["run"], 19, |of| {
            fs::remove_file(of.path("data/storage.key")).unwrap();
            fs::create_dir(of.path("data/storage.key")).unwrap();
            words([
                "data/bridge.db: the storage key data/storage.key cannot be read",
                "it is a folder. Put the right file there",
            ])
        }),
        (&["run"], 14, |of| {
            fs::create_dir(of.path("data/bridge.db")).unwrap();
            words(["data/bridge.db: it cannot be opened"])
        }),
        (&["run"], 14, |of| {
            fs::create_dir(of.path("data/server.db.lock")).unwrap();
            words(["data/server.db: it cannot be opened: Is a directory", "must own its folder"])
        }),
        (&["init", "--server-name", "other.org"], 11, |_| {
            words([
                "says `example.org` in homeserver.server_name (causeway.yaml:4), not `other.org`",
            ])
        }),
    ];
    try_all(&rows);
}

#[test]
fn what_is_no_file_to_read_is_not_waited_for_and_not_called_somebody_elses() {
    let rows: [Row; 12] = [
        (&["config", "check", "-c", "data"], 10, |_| {
            words(["data cannot be read: it is a folder; name the file in it"])
        }),
        (&["run", "-c", "nowhere.yaml"], 10, |_| {
            words(["nowhere.yaml cannot be read: there is no such file; name yours", "init"])
        }),
        (&["config", "check", "-c", "/dev/zero"], 10, |_| {
            words(["/dev/zero cannot be read: it is a device, and no regular file; name the right"])
        }),
        (&["config", "check", "-c", "pipe"], 10, |of| {
            pipe(&of.path("pipe"));
            words(["pipe cannot be read: it is a pipe, and no regular file; name the right file"])
        }),
        (&["config", "check"], 10, |of| {
            fs::write(of.path("causeway.yaml"), b"homeserver:\n  server_name: \xff\n").unwrap();
            words(["causeway.yaml cannot be read: line 2 is not UTF-8 text; save it as UTF-8"])
        }),
        (&["config", "check"], 10, |of| {
            fs::write(of.path("causeway.yaml"), "#".repeat(1025 * 1024)).unwrap();
            words(["causeway.yaml cannot be read: it is longer than 1024 KiB; name the right file"])
        }),
        (&["run"], 20, |of| {
            fs::remove_file(of.path("registration.yaml")).unwrap();
            pipe(&of.path("registration.yaml"));
            words(["registration.yaml cannot be read: it is a pipe", "put the right file there"])
        }),
        (&["config", "check"], 20, |of| {
            fs::remove_file(of.path("registration.yaml")).unwrap();
            words(["registration.yaml cannot be read: there is no such file", "`causeway init`"])
        }),
        (&["run"], 19, |of| {
            fs::remove_file(of.path("data/storage.key")).unwrap();
            pipe(&of.path("data/storage.key"));
            words(["data/storage.key cannot be read or made: it is a pipe", "Put the right file"])
        }),
        (&["config", "check"], 11, |of| {
            fs::remove_file(of.path("data/storage.key")).unwrap();
            pipe(&of.path("data/storage.key"));
            words(["data/storage.key cannot be read: it is a pipe", "put the right file there"])
        }),
        (&["run"], 11, |of| {
            fs::remove_file(of.path("data/admin.token")).unwrap();
            pipe(&of.path("data/admin.token"));
            words(["data/admin.token cannot be read: it is a pipe", "data_dir (causeway.yaml:2)"])
        }),
        (&["doctor"], 1, |of| {
            fs::remove_file(of.path("data/storage.key")).unwrap();
            pipe(&of.path("data/storage.key"));
            words(["data/storage.key: it is a pipe", "fix: put the right file there"])
        }),
    ];
    try_all(&rows);
    let as_them = SetUp::new().run(&["config", "check", "-c", "nowhere"]);
    assert!(!said(&as_them).contains("run this as the user"), "{}", said(&as_them));
}

/// One that nobody writes to.
fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn a_registration_without_a_token_lets_nobody_in() {
    let rows: [Row; 3] = [
        (&["config", "check"], 21, |of| {
            without_token(of, "as_token");
            words(["registration.yaml: ", "as_token is empty", "registration --new-tokens"])
        }),
        (&["run"], 21, |of| {
            without_token(of, "hs_token");
            words(["registration.yaml: ", "hs_token is empty", "registration --new-tokens"])
        }),
        (&["doctor"], 1, |of| {
            without_token(of, "hs_token");
            words(["hs_token is empty", "`causeway registration --new-tokens --config causeway"])
        }),
    ];
    try_all(&rows);
    let set_up = SetUp::new();
    without_token(&set_up, "as_token");
    for command in [&["registration", "--new-tokens"][..], &["config", "check"]] {
        let output = set_up.run(command);
        assert!(output.status.success(), "as it was told: {}", said(&output));
    }
}

fn without_token(of: &SetUp, key: &str) {
    let text = fs::read_to_string(of.path("registration.yaml")).unwrap();
    let begin = format!("{key}:");
    let with = |line: &str| {
        let line = if line.starts_with(&begin) { format!("{begin} ''") } else { line.to_owned() };
        line + "\n"
    };
    fs::write(of.path("registration.yaml"), text.lines().map(with).collect::<String>()).unwrap();
}

fn try_all(rows: &[Row]) {
    for (arguments, code, make) in rows {
        let set_up = SetUp::new();
        let named = make(&set_up);
        let output = set_up.run(arguments);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(*code), "{named:?}: {text}");
        for words in named {
            assert!(text.contains(&words), "{words} is not in {text}");
        }
        for alien in ["u32", "<input>", "invalid type", "struct ", "canary"] {
            assert!(!text.contains(alien), "{alien} is in {text}");
        }
    }
}

#[test]
fn a_variable_of_the_environment_is_called_by_its_name() {
    let set_up = SetUp::new();
    for (name, value, code, words) in [
        ("CAUSEWAY__LIMITS__DEVICES", "many", 10, "limits.devices: it is the text `many`"),
        ("CAUSEWAY__LIMITS__LOGINS__BURST", "-1", 10, "limits.logins.burst: it is the number -1"),
        ("CAUSEWAY__LIMITS__LOGINS__BURST", "0", 11, "limits.logins.burst: it is 0"),
        ("CAUSEWAY__LIMITS__DEVISES", "5", 10, "did you mean `devices`?"),
        ("CAUSEWAY__HOMESERVER__ADDRESS", "ftp://x", 11, "homeserver.address: `ftp://x` begins"),
        ("CAUSEWAY__", "3", 10, "a key, or a part of it, is missing in its name"),
        ("CAUSEWAY__LIMITS", "[]", 10, "limits: it is a list; write keys"),
    ] {
        let output = set_up.command(&["config", "check"]).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(&format!("{name} in the environment: ")), "{name}");
        assert!(said(&output).contains(words), "{}", said(&output));
    }
}

#[test]
fn a_port_that_is_taken_is_told_with_the_key_that_names_it() {
    for (section, other) in [("appservice", "appservice.address"), ("native", "native.address")] {
        let set_up = SetUp::new();
        let address = if section == "native" { set_up.native } else { set_up.appservice };
        let _there = TcpListener::bind(address).unwrap();
        let output = set_up.run(&["run"]);
        assert_eq!(output.status.code(), Some(1));
        for words in
            [&*format!("cannot listen at {address}: "), &set_up.key(section, "listen"), other]
        {
            assert!(said(&output).contains(words), "{words}: {}", said(&output));
        }
    }
}

/// A homeserver that is waited for: what is said of it, and that databases are made in a line each.
#[test]
fn who_is_waited_for_is_named_with_its_url_and_its_key() {
    let talks = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = talks.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut peer, _)) = talks.accept() {
            let _ = peer.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    for (address, hint) in [
        ("http://127.0.0.1:9".to_owned(), "nothing listens at 127.0.0.1:9"),
        (format!("https://{plain}"), "write http:// instead of https://"),
    ] {
        let set_up = SetUp::new();
        set_up.edit("http://127.0.0.1:8008", &address);
        let lines = set_up.says_until(&["run"], "waiting for the homeserver");
        let last = lines.last().unwrap();
        for words in [&address, hint, set_up.key("homeserver", "address").as_str()] {
            assert!(last.contains(words), "{words} is not in {last}");
        }
        let made: Vec<&String> =
            lines.iter().filter(|line| line.contains("tables of version")).collect();
        assert_eq!(made.len(), 2, "{lines:#?}");
        assert!(
            made[0].contains("made data/bridge.db: ") && made[1].contains("made data/server.db: ")
        );
        assert!(!lines.iter().any(|line| line.contains("migrated")), "{lines:#?}");
    }
}

#[tokio::test]
async fn the_native_server_that_is_waited_for_is_named_with_its_url_and_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut causeway = prepared(dir.path(), "http://127.0.0.1:9");
    let url = homeserver(Misfit::none(dir.path())).await;
    causeway.set_env("CAUSEWAY__HOMESERVER__ADDRESS", &url);
    causeway.set_env("CAUSEWAY__NATIVE__ADDRESS", "http://127.0.0.1:9");
    causeway.set_only("bridge");
    causeway.spawn().unwrap();
    let line = wait_for(|| log_line(&causeway.log(), "not on the native side yet")).await;
    for words in [
        "the native server at http://127.0.0.1:9: ",
        "nothing listens at 127.0.0.1:9",
        "native.address (CAUSEWAY__NATIVE__ADDRESS in the environment)",
    ] {
        assert!(line.contains(words), "{words} is not in {line}");
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut causeway = prepared(dir.path(), "http://127.0.0.1:9");
    let mut fast = Misfit::none(dir.path());
    fast.ahead = 300;
    fast.ping = (502, json!({"errcode": "M_CONNECTION_FAILED", "error": "nobody there"}));
    let url = homeserver(fast).await;
    causeway.set_env("CAUSEWAY__HOMESERVER__ADDRESS", &url);
    causeway.spawn().unwrap();
    // The fifth answer at least.
    wait_for(|| log_line(&causeway.log(), "does not reach us")).await;
    let log = causeway.log();
    let said: Vec<&str> =
        log.lines().filter(|line| line.contains("behind the homeserver")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].contains(&url) && said[0].contains("NTP"), "{}", said[0]);
}

fn log_line(log: &str, words: &str) -> Option<String> {
    log.lines().find(|line| line.contains(words)).map(str::to_owned)
}

/// Looks until there is something.
async fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap()
}

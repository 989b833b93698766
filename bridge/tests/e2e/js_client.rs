//! matrix-js-sdk 43 as a Matrix user: a client that shares no code with us.

use std::{fs, path::Path, process::Stdio};

use causeway_bridge::demo::{
    files::{self, FileLock},
    progress::Progress,
    venv::Venv,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/js");

/// A running `client.mjs`; killed when dropped.
pub(crate) struct JsClient {
    _child: Child,
    commands: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl JsClient {
    /// Logs `user` in and starts to sync.
    pub(crate) async fn start(venv: &Venv, homeserver: &str, user: &str, password: &str) -> Self {
        let node = venv.node().unwrap();
        let modules = install(&node);
        let mut child = Command::new(node)
            .arg(modules.join("client.mjs"))
            .args([homeserver, user])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut commands = child.stdin.take().unwrap();
        commands.write_all(format!("{password}\n").as_bytes()).await.unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut client = Self { _child: child, commands, lines };
        client.until(|line| line["ready"].is_string()).await;
        client
    }

    /// Sends `body` to `room`.
    pub(crate) async fn say(&mut self, room: &str, body: &str) {
        let command = json!({ "cmd": "send", "room": room, "body": body });
        self.commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
    }

    /// The next line for which `wanted` holds; what comes before it is passed over.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.lines.next_line().await.unwrap().expect("the js client has ended");
            let line: Value = serde_json::from_str(&line).unwrap();
            assert!(line["error"].is_null(), "the js client says {line}");
            if wanted(&line) {
                return line;
            }
        }
    }
}

/// The client and its packages in `.causeway/js`, installed once for each lock file.
fn install(node: &Path) -> std::path::PathBuf {
    let folder = files::folder().unwrap().join("js");
    fs::create_dir_all(&folder).unwrap();
    let lock = folder.join("install.lock");
    let _lock = FileLock::take(&lock, &Progress::new(), "it installs the js client").unwrap();
    fs::copy(format!("{SOURCES}/client.mjs"), folder.join("client.mjs")).unwrap();
    let wanted = fs::read(format!("{SOURCES}/package-lock.json")).unwrap();
    let marker = folder.join("installed.json");
    if fs::read(&marker).is_ok_and(|has| has == wanted) {
        return folder;
    }
    for file in ["package.json", "package-lock.json"] {
        fs::copy(format!("{SOURCES}/{file}"), folder.join(file)).unwrap();
    }
    let npm = node.parent().unwrap().join("../lib/node_modules/npm/bin/npm-cli.js");
    let output = std::process::Command::new(node)
        .arg(npm)
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "npm ci: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(marker, wanted).unwrap();
    folder
}

//! A real server on a loopback port, and the real `causeway-client` with homes of its own.

use causeway_store::Conn;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::cli_server::Server;

/// A server, and room for homes.
pub(crate) struct World {
    pub(crate) server: Server,
    folder: TempDir,
}

/// One home, and how to run the client with it.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) home: PathBuf,
    pub(crate) url: String,
}

/// What came of a command.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) lines: Vec<Value>,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(Server::start())
    }

    pub(crate) fn of(server: Server) -> Self {
        Self { server, folder: TempDir::new().unwrap() }
    }

    /// Somebody whose client speaks to the server.
    pub(crate) fn person(&self, name: &str) -> Person {
        self.person_at(name, &self.server.url())
    }

    /// Somebody whose client speaks to something before the server.
    pub(crate) fn person_at(&self, name: &str, url: &str) -> Person {
        let home = self.folder.path().join(name);
        Person { name: name.to_owned(), home, url: url.to_owned() }
    }

    /// As [`person`](Self::person), registered.
    pub(crate) fn registered(&self, name: &str) -> Person {
        let person = self.person(name);
        person.ok(&["register", name]);
        person
    }

    /// Registered people who are all in one group, which the first of them made; they are let in
    /// by his `tail`.
    pub(crate) fn group<const N: usize>(&self, names: [&str; N]) -> [Person; N] {
        let people = names.map(|name| self.registered(name));
        people[0].ok(&["group", "create", "team"]);
        if N > 1 {
            let uses = (N - 1).to_string();
            let invite = people[0].ok(&["invite", "create", "team", "--uses", &uses]);
            let link = invite[0]["link"].as_str().unwrap().to_owned();
            let tail = people[0].tail(&[]);
            for guest in &people[1..] {
                guest.ok(&["invite", "accept", &link]);
            }
            tail.stop();
        }
        people
    }
}

impl Person {
    /// What the server calls this person.
    pub(crate) fn account(&self) -> String {
        format!("{}:{}", self.name, crate::cli_server::NAME)
    }

    /// Changes rows of a home that no client has open.
    pub(crate) fn meddle(&self, sql: &[&'static str]) {
        use sqlx::Connection as _;

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let file = self.home.join("client.db");
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
            let mut connection = Conn::connect_with(&options).await.unwrap();
            for sql in sql {
                sqlx::query(*sql).execute(&mut connection).await.unwrap();
            }
            connection.close().await.unwrap();
        });
    }

    /// What one query of a home counts that no client has open.
    pub(crate) fn count(&self, sql: &str) -> usize {
        use sqlx::Connection as _;

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let file = self.home.join("client.db");
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
            let mut connection = Conn::connect_with(&options).await.unwrap();
            let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
            let count: i64 = query.fetch_one(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            count.try_into().unwrap()
        })
    }

    /// The command, with this home, ready to be changed.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway-client"));
        command
            .env_clear()
            .args(["--output", "json", "--home"])
            .arg(&self.home)
            .args(["--server", &self.url])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments).output().unwrap())
    }

    /// What a person reads of it on stdout; it must end well.
    pub(crate) fn as_text(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway-client"));
        command.env_clear().arg("--home").arg(&self.home).args(["--server", &self.url]);
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it with this on stdin.
    pub(crate) fn run_with(&self, arguments: &[&str], stdin: &str) -> Ended {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        ended(child.wait_with_output().unwrap())
    }

    /// Runs it, and it must end well; its results.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Vec<Value> {
        let ended = self.run(arguments);
        assert!(ended.status.success(), "{} {arguments:?}: {}", self.name, ended.stderr);
        ended.lines
    }

    /// Runs it, and it must end with this code; what it says of it.
    pub(crate) fn fails(&self, arguments: &[&str], code: i32) -> Value {
        let ended = self.run(arguments);
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {}", ended.stderr);
        // Notes of trouble that may pass stand before it.
        let last = ended.stderr.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or(Value::Null)
    }

    /// What waits in the mailbox, and was not shown yet.
    pub(crate) fn read(&self) -> Vec<Value> {
        self.ok(&["tail", "--once"])
    }

    /// Texts that wait in the mailbox.
    pub(crate) fn texts(&self) -> Vec<String> {
        texts(&self.read())
    }

    /// A `tail` that runs beside the test.
    pub(crate) fn tail(&self, arguments: &[&str]) -> Running {
        let arguments = [&["tail"], arguments].concat();
        Running::start(self.command(&arguments))
    }
}

/// A client that runs beside the test.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stderr(Stdio::piped());
        Self::start_as_it_is(command)
    }

    /// The same where somebody else reads what it says of trouble.
    pub(crate) fn start_as_it_is(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stdin = child.stdin.take();
        Self { child, stdin, lines }
    }

    /// Waits for its end; what it said of it.
    pub(crate) fn ended(mut self) -> Ended {
        let lines = std::iter::from_fn(|| self.next()).collect();
        let mut stderr = String::new();
        if let Some(mut said) = self.child.stderr.take() {
            said.read_to_string(&mut stderr).unwrap();
        }
        Ended { status: self.child.wait().unwrap(), lines, stderr }
    }

    /// Its next line; `None` at its end, or where it was cut off in the middle of one.
    pub(crate) fn next(&mut self) -> Option<Value> {
        serde_json::from_str(&self.lines.next()?.ok()?).ok()
    }

    /// Its lines up to the first that `is` true of.
    pub(crate) fn until(&mut self, mut is: impl FnMut(&Value) -> bool) -> Value {
        loop {
            let line = self.next().expect("it ended before that line came");
            if is(&line) {
                return line;
            }
        }
    }

    /// Gives it lines; whether it took them all.
    pub(crate) fn give(&mut self, lines: &str) -> bool {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(lines.as_bytes()).and_then(|()| stdin.flush()).is_ok()
    }

    /// SIGKILL, and what it had still written.
    pub(crate) fn kill(mut self) -> Vec<Value> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.next()).collect()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and a good end.
    pub(crate) fn stop(mut self) -> Vec<Value> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let rest = std::iter::from_fn(|| self.next()).collect();
        assert!(self.child.wait().unwrap().success());
        rest
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bodies of the messages of others among these lines.
pub(crate) fn texts(lines: &[Value]) -> Vec<String> {
    bodies(lines, false)
}

/// Bodies of the messages among these lines that were said with the home that shows them.
pub(crate) fn own_texts(lines: &[Value]) -> Vec<String> {
    bodies(lines, true)
}

fn bodies(lines: &[Value], own: bool) -> Vec<String> {
    let is_own = |line: &Value| line["own"] == true;
    let messages = lines.iter().filter(|l| l["type"] == "message" && is_own(l) == own);
    messages.map(|line| line["body"].as_str().unwrap().to_owned()).collect()
}

/// Whether anything in this folder holds these bytes.
pub(crate) fn folder_holds(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

pub(crate) fn ended(output: Output) -> Ended {
    let stdout = String::from_utf8(output.stdout).unwrap();
    Ended {
        status: output.status,
        lines: stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

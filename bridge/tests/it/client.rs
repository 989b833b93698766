//! `causeway client` is `causeway-client`: the same commands, codes and JSON, under its own name.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use causeway_bridge::{
    demo::causeway::{Causeway, Listeners},
    registration::{Registration, Tokens},
};
use serde_json::Value;

/// Runs it with a home that nobody has made yet.
fn client(arguments: &[&str]) -> Output {
    let nowhere = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_causeway"))
        .args(arguments)
        .env("CAUSEWAY_HOME", nowhere.path().join("home"))
        .env_remove("CAUSEWAY_SERVER")
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_help_text_names_what_is_there_to_be_typed() {
    let mut left = vec![vec!["client".to_owned()]];
    let mut seen = 0;
    while let Some(command) = left.pop() {
        let words: Vec<_> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let output = client(&words);
        let help = said(&output);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {help}");
        let usage = format!("Usage: causeway {}", command.join(" "));
        assert!(help.contains(&usage), "{words:?}: {help}");
        assert!(!help.contains("causeway-client"), "{words:?}: {help}");
        seen += usize::from(help.contains("Examples:\n  causeway client "));
        left.extend(commands(&help).into_iter().map(|name| [&command[..], &[name]].concat()));
    }
    assert!(seen > 20, "only {seen} of the commands show how they are typed");
}

#[test]
fn codes_and_json_are_the_clients() {
    let rows: [(&[&str], i32, &str); 8] = [
        (&["client", "whoami"], 3, "`causeway client register NAME"),
        (&["client", "group", "list"], 3, "`causeway client register NAME"),
        (
            &["client", "--server", "http://127.0.0.1:1", "register", "ann"],
            4,
            "cannot reach the server",
        ),
        (&["client", "register", "ann"], 2, "--server https://host"),
        (&["client", "dance"], 2, "dance"),
        (&["client"], 2, "Usage: causeway client"),
        (&["client", "tail", "--since", "one"], 2, "invalid value 'one'"),
        (&["client", "--version"], 0, "causeway client"),
    ];
    for (arguments, code, words) in rows {
        let output = client(arguments);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(words) && !text.contains("causeway-client"), "{arguments:?}: {text}");
    }
    // Wherever the form is asked for.
    for arguments in [
        &["--output", "json", "client", "whoami"],
        &["client", "--output", "json", "whoami"],
        &["client", "whoami", "--output", "json"],
    ] {
        let output = client(arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!(error["error"]["code"], "not_logged_in", "{arguments:?}");
        assert_eq!(error["error"]["exit"], 3, "{arguments:?}");
        let next = error["error"]["next"].as_str().unwrap();
        assert!(next.contains("`causeway client register"), "{arguments:?}: {next}");
    }
    let misread = client(&["client", "dance", "--output", "json"]);
    let error: Value = serde_json::from_slice(&misread.stderr).unwrap();
    assert_eq!((misread.status.code(), &error["error"]["code"]), (Some(2), &"usage".into()));
}

/// Two people on a native server, each with the folder of their name.
struct People<'a> {
    dir: &'a Path,
    url: String,
}

impl People<'_> {
    fn command(&self, who: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command.args(["client", "--server", &self.url, "--home"]).arg(self.dir.join(who));
        command.args(arguments).stdin(Stdio::null());
        command
    }

    fn run(&self, who: &str, arguments: &[&str]) -> String {
        let output = self.command(who, arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test]
async fn advice_names_it_and_what_people_say_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let listeners = Listeners::free().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_causeway"));
    let (nobody, name) = ("http://127.0.0.1:9", "example.org");
    let tokens = Tokens::random().unwrap();
    let registration = Registration::new(name, &listeners.appservice_url(), tokens);
    let prepared = Causeway::prepare(binary, dir.path(), nobody, name, listeners, &registration);
    let mut server = prepared.unwrap();
    server.set_only("server");
    server.start().await.unwrap();
    let people = People { dir: dir.path(), url: server.native_url().to_owned() };
    let token = dir.path().join("data/registration.token");
    for who in ["ann", "ben"] {
        people.run(who, &["register", who, "--token-file", token.to_str().unwrap()]);
    }
    let made = people.run("ann", &["group", "create", "team"]);
    assert!(made.contains("`causeway client invite create team`"), "{made}");
    let link = people.run("ann", &["invite", "create", "team"]);
    let mut lets_in = people.command("ann", &["tail"]).stdout(Stdio::null()).spawn().unwrap();
    people.run("ben", &["invite", "accept", link.trim()]);
    lets_in.kill().unwrap();
    lets_in.wait().unwrap();
    let words = "try `causeway-client tail`, ben";
    people.run("ann", &["send", "team", words]);
    let shown = people.run("ben", &["tail", "--once"]);
    assert!(shown.contains(words), "{shown}");
}

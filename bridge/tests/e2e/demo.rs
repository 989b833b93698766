//! The demo as a newcomer meets it: what it prints, how one joins in, and how it ends.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::demo_process::{Demo, read_to};

const GOES_ON: &str = "It goes on until Ctrl-C";

fn here() -> PathBuf {
    std::env::current_dir().unwrap()
}

/// A line as it is typed in another terminal, which is somewhere else.
fn typed(line: &str, elsewhere: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(elsewhere).stdin(Stdio::null());
    for name in ["CAUSEWAY_HOME", "CAUSEWAY_SERVER", "CAUSEWAY_LOG"] {
        shell.env_remove(name);
    }
    shell
}

/// The lines that it prints to be typed.
fn lines_to_type(shown: &str) -> [String; 4] {
    let lines = shown.lines().filter(|line| line.contains(" client --home "));
    let lines: Vec<_> = lines.map(|line| line.trim().to_owned()).collect();
    lines.try_into().unwrap_or_else(|lines| panic!("{lines:?} in\n{shown}"))
}

/// Types all of them, the last as long as it takes to show something.
fn join_in(lines: &[String; 4]) {
    let elsewhere = tempfile::tempdir().unwrap();
    let [commands @ .., tail] = lines;
    for line in commands {
        let output = typed(line, elsewhere.path()).output().unwrap();
        let said =
            String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{line}\n{said}");
        assert!(!said.contains("causeway-client"), "{said}");
    }
    let mut tail = typed(tail, elsewhere.path());
    let mut tail = tail.stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(tail.stdout.take().unwrap()).read_line(&mut first).unwrap();
    kill_process_group(Pid::from_raw(tail.id().cast_signed()).unwrap(), Signal::KILL).unwrap();
    tail.wait().unwrap();
    assert!(first.contains(" [Harbour] "), "{first}");
}

#[test]
fn joining_in_works_as_it_is_printed_and_again_and_in_the_next_demo() {
    for ends_by_signal in [true, false] {
        let mut demo = Demo::start(&here(), &["--messages", "4"], &[]);
        let shown = read_to(demo.stdout.as_mut().unwrap(), GOES_ON);
        let lines = lines_to_type(&shown);
        for _ in 0..2 {
            join_in(&lines);
            read_to(demo.stdout.as_mut().unwrap(), "you: hello from me");
        }
        let home = lines[3].split_whitespace().skip_while(|word| *word != "--home").nth(1).unwrap();
        assert!(Path::new(home).is_dir(), "{home}");
        if ends_by_signal {
            demo.signal(Signal::INT);
            let (code, said) = demo.ends();
            assert!(code == Some(0) && said.contains("nothing of it runs"), "{code:?}: {said}");
        } else {
            demo.stdout = None;
            let (code, said) = demo.ends();
            assert!(code == Some(1) && said.contains("nobody reads"), "{code:?}: {said}");
        }
        assert!(!Path::new(home).exists(), "{home} is still there");
    }
}

#[test]
fn once_it_shows_the_story_and_nothing_to_be_typed_for_servers_that_are_gone() {
    let mut demo = Demo::start(&here(), &["--once", "--messages", "4"], &[]);
    let mut shown = read_to(demo.stdout.as_mut().unwrap(), "in the pairwise group");
    let mut out = demo.stdout.take().unwrap();
    std::io::Read::read_to_string(&mut out, &mut shown).unwrap();
    let (code, said) = demo.ends();
    assert_eq!(code, Some(0), "{said}");
    let steps =
        ["Ann lets the bridge in", "They talk", "Ann removes Ben", "They talk on", "Dora, Emil"];
    for step in steps {
        assert!(said.contains(step), "{step} is not in\n{said}");
    }
    assert!(shown.contains("4 of 4 messages from native to Matrix arrived"), "{shown}");
    assert!(shown.contains("12 of 12 were read"), "{shown}");
    for words in [" client --home ", "How to join", "password", "http:", "{"] {
        assert!(!shown.contains(words), "{words} is in\n{shown}");
    }
}

#[test]
fn whenever_a_signal_comes_nothing_is_left_running() {
    let rows = [
        ("starting Causeway", Signal::TERM, 143, "SIGTERM ended the demo"),
        ("They talk", Signal::INT, 130, "SIGINT ended the demo"),
    ];
    for (step, signal, code, words) in rows {
        let mut demo = Demo::start(&here(), &["--once", "--messages", "200"], &[]);
        demo.says(step);
        demo.signal(signal);
        let (ended, said) = demo.ends();
        assert!(ended == Some(code) && said.contains(words), "{ended:?}: {said}");
    }
}

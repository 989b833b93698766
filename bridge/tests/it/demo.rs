//! The demo's odd ends: what is missing, what is in the way, and who ends it.

use std::{
    fs,
    io::BufRead as _,
    path::Path,
    process::{Command, Output},
};

use causeway_bridge::demo::{files::FileLock, progress::Progress};
use rustix::process::Signal;

use crate::demo_process::Demo;

/// What is said before anything is fetched.
const HOW_MUCH: &str = "about 100 MB from PyPI, which take 450 MB in";

/// A Python as far as the demo goes, which does what the environment says it does.
const PYTHON: &str = r#"#!/bin/sh
case "$2" in
    venv) eval "$VENV_DOES"; mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    pip) eval "$PIP_DOES" ;;
    *) echo "$PROBE_SAYS" ;;
esac
"#;

/// A folder whose only Python is that one.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("bin")).unwrap();
    // Written by another process: a child that a test forks while this one has the file open for
    // writing has it open, too, and what is open for writing cannot be run.
    let write = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
    let python = folder.path().join("bin/python3");
    let mut shell = Command::new("sh");
    assert!(shell.args(["-c", write]).arg(python).arg(PYTHON).status().unwrap().success());
    folder
}

fn path(folder: &Path) -> String {
    format!("{}:/usr/bin:/bin", folder.join("bin").display())
}

/// Runs the demo there to its end; nothing may be on stdout.
fn demo(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_causeway"))
        .args(["demo", "--once"])
        .args(arguments)
        .current_dir(folder)
        .env("PATH", path(folder))
        .env("PROBE_SAYS", "ok")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&stdout), "");
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn it_says_what_to_install() {
    let folder = folder();
    // Where there is no other one by another name, which would do.
    let alone = folder.path().join("bin");
    let rows = [
        (folder.path(), "ok", "Python 3.10 or newer is needed"),
        (&alone, "old", "Python 3.10 or newer is needed"),
        (&alone, "bare", "apt install python3-venv"),
    ];
    for (path, probe, words) in rows {
        let environment = [("PATH", path.to_str().unwrap()), ("PROBE_SAYS", probe)];
        let (code, said) = demo(folder.path(), &[], &environment);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(words) && !said.contains(HOW_MUCH), "{said}");
    }
}

#[test]
fn it_says_how_much_it_fetches_before_it_does_and_why_it_could_not() {
    let no_index = "
        echo \"WARNING: Retrying (Retry(total=4, connect=None)) after connection broken by \
        'NewConnectionError(HTTPSConnectionPool(host=x): Failed to establish')': /simple/attrs/\"
        echo 'ERROR: Could not find a version that satisfies attrs==26.1.0 (from versions: none)'
        exit 1";
    let no_room = "echo 'ERROR: Could not install: [Errno 28] No space left on device'; exit 1";
    let broken = "printf 'first\\033]0;mine\\007\\nlast\\033[2J\\n'; exit 3";
    let rows = [
        ("VENV_DOES", "echo ensurepip is broken; exit 1", "`python3 -m venv` failed"),
        ("VENV_DOES", "echo ensurepip is broken; exit 1", "ensurepip is broken"),
        ("PIP_DOES", no_index, "the package index does not answer"),
        ("PIP_DOES", no_index, "PIP_INDEX_URL"),
        ("PIP_DOES", no_index, "attrs==26.1.0 (from versions: none)"),
        ("PIP_DOES", no_room, "the disk is full: 450 MB are needed in"),
        ("PIP_DOES", broken, "`pip install` failed"),
        ("PIP_DOES", broken, "first\u{fffd}]0;mine"),
    ];
    let folder = folder();
    for (step, does, words) in rows {
        // What was begun before is begun anew.
        let (code, said) = demo(folder.path(), &[], &[(step, does)]);
        assert_eq!(code, Some(1), "{said}");
        let announced = said.find(HOW_MUCH).unwrap_or_else(|| panic!("{said}"));
        let failed = said.find(words).unwrap_or_else(|| panic!("{words} is not in\n{said}"));
        assert!(announced < failed, "{said}");
        let root = folder.path().join(".causeway/venv").display().to_string();
        assert!(said.contains(&root), "{said}");
        assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_named_before_anything_is_fetched() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("used")).unwrap();
    fs::write(at("used/causeway.yaml"), "").unwrap();
    fs::write(at("file"), "").unwrap();
    let rows = [
        (&["--dir", "used"], "used", "holds what an earlier demo made"),
        (&["--dir", "file"], "file", "cannot be made or written to"),
        (&["--dir", "file/below"], "file/below", "cannot be made or written to"),
        // With a file where its own folder would be.
        (&["--messages", "1"], ".causeway", "cannot be made or written to"),
    ];
    for (arguments, named, words) in rows {
        let is_own = named == ".causeway";
        if is_own {
            fs::write(at(named), "").unwrap();
        }
        let (code, said) = demo(folder.path(), arguments, &[]);
        assert_eq!(code, Some(1), "{said}");
        let named = at(named).canonicalize().unwrap_or_else(|_| at(named));
        assert!(said.contains(named.to_str().unwrap()) && said.contains(words), "{said}");
        assert!(!said.contains(HOW_MUCH), "{said}");
    }
}

/// A demo whose `pip`, and what that started, is at work for a long time.
fn installing(folder: &Path) -> Demo {
    let path = path(folder);
    let environment = [
        ("PATH", path.as_str()),
        ("PROBE_SAYS", "ok"),
        ("PIP_DOES", "sleep 1000 & echo begun >&9; wait"),
    ];
    let mut demo = Demo::start(folder, &[], &environment);
    let mut first = String::new();
    demo.lives.read_line(&mut first).unwrap();
    assert_eq!(first, "begun\n");
    demo
}

#[test]
fn a_signal_ends_it_and_what_it_started() {
    let folder = folder();
    let rows = [
        (Signal::INT, 130, "SIGINT ended the demo before its story was over"),
        (Signal::TERM, 143, "SIGTERM ended the demo before its story was over"),
        (Signal::HUP, 129, "SIGHUP ended the demo before its story was over"),
    ];
    for (signal, code, words) in rows {
        let demo = installing(folder.path());
        demo.signal(signal);
        let (ended, said) = demo.ends();
        assert!(ended == Some(code) && said.contains(words), "{ended:?}: {said}");
    }
}

#[test]
fn it_ends_when_nobody_reads_it() {
    let folder = folder();
    let mut demo = installing(folder.path());
    demo.stdout = None;
    let (code, said) = demo.ends();
    assert!(code == Some(1) && said.contains("nobody reads standard output"), "{code:?}: {said}");

    let mut demo = installing(folder.path());
    demo.stderr = None;
    demo.stdout = None;
    assert_eq!(demo.ends().0, Some(1), "with nowhere to say it");
}

#[test]
fn one_that_waits_for_another_ends_when_it_is_told() {
    let folder = folder();
    let kept = folder.path().join(".causeway");
    fs::create_dir(&kept).unwrap();
    let _other = FileLock::take(&kept.join("venv.lock"), &Progress::new(), "a test").unwrap();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut demo = Demo::start(folder.path(), &[], &[("PROBE_SAYS", "ok")]);
        demo.says("waiting for another process");
        demo.signal(signal);
        assert_eq!(demo.ends().0, Some(code));
    }
}

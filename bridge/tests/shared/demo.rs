//! A demo as a person starts it, and whether anything that it started still runs.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStderr, ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// Everything that the demo starts inherits this descriptor: one end of a pipe with a name.
const STARTS: &str = "exec \"$0\" demo \"$@\" 9>\"$LIVES\"";

/// A running demo.
pub(crate) struct Demo {
    process: Child,
    /// What has descriptor 9 may say something there.
    pub(crate) lives: BufReader<File>,
    pub(crate) stdout: Option<BufReader<ChildStdout>>,
    pub(crate) stderr: Option<BufReader<ChildStderr>>,
    _pipe: tempfile::TempDir,
}

impl Demo {
    /// Runs `causeway demo` with these arguments in `folder`.
    pub(crate) fn start(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let pipe = tempfile::tempdir().unwrap();
        let lives = pipe.path().join("lives");
        assert!(Command::new("mkfifo").arg(&lives).status().unwrap().success());
        let mut process = Command::new("sh")
            .args(["-c", STARTS, env!("CARGO_BIN_EXE_causeway")])
            .args(arguments)
            .current_dir(folder)
            .envs(environment.iter().copied())
            .env("LIVES", &lives)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = process.stdout.take().map(BufReader::new);
        let stderr = process.stderr.take().map(BufReader::new);
        // Opened when its other end is.
        let lives = BufReader::new(File::open(lives).unwrap());
        Self { process, lives, stdout, stderr, _pipe: pipe }
    }

    /// Everything on stderr up to a line with these words.
    pub(crate) fn says(&mut self, words: &str) -> String {
        read_to(self.stderr.as_mut().unwrap(), words)
    }

    /// Sends a signal to the demo alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.process.id().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Waits until it has ended, and everything that it started: its exit code, and what more it
    /// said on stderr.
    pub(crate) fn ends(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        if let Some(mut stderr) = self.stderr.take() {
            stderr.read_to_string(&mut said).unwrap();
        }
        let code = self.process.wait().unwrap().code();
        // The end of the pipe: nobody has its other one any more.
        self.lives.read_to_end(&mut Vec::new()).unwrap();
        (code, said)
    }
}

/// Everything up to a line with these words.
pub(crate) fn read_to(from: &mut impl BufRead, words: &str) -> String {
    let mut text = String::new();
    while !text.lines().next_back().is_some_and(|line| line.contains(words)) {
        assert!(from.read_line(&mut text).unwrap() > 0, "`{words}` did not come after: {text}");
    }
    text
}

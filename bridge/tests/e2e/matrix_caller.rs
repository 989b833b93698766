//! A Matrix user's client in a call: LiveKit's own, of Python, in an environment that is made once.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

use crate::people::PATIENCE;

const SCRIPT: &str = include_str!("matrix_caller.py");
const PACKAGE: &str = "livekit==1.2.0";

/// One who is in a call; killed when dropped.
pub(crate) struct MatrixCaller {
    _child: Child,
    /// How often which tone of whom was heard.
    heard: Arc<Mutex<BTreeMap<(String, u32), usize>>>,
    over: Arc<AtomicBool>,
    _reading: JoinSet<()>,
}

impl MatrixCaller {
    /// Comes in by what the focus gave, with this tone, and listens for those.
    pub(crate) async fn join(given: &Value, tone: u32, tones: &[u32]) -> Self {
        Self::come(given, Some(tone), tones).await
    }

    /// Likewise, and says nothing there.
    pub(crate) async fn listen(given: &Value, tones: &[u32]) -> Self {
        Self::come(given, None, tones).await
    }

    async fn come(given: &Value, tone: Option<u32>, tones: &[u32]) -> Self {
        let python = python().await;
        let mut command = Command::new(python);
        command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let asked = json!({"url": given["url"], "jwt": given["jwt"], "tone": tone, "tones": tones});
        let stdin = child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{asked}\n").as_bytes()).await.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let joined: Value =
            serde_json::from_str(&lines.next_line().await.unwrap().expect("it came in")).unwrap();
        assert!(joined["joined"].is_string(), "{joined}");
        let heard: Arc<Mutex<BTreeMap<(String, u32), usize>>> = Arc::default();
        let (mut reading, noted) = (JoinSet::new(), Arc::clone(&heard));
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        reading.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let line: Value = serde_json::from_str(&line).unwrap();
                if line["over"] == true {
                    is_over.store(true, Ordering::Relaxed);
                    continue;
                }
                let tone = u32::try_from(line["tone"].as_u64().unwrap()).unwrap();
                let from = line["from"].as_str().unwrap().to_owned();
                *noted.lock().unwrap().entry((from, tone)).or_default() += 1;
            }
        });
        Self { _child: child, heard, over, _reading: reading }
    }

    /// Until LiveKit has put it out.
    pub(crate) async fn is_put_out(&self) {
        let until = async {
            while !self.over.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, until).await.expect("it stays");
    }

    pub(crate) fn heard(&self) -> BTreeMap<(String, u32), usize> {
        self.heard.lock().unwrap().clone()
    }
}

/// The Python of the environment, which is made if there is none.
async fn python() -> PathBuf {
    let kept = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.causeway"));
    std::fs::create_dir_all(kept).unwrap();
    let root = kept.join("venv-livekit");
    let (python, marker) = (root.join("bin/python"), root.join(PACKAGE));
    let lock = std::fs::File::create(kept.join("venv-livekit.lock")).unwrap();
    let locked = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock));
    let _lock = locked.await.unwrap().unwrap();
    if !marker.exists() {
        let _ = std::fs::remove_dir_all(&root);
        let run = async |command: &mut Command| {
            let done = command.output().await.unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&root)).await;
        run(Command::new(&python).args(["-m", "pip", "install", "--no-input", PACKAGE])).await;
        std::fs::write(marker, "").unwrap();
    }
    python
}

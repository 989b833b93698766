//! Element Call in a Chromium of a test's own: set up once, then driven line by line.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use reqwest::Method;
use ruma::RoomId;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{bridged::Bridged, people::PATIENCE};

/// The pages, what drives them, and what npm fetches for both.
const FILES: [(&str, &str); 5] = [
    ("package.json", include_str!("package.json")),
    ("package-lock.json", include_str!("package-lock.json")),
    ("host.html", include_str!("host.html")),
    ("host.mjs", include_str!("host.mjs")),
    ("run.mjs", include_str!("run.mjs")),
];
/// Samples of a second.
const RATE: u32 = 48_000;
/// How far from a tone what stands out may be, in Hz: an analyser's own steps are 6.
const NEAR: i64 = 12;
/// How often each tone has to be heard, in four looks a second.
const OFTEN: usize = 8;

/// One who is in a call, or on the way there.
pub(crate) struct ElementCall {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    browser: i32,
}

impl ElementCall {
    /// Has Carol's Element go into the room's call with this tone.
    pub(crate) async fn start(all: &Bridged, room: &RoomId, intent: &str, tone: u32) -> Self {
        let site = site().await;
        let whoami = all.carol.request(Method::GET, &["account", "whoami"], Value::Null).await;
        let whoami: Value = serde_json::from_slice(&whoami.unwrap()).unwrap();
        let wav = all.synapse.dir().join("pulse.wav");
        fs::write(&wav, pulse(tone)).unwrap();
        let asked = json!({
            "homeserver": all.synapse.url(), "user": all.carol.user_id(),
            "device": whoami["device_id"], "token": all.carol.token().expose(), "room": room,
            "intent": intent, "wav": wav, "chromium": chromium(),
        });
        let mut command = Command::new("node");
        command.arg(site.join("run.mjs")).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(fs::File::create(all.synapse.dir().join("element-call.log")).unwrap());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let line = format!("{asked}\n");
        child.stdin.as_mut().unwrap().write_all(line.as_bytes()).await.unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut it = Self { child, said, browser: 0 };
        let started = it.until("the browser starts", |line| line["browser"].is_i64()).await;
        it.browser = i32::try_from(started["browser"].as_i64().unwrap()).unwrap();
        it.until("it is in the call", |line| line["did"] == "io.element.join").await;
        it
    }

    async fn until(&mut self, what: &str, mut so: impl FnMut(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let line = self.said.next_line().await.unwrap().expect("it ended");
                let line: Value = serde_json::from_str(&line).unwrap();
                if so(&line) {
                    return line;
                }
            }
        };
        let done = tokio::time::timeout(PATIENCE, waiting).await;
        done.unwrap_or_else(|_| panic!("it never came to pass that {what}"))
    }

    /// Until it has heard each of these tones, and nothing else stood out in between.
    pub(crate) async fn hears(&mut self, tones: &[u32]) {
        let mut times = vec![0; tones.len()];
        self.until(&format!("{tones:?} are heard"), |line| {
            let heard = line["heard"].as_array().into_iter().flatten();
            for heard in heard.filter_map(Value::as_i64) {
                let is_near = |tone: &u32| (i64::from(*tone) - heard).abs() <= NEAR;
                match tones.iter().position(is_near) {
                    Some(n) => times[n] += 1,
                    None => times.fill(0),
                }
            }
            times.iter().all(|times| *times >= OFTEN)
        })
        .await;
    }

    /// It hangs up, as by its button.
    pub(crate) async fn hang_up(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"hang up\n").await.unwrap();
    }

    /// The browser is gone, all at once.
    pub(crate) fn kill(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.browser).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

impl Drop for ElementCall {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.browser) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
}

fn chromium() -> String {
    std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned())
}

/// The folder from which it runs, made where there is none of these files.
async fn site() -> PathBuf {
    let kept = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.causeway"));
    fs::create_dir_all(kept).unwrap();
    let root = kept.join("element-call");
    let lock = fs::File::create(kept.join("element-call.lock")).unwrap();
    let _lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap();
    let wanted = FILES.map(|(_, text)| text).concat();
    let marker = root.join("made-of");
    if fs::read_to_string(&marker).is_ok_and(|made_of| made_of == wanted) {
        return root;
    }
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("www")).unwrap();
    for (name, text) in FILES {
        fs::write(root.join(name), text).unwrap();
    }
    run(&root, "npm ci --ignore-scripts --no-audit --no-fund").await;
    let bundle = "node_modules/.bin/esbuild host.mjs --bundle --format=esm --outfile=www/host.js \
                  --define:global=globalThis --log-level=error";
    run(&root, bundle).await;
    run(&root, "cp host.html www/").await;
    run(&root, "cp -r node_modules/@element-hq/element-call-embedded/dist www/ec").await;
    fs::write(marker, wanted).unwrap();
    root
}

async fn run(root: &Path, command: &str) {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap();
    let done = Command::new(program).args(words).current_dir(root).output().await.unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Ten seconds of a tone, 200 ms of it and 300 of silence: one that goes on is taken for noise.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "small numbers")]
fn pulse(tone: u32) -> Vec<u8> {
    let sample = |n: u32| {
        let at = std::f32::consts::TAU * tone as f32 * n as f32 / RATE as f32;
        if n % (RATE / 2) < RATE / 5 { (12_000.0 * at.sin()) as i16 } else { 0 }
    };
    let sound: Vec<u8> = (0..10 * RATE).flat_map(|n| sample(n).to_le_bytes()).collect();
    let bytes = u32::try_from(sound.len()).unwrap();
    let mut wav = b"RIFF".to_vec();
    wav.extend((bytes + 36).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(RATE.to_le_bytes());
    wav.extend((2 * RATE).to_le_bytes());
    wav.extend(b"\x02\0\x10\0data");
    wav.extend(bytes.to_le_bytes());
    wav.extend(sound);
    wav
}

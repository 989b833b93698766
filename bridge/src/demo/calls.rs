//! A scene after the story: five people call each other by the client as a program, four directly,
//! and all through a LiveKit once the fifth has come. Where there are two servers two of them are on the
//! other one.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{
    DemoError,
    child::{self, ChildError},
    outcome::{Heard, Ways},
    place::Place,
    progress::Progress,
    transcript::until,
};

/// What the group is called.
const GROUP: &str = "Belfry";
/// Who calls, and the tone that each says.
const PEOPLE: [(&str, u32); 5] =
    [("gus", 440), ("hal", 617), ("ida", 1_031), ("jon", 1_453), ("kim", 2_203)];
/// Who is on the other server, where there is one.
const ELSEWHERE: [&str; 2] = ["ida", "kim"];
/// Of the sound in a client's file; one channel of 16 bits.
const RATE: f32 = 48_000.0;
/// Bytes before the sound in a WAV file, as the client writes it.
const HEADER: u64 = 44;
/// Samples in which a tone is looked for, 200 ms.
const WINDOW: usize = 9_600;
/// How loud it has to be, of 1.
const HEARD: f32 = 0.05;

/// Plays it.
pub(super) async fn play(place: &Place, progress: &Progress) -> Result<Heard, DemoError> {
    progress.say(match &place.other {
        None => "Gus, Hal, Ida, Jon and Kim make a group of their own",
        Some(_) => {
            "Gus, Hal, Ida, Jon and Kim make a group of their own, Ida and Kim on the other server"
        }
    });
    let people = together(place).await?;
    let (four, fifth) = people.split_at(PEOPLE.len() - 1);
    progress.say("Four of them call each other, directly: each says a tone, and hears three");
    let mut talking = Vec::new();
    for (n, person) in four.iter().enumerate() {
        talking.push(person.call(if n == 0 { "start" } else { "join" })?);
        let last = talking.iter().next_back();
        let is_in = async || last.is_some_and(|it| it.said("group_call_start") > 0);
        until("the call to be known to who comes into it", is_in).await?;
    }
    let directly = heard(four, &[0; 4], "those who talk directly").await?;

    progress.say("Kim comes as the fifth, and all move to LiveKit without hanging up");
    for person in fifth {
        talking.push(person.call("join")?);
    }
    let moved = async || talking.iter().all(|it| it.is_carried_by("sfu"));
    until("all to be carried by LiveKit", moved).await?;
    let from = people.iter().map(Person::heard_so_far).collect::<io::Result<Vec<_>>>()?;
    let by_livekit = heard(&people, &from, "those whom LiveKit carries").await?;
    let failed = talking.iter().map(|it| it.said("call_failed")).sum();
    Ok(Heard { directly, by_livekit, failed })
}

/// The five, in one group.
async fn together(place: &Place) -> Result<Vec<Person>, DemoError> {
    let mut people = Vec::new();
    for (name, tone) in PEOPLE {
        let other = place.other.as_ref().filter(|_| ELSEWHERE.contains(&name));
        let causeway = other.map_or(&place.causeway, |other| &other.causeway);
        let token = causeway.dir().join("data/registration.token");
        let (home, url) = (place.dir.join(name), causeway.native_url().to_owned());
        let person = Person { name, tone, home, url, is_elsewhere: other.is_some() };
        person.does(&["register", name, "--token-file", &token.display().to_string()]).await?;
        people.push(person);
    }
    let Some((first, others)) = people.split_first() else { return Ok(people) };
    first.does(&["group", "create", GROUP]).await?;
    let uses = others.len().to_string();
    let said = first.does(&["invite", "create", GROUP, "--uses", &uses]).await?;
    let link = said.iter().find_map(|line| line["link"].as_str()).unwrap_or_default();
    // Who makes a link lets people in while his client runs.
    let _lets_in = first.runs(&["tail"])?;
    for person in others {
        person.does(&["invite", "accept", link]).await?;
    }
    Ok(people)
}

/// Waits until each of `people` has heard each other one, in what its file has behind `from`.
async fn heard(people: &[Person], from: &[u64], who: &str) -> Result<Ways, DemoError> {
    let all = || {
        let each = people.iter().zip(from).map(|(person, from)| {
            let sound = person.sound_behind(*from).unwrap_or_default();
            let others = people.iter().filter(|other| other.tone != person.tone);
            others.filter(|other| has_tone(&sound, other.tone)).count() as u64
        });
        each.sum::<u64>()
    };
    let of = (people.len() * (people.len() - 1)) as u64;
    until(&format!("{who} to hear each other"), async || all() == of).await?;
    Ok(Ways { of, heard: all() })
}

/// Whether there is a place in `sound` at which this tone is heard.
fn has_tone(sound: &[f32], tone: u32) -> bool {
    sound.chunks_exact(WINDOW).any(|window| level(window, tone) > HEARD)
}

/// How loud a tone is, of 1 (Goertzel's algorithm).
#[expect(clippy::cast_precision_loss, reason = "both are small")]
fn level(window: &[f32], tone: u32) -> f32 {
    let turn = std::f32::consts::TAU * tone as f32 / RATE;
    let factor = 2.0 * turn.cos();
    let step = |(last, before): (f32, f32), sample| (sample + factor * last - before, last);
    let (last, before) = window.iter().fold((0.0, 0.0), step);
    let power = last * last + before * before - factor * last * before;
    2.0 * power.max(0.0).sqrt() / window.len() as f32
}

/// One of the five.
struct Person {
    name: &'static str,
    tone: u32,
    home: PathBuf,
    url: String,
    /// The group's home is another server.
    is_elsewhere: bool,
}

impl Person {
    fn command(&self, words: &[&str]) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("client").arg("--home").arg(&self.home).args(["--server", &self.url]);
        command.args(["--output", "json"]).args(words).env_remove("CAUSEWAY_LOG");
        Ok(command)
    }

    /// Has its client do something, and returns what that said.
    async fn does(&self, words: &[&str]) -> Result<Vec<Value>, DemoError> {
        let mut said = Vec::new();
        let each = |line: &str| said.extend(serde_json::from_str::<Value>(line).ok());
        match child::run(&mut self.command(words)?, each).await {
            Ok(()) => Ok(said),
            Err(ChildError::Io(error)) => Err(error.into()),
            Err(ChildError::Failed(output)) => {
                Err(DemoError::Client { who: self.name, said: output.last })
            }
        }
    }

    /// Has its client do something that goes on.
    fn runs(&self, words: &[&str]) -> io::Result<Program> {
        Program::start(self.command(words)?)
    }

    /// Begins a call, or comes into it.
    fn call(&self, how: &str) -> io::Result<Program> {
        let (tone, file) = (format!("tone:{}", self.tone), self.file());
        let file = file.display().to_string();
        let sound = ["--audio-in", &tone, "--audio-out", &file, "--bind", "127.0.0.1"];
        // Both servers are on this machine.
        let private: &[_] = if self.is_elsewhere { &["--private-servers"] } else { &[] };
        self.runs(&[&["call", how, GROUP], &sound[..], private].concat())
    }

    fn file(&self) -> PathBuf {
        self.home.join("heard.wav")
    }

    /// How long its file is.
    fn heard_so_far(&self) -> io::Result<u64> {
        Ok(fs::metadata(self.file())?.len())
    }

    /// What it has heard behind that place of its file.
    fn sound_behind(&self, place: u64) -> io::Result<Vec<f32>> {
        samples(&self.file(), place.max(HEADER))
    }
}

fn samples(file: &Path, from: u64) -> io::Result<Vec<f32>> {
    use std::io::{Read as _, Seek as _};
    let mut file = fs::File::open(file)?;
    // A sample has two bytes, and so has the header's length.
    file.seek(io::SeekFrom::Start(from & !1))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let pairs = bytes.chunks_exact(2).filter_map(|pair| pair.try_into().ok());
    Ok(pairs.map(|pair| f32::from(i16::from_le_bytes(pair)) / 32_768.0).collect())
}

/// A client that goes on, and ends with this.
struct Program {
    lines: Arc<Mutex<Vec<Value>>>,
    group: Option<Pid>,
    _child: Child,
    _reads: AbortOnDropHandle<()>,
}

impl Program {
    fn start(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let said = child.stdout.take().ok_or_else(|| io::Error::other("no output to read"))?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let reads = TaskTracker::new().spawn(async move {
            let mut said = BufReader::new(said).lines();
            while let Ok(Some(line)) = said.next_line().await {
                let line = serde_json::from_str::<Value>(&line).ok();
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend(line);
            }
        });
        Ok(Self { lines, group, _child: child, _reads: AbortOnDropHandle::new(reads) })
    }

    /// How many lines of that type it has said.
    fn said(&self, kind: &str) -> u64 {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| line["type"] == kind).count() as u64
    }

    /// Whether that is what carries its call now.
    fn is_carried_by(&self, what: &str) -> bool {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let last = lines.iter().rev().find(|line| line["type"] == "call_carried");
        last.is_some_and(|line| line["by"] == what)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // Nothing can be done about a failure here.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn a_tone_is_told_from_each_other_one() {
        for (_, tone) in PEOPLE {
            let step = std::f32::consts::TAU * tone as f32 / RATE;
            let sound: Vec<_> = (0..WINDOW).map(|n| 0.3 * (step * n as f32).sin()).collect();
            let heard: Vec<_> =
                PEOPLE.iter().map(|(_, one)| *one).filter(|one| has_tone(&sound, *one)).collect();
            assert_eq!(heard, [tone]);
        }
        assert!(!has_tone(&vec![0.0; WINDOW], 440));
    }
}

//! `chat` in a terminal of its own: a pty, and what a terminal would show of it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    num::NonZero,
    os::fd::OwnedFd,
    process::{Child, Command},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::cli_world::{Person, World, own_texts, texts};

const ROWS: u16 = 24;
const COLUMNS: u16 = 100;
/// Nothing here takes so long, on a busy machine either.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the terminal shows, and all that was written to it.
struct Seen {
    screen: vt100::Parser,
    bytes: Vec<u8>,
    is_over: bool,
}

/// A chat, or another command, that runs in a terminal beside the test.
pub(crate) struct Chat {
    child: Child,
    keyboard: File,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Chat {
    fn start(person: &Person) -> Self {
        Self::start_with(person, &[])
    }

    fn start_with(person: &Person, arguments: &[&str]) -> Self {
        Self::start_as(person, &[&["chat"], arguments].concat())
    }

    /// Any command, in a terminal.
    pub(crate) fn start_as(person: &Person, words: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave: OwnedFd =
            rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway-client"));
        command
            .env_clear()
            .env("TERM", "xterm-256color")
            .arg("--home")
            .arg(&person.home)
            .args(["--server", &person.url])
            .args(words)
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        let child = command.spawn().unwrap();
        // Which holds the other end; then the last one closes with the child.
        drop(command);
        let master = File::from(master);
        let keyboard = master.try_clone().unwrap();
        let [rows, columns] = [ROWS, COLUMNS].map(|n| NonZero::new(n).unwrap());
        let screen = vt100::Parser::new(rows, columns, 0);
        let seen = Seen { screen, bytes: Vec::new(), is_over: false };
        let seen = Arc::new((Mutex::new(seen), Condvar::new()));
        let writes = Arc::clone(&seen);
        thread::spawn(move || watch(master, &writes));
        Self { child, keyboard, seen }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen is so.
    fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let (seen, changed) = &*self.seen;
        let seen = seen.lock().unwrap();
        let is_not_yet = |seen: &mut Seen| !is(&seen.screen.screen().contents()) && !seen.is_over;
        let (seen, _) = changed.wait_timeout_while(seen, PATIENCE, is_not_yet).unwrap();
        let screen = seen.screen.screen().contents();
        assert!(is(&screen), "{what} is not on the screen:\n{screen}");
        screen
    }

    pub(crate) fn shows(&self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.seen.0.lock().unwrap().bytes.clone()
    }

    fn bells(&self) -> usize {
        self.bytes().into_iter().filter(|byte| *byte == 7).count()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn ends(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watch(mut master: File, seen: &(Mutex<Seen>, Condvar)) {
    let mut bytes = [0; 4096];
    loop {
        // The other end is closed with the child: that is an error here.
        let read = master.read(&mut bytes).unwrap_or(0);
        let mut now = seen.0.lock().unwrap();
        now.screen.process(&bytes[..read]);
        now.bytes.extend_from_slice(&bytes[..read]);
        now.is_over = read == 0;
        seen.1.notify_all();
        if read == 0 {
            return;
        }
    }
}

#[test]
fn what_is_entered_reaches_the_other_side_and_is_there_after_a_kill() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let mut tail = bob.tail(&[]);
    let mut chat = Chat::start(&alice);
    chat.shows("team: end-to-end, 2 members");
    chat.press("hello\nbob\r");
    let got = tail.until(|line| line["type"] == "message");
    assert_eq!(got["body"], "hello\nbob", "Ctrl-J is a new line, Enter sends");
    bob.ok(&["send", "team", "hi \u{1b}]0;owned\u{7} alice"]);
    let screen = chat.shows("alice");
    assert!(screen.contains("hello"), "{screen}");
    chat.shows("]0;owned");
    let bytes = chat.bytes();
    assert!(!bytes.windows(9).any(|bytes| bytes == b"\x1b]0;owned"), "it reached the terminal");
    // Answers what bob said last.
    chat.press("\u{12}fine\r");
    let got = tail.until(|line| line["body"] == "fine");
    assert!(got["reply_row"].is_i64(), "{got}");
    chat.kill();
    let mut again = Chat::start(&alice);
    // Accepted before the kill or not: it is there, and once.
    let screen = again.shows("(re #5): fine");
    for said in ["hello", "]0;owned"] {
        assert!(screen.contains(said), "{said} in {screen}");
    }
    let refusal = alice.fails(&["tail", "--once"], 1).to_string();
    assert!(refusal.contains(&again.child.id().to_string()), "one reads the mailbox: {refusal}");
    again.press("\u{11}");
    again.ends();
    tail.stop();
    let kept = alice.ok(&["history", "team"]);
    assert_eq!(own_texts(&kept), ["hello\nbob", "fine"]);
    assert_eq!(texts(&kept).len(), 1);
}

#[test]
fn what_was_entered_without_a_server_goes_out_after_a_kill_once() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let away = world.person_at("alice", "http://127.0.0.1:1");
    let mut chat = Chat::start(&away);
    chat.shows("team: end-to-end");
    chat.press("not lost\r");
    chat.shows("Kept, and not accepted yet");
    let screen = chat.shows("…   not lost");
    assert!(screen.contains("by itself"), "{screen}");
    chat.kill();
    let again = Chat::start(&alice);
    again.until("the accepted line", |screen| {
        screen.contains("alice:native.example: not lost") && !screen.contains('…')
    });
    assert_eq!(bob.texts(), ["not lost"]);
    again.kill();
    assert_eq!(own_texts(&alice.ok(&["history", "team"])), ["not lost"]);
}

#[test]
fn whatever_was_taken_off_the_draft_arrives_once_however_often_it_is_killed() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let said: Vec<String> = (0..12).map(|n| format!("word{n}.")).collect();
    for text in &said {
        let mut chat = Chat::start(&alice);
        chat.shows("team: end-to-end");
        chat.press(&format!("{text}\r"));
        // It is a line, whichever: then it was stored.
        let (waits, is_sent) = (format!("…   {text}"), format!(": {text}"));
        chat.until(text, |screen| screen.contains(&waits) || screen.contains(&is_sent));
        chat.kill();
    }
    alice.ok(&["send", "--flush"]);
    assert_eq!(bob.texts(), said);
    assert_eq!(own_texts(&alice.ok(&["history", "team"])), said);
}

#[test]
fn groups_are_changed_read_and_left_by_keys() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let eve = world.registered("eve");
    eve.ok(&["group", "create", "zoo"]);
    eve.ok(&["member", "add", "zoo", "alice"]);
    let mut chat = Chat::start(&alice);
    chat.until("the offer", |screen| screen.contains("offer"));
    chat.press("?");
    chat.shows("answer the line that is looked at");
    chat.press("\u{1b}");
    chat.until("no help", |screen| !screen.contains("answer the line that is looked at"));
    chat.press("\u{f}");
    chat.shows("bob:native.example, member");
    chat.press("\t");
    chat.until("no panel", |screen| !screen.contains("bob:native.example, member"));
    chat.press("\t");
    chat.shows("?? eve:native.example has put you into this group");
    let before = chat.bells();
    bob.ok(&["send", "team", "over here"]);
    chat.until("an unread message", |s| s.lines().any(|l| l.contains("team") && l.contains("1│")));
    assert_eq!(chat.bells(), before + 1);
    chat.press("\u{1}");
    chat.until("the group that was taken", |screen| !screen.contains("?? eve"));
    eve.ok(&["send", "zoo", "look, an ape"]);
    chat.shows("look, an ape");
    chat.press("\u{18}");
    chat.shows("Leave the group?");
    chat.press("y");
    chat.shows("alice:native.example left");
    chat.press("\t");
    chat.shows("over here");
    chat.press("\u{3}");
    chat.ends();
    assert!(alice.read().iter().all(|line| line["body"] != "over here"), "it was shown");
}

#[test]
fn the_desktop_is_told_of_a_group_and_not_of_what_was_said_there() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    alice.ok(&["group", "create", "a group before the other"]);
    let chat = Chat::start_with(&alice, &["--announce", "osc9"]);
    chat.shows("a group before the other: end-to-end");
    bob.ok(&["send", "team", "heliotrope"]);
    chat.until("an unread message", |s| s.lines().any(|l| l.contains("team") && l.contains("1│")));
    let bytes = String::from_utf8(chat.bytes()).unwrap();
    assert_eq!(bytes.matches("\x1b]9;team: new message\x07").count(), 1);
    assert!(!bytes.contains("heliotrope"));
}

#[test]
fn somebody_who_was_removed_asks_and_is_let_in_by_a_key() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    alice.ok(&["member", "remove", "team", "bob"]);
    let link = alice.ok(&["invite", "create", "team"])[0]["link"].as_str().unwrap().to_owned();
    let mut chat = Chat::start(&alice);
    chat.shows("alice:native.example removed bob");
    bob.fails(&["invite", "accept", &link, "--wait", "0"], 5);
    chat.shows("?? bob:native.example, who was removed before, asks to be let in");
    chat.press("\u{1}");
    chat.until("that he is in", |screen| {
        screen.contains("[epoch 3]") && !screen.contains("?? bob")
    });
    chat.press("welcome back\r");
    chat.shows("alice:native.example: welcome back");
    chat.kill();
    assert_eq!(bob.texts(), ["welcome back"]);
}

#[test]
fn a_chat_is_for_a_terminal() {
    let world = World::new();
    let alice = world.registered("alice");
    let said = alice.fails(&["chat"], 2).to_string();
    assert!(said.contains("tail"), "{said}");
}

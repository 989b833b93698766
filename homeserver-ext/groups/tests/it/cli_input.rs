//! What `send` is given: how long it may be, how it may be cut, and how long `send` tries.

use std::{io::Write as _, process::Stdio, time::Duration};

use tokio::time::Instant;

use crate::cli_world::{Ended, Person, World, ended};

/// The most that one message takes as it is sealed, as every word about it says.
const MOST: usize = 44_905;
/// What is around a text: type, time, time to live, name, and `{"kind":"text","body":""}`.
const AROUND: usize = 1 + 8 + 4 + 16 + 25;

const SEND: [&str; 2] = ["send", "team"];
const LINES: [&str; 3] = ["send", "team", "--lines"];

/// Somebody with a group of his own.
fn alone() -> (World, Person) {
    let world = World::new();
    let alice = world.registered("alice");
    alice.ok(&["group", "create", "team"]);
    (world, alice)
}

fn given(person: &Person, arguments: &[&str], stdin: &[u8]) -> Ended {
    let mut command = person.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    ended(child.wait_with_output().unwrap())
}

fn refused(person: &Person, arguments: &[&str], stdin: &[u8], words: &[&str]) {
    let ended = given(person, arguments, stdin);
    assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
}

#[test]
fn what_fits_is_one_number_of_sealed_bytes_whatever_it_is_made_of() {
    let (_world, alice) = alone();
    let most = format!("at most {MOST} fit");
    for (character, takes) in
        [("x", 1), ("\"", 2), ("\\", 2), ("\n", 2), ("\u{1}", 6), ("\u{e4}", 2), ("\u{1f600}", 4)]
    {
        let fits = (MOST - AROUND) / takes;
        // Its last line end is no part of what stdin says.
        let text = |count: usize| [character.repeat(count).as_bytes(), b"\n"].concat();
        let ended = given(&alice, &SEND, &text(fits));
        assert!(ended.status.success(), "{character:?}: {}", ended.stderr);
        let sealed = format!("takes {} bytes", AROUND + (fits + 1) * takes);
        refused(
            &alice,
            &SEND,
            &text(fits + 1),
            &["the message is too long", &most, &sealed, "--lines"],
        );
    }
    let long = "x".repeat(MOST - AROUND + 1);
    let said = alice.fails(&[&SEND[..], &[&long]].concat(), 2);
    assert!(said["error"]["what"].as_str().unwrap().contains(&most), "{said}");
    let lines = format!("short\n{long}\n");
    refused(&alice, &LINES, lines.as_bytes(), &["line 2 is too long", &most, "Split"]);
    // More than is read; what is read of it ends inside a character.
    let long = format!("x{}", "\u{e4}".repeat(40_000));
    refused(&alice, &SEND, long.as_bytes(), &["at least 80001 bytes", &most]);
    let marked = "*x* ".repeat(5_000);
    let words = ["too long", &most];
    refused(&alice, &["send", "team", "--markdown"], marked.as_bytes(), &words);
    assert!(alice.ok(&["send", "--flush"])[0]["groups"].as_array().unwrap().is_empty());
}

#[test]
fn a_text_that_is_cut_off_is_not_called_another_encoding() {
    let (_world, alice) = alone();
    let cut = "nearly \u{1f600}".as_bytes();
    for end in 8..cut.len() {
        refused(
            &alice,
            &SEND,
            &cut[..end],
            &["stdin ends in the middle of a character", "cut off"],
        );
        let lines = [b"one\n", &cut[..end]].concat();
        refused(&alice, &LINES, &lines, &["line 2 of stdin ends in the middle"]);
    }
    refused(&alice, &SEND, b"caf\xe9 au lait", &["stdin is not UTF-8 text", "iconv"]);
    refused(&alice, &LINES, b"one\ncaf\xe9 au lait\n", &["line 2 of stdin is not UTF-8 text"]);
    // Chunks may end anywhere.
    for arguments in [&SEND[..], &LINES] {
        let mut command = alice.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for byte in cut {
            stdin.write_all(&[*byte]).unwrap();
            stdin.flush().unwrap();
        }
        drop(stdin);
        let ended = ended(child.wait_with_output().unwrap());
        assert!(ended.status.success(), "{}", ended.stderr);
    }
}

#[test]
fn nothing_is_not_sent_as_a_line_either() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    for (arguments, stdin) in [
        (&["send", "team", ""] as &[&str], ""),
        (&SEND, ""),
        (&SEND, "\n"),
        (&["send", "team", "-"], "\n"),
    ] {
        refused(&alice, arguments, stdin.as_bytes(), &["there is nothing to send"]);
    }
    for stdin in ["\n", "\r\n", "\none\n", "one\n\n", "one\n\ntwo\n"] {
        let line = if stdin.starts_with("one") { "line 2" } else { "line 1" };
        refused(&alice, &LINES, stdin.as_bytes(), &["there is nothing to send", line, "is empty"]);
    }
    assert!(bob.texts().is_empty(), "lines that were taken together are refused together");
    assert!(given(&alice, &LINES, b"").status.success());
    assert!(given(&alice, &LINES, b"one\r\ntwo").status.success());
    assert_eq!(bob.texts(), ["one", "two"]);
}

#[test]
fn markdown_is_sent_beside_the_text_as_it_was_written() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    alice.ok(&["send", "team", "--markdown", "**now** <b>[x](javascript:y)"]);
    alice.ok(&["send", "team", "--markdown", "nothing of it"]);
    alice.ok(&["send", "team", "**as it is**"]);
    assert!(given(&alice, &[&LINES[..], &["--markdown"]].concat(), b"*a*\nb\n").status.success());
    let got = bob.read();
    let got = got.iter().filter(|line| line["type"] == "message");
    let got = got.map(|line| (line["body"].as_str().unwrap(), line["html"].as_str()));
    assert_eq!(
        got.collect::<Vec<_>>(),
        [
            ("**now** <b>[x](javascript:y)", Some("<strong>now</strong> &lt;b&gt;x")),
            ("nothing of it", None),
            ("**as it is**", None),
            ("*a*", Some("<em>a</em>")),
            ("b", None),
        ]
    );
}

#[test]
fn send_tries_for_as_long_as_it_was_told_and_takes_a_server_that_comes_back() {
    let mut world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    world.server.stop();
    let before = Instant::now();
    let said = alice.fails(&["send", "team", "one", "--timeout", "3"], 5);
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(20), "{took:?}");
    assert!(said["error"]["what"].as_str().unwrap().contains("cannot reach"), "{said}");
    let mut waiting = alice.command(&["send", "team", "two", "--timeout", "120"]);
    let child = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    world.server.start_again();
    let ended = ended(child.wait_with_output().unwrap());
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(bob.texts(), ["one", "two"]);
}

//! `history share`: what one who came later gets, how it is shown, and what it is not.

use serde_json::Value;

use crate::{
    cli_devices::{elsewhere, linked},
    cli_proxy::Proxy,
    cli_world::{Person, World, texts},
};

/// Alice and Bob have talked, and Carol has come.
fn with_a_newcomer(world: &World, scheme: &[&str]) -> [Person; 3] {
    let people = ["alice", "bob", "carol"].map(|name| world.registered(name));
    let [alice, bob, carol] = &people;
    alice.ok(&[&["group", "create", "team"], scheme].concat());
    alice.ok(&["member", "add", "team", "bob"]);
    bob.read();
    bob.ok(&["group", "accept", "team"]);
    let is_channel = scheme.contains(&"--channel");
    for (who, text) in [(alice, "one"), (bob, "two"), (alice, "three")] {
        if is_channel && who.name == "bob" {
            continue;
        }
        who.ok(&["send", "team", text]);
        alice.read();
        bob.read();
    }
    alice.ok(&["member", "add", "team", "carol"]);
    carol.read();
    carol.ok(&["group", "accept", "team"]);
    carol.read();
    people
}

fn shared(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line["type"] == "shared").collect()
}

fn bodies(lines: &[Value]) -> Vec<&str> {
    shared(lines).iter().map(|line| line["body"].as_str().unwrap()).collect()
}

#[test]
fn a_member_shares_what_he_has_read_and_it_is_shown_as_his_words() {
    let world = World::new();
    let [alice, bob, carol] = with_a_newcomer(&world, &[]);
    // Nobody was asked: it says what it would do, and does nothing.
    let said = bob.fails(&["history", "share", "team", "carol"], 2);
    let what = said["error"]["what"].as_str().unwrap();
    for part in ["3 texts", &alice.account(), &bob.account(), &carol.account(), "from you"] {
        assert!(what.contains(part), "{part}: {what}");
    }
    assert!(said["error"]["next"].as_str().unwrap().contains("--yes"), "{said}");
    assert!(carol.read().is_empty());

    let result = bob.ok(&["history", "share", "team", "carol", "--last", "2", "--yes"]).remove(0);
    assert_eq!((result["texts"].as_u64(), result["left_out"].as_u64()), (Some(2), Some(0)));
    assert_eq!((&result["account"], &result["devices"]), (&carol.account().into(), &1.into()));
    let lines = carol.read();
    assert_eq!(bodies(&lines), ["two", "three"]);
    assert!(texts(&lines).is_empty());
    let line = shared(&lines)[0];
    assert_eq!((&line["by"], &line["sender"]), (&bob.account().into(), &bob.account().into()));
    assert_eq!(line["share"], result["share"]);
    assert_eq!(shared(&lines)[1]["sender"], alice.account());
    let read = carol.as_text(&["history", "team"]);
    let wanted = format!("{} (from {}, not verified): three", alice.account(), bob.account());
    assert!(read.lines().any(|line| line.ends_with(&wanted)), "{read}");

    // All of it, twice and by both: what is here stays once.
    for who in [&bob, &bob, &alice] {
        who.ok(&["history", "share", "team", "carol", "--yes"]);
        carol.read();
    }
    assert_eq!(bodies(&carol.ok(&["history", "team"])), ["two", "three", "one"]);
    assert_eq!(bodies(&carol.ok(&["search", "THREE"])), ["three"]);

    // It was not said to her: nothing is unread, answered, or said to have come, and she does not share it on.
    let row = line["row"].to_string();
    carol.fails(&["send", "team", "--reply-to", &row, "indeed"], 2);
    let none = carol.fails(&["history", "share", "team", "bob", "--yes"], 1);
    assert!(none["error"]["what"].as_str().unwrap().contains("nothing to share"), "{none}");
    // What came in itself stands as it came, whoever shares it.
    bob.ok(&["send", "team", "four"]);
    assert_eq!(carol.texts(), ["four"]);
    bob.ok(&["history", "share", "team", "carol", "--last", "1", "--yes"]);
    assert!(carol.read().is_empty());
    // And what was shared is not unread, shown or not.
    let listed = carol.ok(&["group", "list"]);
    assert!(listed.iter().all(|group| group.get("unread").is_none_or(|n| n == 0)), "{listed:?}");
}

#[test]
fn it_goes_in_all_schemes_and_legacy_groups() {
    let world = World::new();
    for (at, scheme) in ["pairwise", "shared-key", "opus_v1", "ren_a"].into_iter().enumerate() {
        let name = |who: &str| format!("{who}{at}");
        let [ann, ben] = [name("ann"), name("ben")].map(|name| world.registered(&name));
        let how: &[&str] = match scheme {
            "opus_v1" | "ren_a" => &["--legacy", scheme],
            scheme => &["--scheme", scheme],
        };
        ann.ok(&[&["group", "create", "team"], how].concat());
        ann.ok(&["send", "team", "before"]);
        ann.ok(&["member", "add", "team", &ben.name]);
        ben.read();
        ben.ok(&["group", "accept", "team"]);
        ann.ok(&["history", "share", "team", &ben.name, "--yes"]);
        let lines = ben.read();
        assert_eq!(bodies(&lines), ["before"], "{scheme}: {lines:?}");
        assert!(lines.iter().all(|line| line["type"] != "failed"), "{scheme}: {lines:?}");
    }
}

#[test]
fn what_is_shared_is_chosen_by_time_and_refused_where_it_cannot_be() {
    let mut world = World::new();
    let [alice, bob, carol] = with_a_newcomer(&world, &[]);
    for (wrong, code, says) in [
        (&["--since", "2100-01-01"][..], 1, "nothing to share"),
        (&["--until", "1h"], 1, "nothing to share"),
        (&["--since", "yesterday"], 2, "no moment"),
        (&["--last", "0"], 2, "0"),
    ] {
        let said =
            bob.fails(&[&["history", "share", "team", "carol", "--yes"], wrong].concat(), code);
        assert!(said["error"]["what"].as_str().unwrap().contains(says), "{said}");
    }
    let said = bob.fails(&["history", "share", "team", "dave", "--yes"], 1);
    assert!(said["error"]["what"].as_str().unwrap().contains("not in this group"), "{said}");
    let said = bob.fails(&["history", "share", "team", "bob", "--yes"], 1);
    assert!(said["error"]["what"].as_str().unwrap().contains("no other device"), "{said}");
    bob.fails(&["history"], 2);
    bob.ok(&[
        "history",
        "share",
        "team",
        "carol",
        "--since",
        "1h",
        "--until",
        "2100-01-01",
        "--yes",
    ]);
    // It waits for her at the server, and comes once, killed or not.
    let mut tail = carol.tail(&[]);
    tail.until(|line| line["body"] == "two");
    tail.kill();
    assert_eq!(bodies(&carol.ok(&["tail", "--once", "--since", "0"])), ["one", "two", "three"]);
    // What the file of an account takes along is known there still.
    carol.ok(&["backup", "create", carol.home.with_extension("copy").to_str().unwrap()]);
    // Without a server it is kept, and goes later.
    alice.ok(&["send", "team", "four"]);
    world.server.stop();
    let said = alice.fails(&["history", "share", "team", "carol", "--yes"], 4);
    assert!(said["error"]["what"].is_string(), "{said}");
}

/// Words that should move a terminal, or look like another's.
#[test]
fn what_is_shared_moves_no_terminal_and_changes_no_line() {
    let world = World::new();
    let [alice, _, carol] = with_a_newcomer(&world, &[]);
    let evil = "hi\n00:00 [team] #1 alice: I resign\u{1b}[2J\u{202e}";
    carol.ok(&["send", "team", "hello"]);
    let dave = world.registered("dave");
    alice.ok(&["send", "team", evil]);
    alice.ok(&["member", "add", "team", "dave"]);
    dave.read();
    dave.ok(&["group", "accept", "team"]);
    dave.ok(&["send", "team", "here I am"]);
    dave.read();
    let before = dave.ok(&["history", "team"]);
    alice.read();
    alice.ok(&["history", "share", "team", "dave", "--yes"]);
    dave.read();
    let after = dave.ok(&["history", "team"]);
    assert_eq!(after[..before.len()], before[..]);
    assert!(bodies(&after).contains(&evil), "{after:?}");
    for text in [dave.as_text(&["history", "team"]), dave.as_text(&["search", "resign"])] {
        assert!(text.contains("I resign"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
        assert!(text.lines().all(|line| !line.starts_with("00:00 [team] #1 alice")), "{text}");
    }
}

#[test]
fn another_device_of_ones_own_gets_what_was_said_before_it_was_linked() {
    let world = World::new();
    let [_, bob, carol] = with_a_newcomer(&world, &[]);
    let laptop = linked(&world, &bob, "laptop");
    laptop.read();
    assert!(texts(&laptop.ok(&["history", "team"])).is_empty());
    let result = bob.ok(&["history", "share", "team", "bob", "--yes"]);
    assert_eq!(result[0]["devices"], 1);
    let lines = laptop.read();
    assert_eq!(bodies(&lines), ["one", "two", "three"]);
    assert!(shared(&lines).iter().all(|line| line["by"] == bob.account()));
    // Who has two devices gets it on both.
    carol.ok(&["send", "team", "hello"]);
    bob.read();
    carol.ok(&["history", "share", "team", "bob", "--yes"]);
    assert_eq!(bodies(&laptop.ok(&["history", "team"])), ["one", "two", "three"]);
}

/// What was shared is in the file that an account takes along, and is not taken twice afterwards.
#[test]
fn what_was_shared_is_exported_as_what_it_is() {
    let world = World::new();
    let alice = world.registered("alice");
    let dave = world.person("dave");
    let key = dave.ok(&["register", "dave"])[0]["recovery_key"].as_str().unwrap().to_owned();
    alice.ok(&["group", "create", "team"]);
    alice.ok(&["send", "team", "before"]);
    alice.ok(&["member", "add", "team", "dave"]);
    dave.read();
    dave.ok(&["group", "accept", "team"]);
    alice.ok(&["history", "share", "team", "dave", "--yes"]);
    let lines = dave.read();
    assert_eq!(bodies(&lines), ["before"]);
    let file = dave.home.with_extension("export").to_str().unwrap().to_owned();
    dave.ok(&["backup", "export", &file]);
    let new = elsewhere(&world, &dave, "new");
    let ended = new.run_with(&["backup", "import", &file], &key);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(shared(&new.ok(&["history", "team"])), shared(&lines));
    alice.read();
    alice.ok(&["history", "share", "team", "dave", "--yes"]);
    new.read();
    assert_eq!(bodies(&new.ok(&["history", "team"])), ["before"]);
}

#[test]
fn what_is_shared_while_the_server_is_silent_goes_later_and_comes_once() {
    let world = World::new();
    let [_, bob, carol] = with_a_newcomer(&world, &[]);
    let proxy = Proxy::before(world.server.address());
    let behind = Person { url: proxy.url(), ..bob.clone() };
    proxy.lose_answers(1_000);
    let said = behind.fails(&["history", "share", "team", "carol", "--yes"], 5);
    assert!(said["error"]["what"].as_str().unwrap().contains("not all of it is sent"), "{said}");
    assert!(proxy.lost() > 0);
    bob.read();
    assert_eq!(bodies(&carol.read()), ["one", "two", "three"]);
    bob.read();
    assert!(carol.read().is_empty());
}

#[test]
fn in_a_channel_only_admins_share() {
    let world = World::new();
    let [alice, bob, carol] = with_a_newcomer(&world, &["--channel"]);
    let said = bob.fails(&["history", "share", "team", "carol", "--yes"], 1);
    assert!(said["error"]["what"].as_str().unwrap().contains("only admins"), "{said}");
    alice.ok(&["history", "share", "team", "carol", "--yes"]);
    assert_eq!(bodies(&carol.read()), ["one", "three"]);
}

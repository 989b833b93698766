//! Groups that speak a legacy suite, through the real binary and a real server: made on purpose, called what they
//! are, and upgraded for good.

use serde_json::{Value, json};

use crate::cli_world::{Person, World, texts};

/// Registered people who are all in one legacy group, which the first of them made.
fn legacy<const N: usize>(world: &World, suite: &str, names: [&str; N]) -> [Person; N] {
    let people = names.map(|name| world.registered(name));
    people[0].ok(&["group", "create", "team", "--scheme", "sender-keys", "--legacy", suite]);
    for guest in &people[1..] {
        people[0].ok(&["member", "add", "team", guest.name.as_str()]);
        guest.read();
        guest.ok(&["group", "accept", "team"]);
    }
    people
}

fn talk(people: &[&Person], round: &str) {
    for speaker in people {
        speaker.ok(&["send", "team", &format!("{} {round}", speaker.name)]);
    }
    for reader in people {
        let others = people.iter().filter(|other| other.name != reader.name);
        let expected: Vec<_> = others.map(|other| format!("{} {round}", other.name)).collect();
        assert_eq!(texts(&reader.read()), expected, "{}", reader.name);
    }
}

#[test]
fn people_talk_in_a_group_that_is_called_opus_v1() {
    people_talk("opus_v1");
}

#[test]
fn people_talk_in_a_group_that_is_called_ren_a() {
    people_talk("ren_a");
}

fn people_talk(suite: &str) {
    let world = World::new();
    let [alice, bob, carol] = legacy(&world, suite, ["alice", "bob", "carol"]);
    talk(&[&alice, &bob, &carol], "one");
    talk(&[&alice, &bob, &carol], "two");
    let shown = &alice.ok(&["group", "show", "team"])[0];
    assert_eq!((&shown["legacy"], &shown["scheme"]), (&json!(suite), &json!("sender-keys")));
    for command in [&["group", "show", "team"][..], &["group", "list"]] {
        let text = bob.as_text(command);
        assert!(text.contains(&format!("end-to-end, legacy {suite}")), "{text}");
    }
    // What many lines say at once, and what a client says twice.
    let expected: Vec<_> = (0..30).map(|n| format!("line {n}")).collect();
    assert!(bob.run_with(&["send", "team", "--lines"], &expected.join("\n")).status.success());
    assert_eq!(alice.texts(), expected);
    assert_eq!(carol.texts(), expected);

    alice.ok(&["member", "remove", "team", "bob"]);
    bob.read();
    carol.read();
    carol.ok(&["send", "team", "without bob"]);
    assert_eq!(alice.texts(), ["without bob"]);
    assert!(bob.texts().is_empty());
    bob.fails(&["send", "team", "still here"], 1);
}

#[test]
fn an_upgrade_of_opus_v1_is_for_good_and_leaves_nobody_behind_unsaid() {
    upgrade("opus_v1");
}

#[test]
fn an_upgrade_of_ren_a_is_for_good_and_leaves_nobody_behind_unsaid() {
    upgrade("ren_a");
}

fn upgrade(suite: &str) {
    let world = World::new();
    let [alice, bob] = legacy(&world, suite, ["alice", "bob"]);
    alice.ok(&["send", "team", "hello"]);
    assert_eq!(bob.texts(), ["hello"]);
    // Nobody knows yet what bob's client speaks.
    let said = alice.fails(&["group", "upgrade", "team"], 1);
    let found = said["error"]["what"].as_str().unwrap();
    assert!(found.contains("bob:native.example (device "), "{found}");
    assert!(found.contains(suite), "{found}");
    talk(&[&alice, &bob], "before");
    bob.fails(&["group", "upgrade", "team"], 1);
    let done = &alice.ok(&["group", "upgrade", "team"])[0];
    assert_eq!(done["behind"], json!([]));
    bob.read();
    talk(&[&alice, &bob], "after");
    let shown = &bob.ok(&["group", "show", "team"])[0];
    assert_eq!((&shown["legacy"], &shown["scheme"]), (&Value::Null, &json!("sender-keys")));
    alice.fails(&["group", "upgrade", "team"], 2);
}

#[test]
fn who_could_not_follow_is_said_and_nothing_is_changed() {
    let world = World::new();
    let [alice, bob] = legacy(&world, "opus_v1", ["alice", "bob"]);
    let upgrade = ["group", "upgrade", "team"];
    let check = [&upgrade[..], &["--check"]].concat();
    let said = &alice.ok(&check)[0];
    assert_eq!(said["behind"][0]["account"], bob.account());
    assert_eq!((&said["suite"], &said["upgraded"]), (&json!("opus_v1"), &json!(false)));
    assert!(alice.as_text(&check).contains(&format!("{} (device ", bob.account())));
    talk(&[&alice, &bob], "before");
    let said = &alice.ok(&check)[0];
    assert_eq!(said["behind"], json!([]));
    assert!(alice.as_text(&check).contains("known to be able to follow"));
    alice.fails(&[&check[..], &["--yes"]].concat(), 2);
    // Whoever is no admin may look, too.
    assert_eq!(bob.ok(&check)[0]["upgraded"], json!(false));
    let shown = &alice.ok(&["group", "show", "team"])[0];
    assert_eq!((&shown["legacy"], &shown["epoch"]), (&json!("opus_v1"), &said["epoch"]));
    assert_eq!(shown["confidentiality"], "end-to-end, legacy opus_v1");
    assert_eq!(
        alice.ok(&["group", "list"])[0]["groups"][0]["confidentiality"],
        shown["confidentiality"]
    );
    assert_eq!(alice.ok(&upgrade)[0]["upgraded"], json!(true));
    assert_eq!(bob.ok(&["group", "list"])[0]["groups"].as_array().unwrap().len(), 1);
    alice.fails(&check, 2);
    let shown = &alice.ok(&["group", "show", "team"])[0];
    assert_eq!(shown["confidentiality"], "end-to-end");
}

/// Somebody hears of the upgrade by sending, before he reads what stands in front of it.
#[test]
fn what_was_said_before_an_upgrade_is_read_after_it() {
    for suite in ["opus_v1", "ren_a"] {
        let world = World::new();
        let [alice, bob, carol] = legacy(&world, suite, ["alice", "bob", "carol"]);
        for one in [&alice, &bob, &carol] {
            one.read();
        }
        bob.ok(&["send", "team", "before the upgrade"]);
        alice.read();
        alice.ok(&["group", "upgrade", "team", "--yes"]);
        carol.ok(&["send", "team", "after it"]);
        let mut read = carol.texts();
        read.extend(carol.texts());
        assert_eq!(read, ["before the upgrade"], "{suite}");
        assert_eq!(bob.texts(), ["after it"]);
    }
}

#[test]
fn what_a_legacy_suite_cannot_be_is_refused() {
    let world = World::new();
    let alice = world.registered("alice");
    let create = ["group", "create", "team", "--legacy", "opus_v1"];
    alice.fails(&[&create[..], &["--scheme", "pairwise"]].concat(), 2);
    alice.fails(&["group", "create", "team", "--legacy", "secirc"], 2);
    alice.ok(&create);
    let said = alice.fails(&["group", "bridge", "team", "--yes"], 2);
    assert_eq!(said["error"]["what"], "a group that speaks opus_v1 has no bridge");
    assert!(said["error"]["next"].as_str().unwrap().contains("group upgrade"), "{said}");
    let bob = world.registered("bob");
    alice.ok(&["member", "add", "team", "bob"]);
    bob.read();
    bob.ok(&["group", "accept", "team"]);
    // In hex it does not fit, as it would in another group.
    alice.run(&["send", "team", &"x".repeat(25_000)]);
    alice.ok(&["send", "team", "short"]);
    let lines = alice.read();
    assert!(lines.iter().any(|line| line["type"] == "unsent"), "{lines:?}");
    assert_eq!(bob.texts(), ["short"]);
}

#[test]
fn opus_v1_survives_a_lost_chain_and_a_copy_that_was_put_back() {
    survives("opus_v1");
}

#[test]
fn ren_a_survives_a_lost_chain_and_a_copy_that_was_put_back() {
    survives("ren_a");
}

fn survives(suite: &str) {
    let world = World::new();
    let [alice, bob] = legacy(&world, suite, ["alice", "bob"]);
    talk(&[&alice, &bob], "one");
    // Bob's client lost what it held: it asks, and is given the chain from there on.
    bob.meddle(&["DELETE FROM legacy_held"]);
    alice.ok(&["send", "team", "lost"]);
    assert!(bob.texts().is_empty());
    alice.read();
    bob.read();
    alice.ok(&["send", "team", "found"]);
    assert_eq!(bob.texts(), ["found"]);
    // Alice's chain was put back: her client begins another.
    let copy = alice.home.join("copy");
    let copy = copy.to_str().unwrap();
    alice.ok(&["backup", "create", copy]);
    alice.ok(&["send", "team", "once"]);
    assert_eq!(bob.texts(), ["once"]);
    alice.ok(&["backup", "restore", copy, "--move-aside"]);
    alice.ok(&["send", "team", "again"]);
    assert_eq!(bob.texts(), ["again"]);
}

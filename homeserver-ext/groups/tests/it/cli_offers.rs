//! Being added is an offer, in the terminal.

use serde_json::Value;

use crate::cli_world::{Person, World, texts};

fn state(person: &Person, group: &str) -> Value {
    let listed = person.ok(&["group", "list"]);
    let groups = listed[0]["groups"].as_array().unwrap();
    groups.iter().find(|is| is["name"] == group).map_or(Value::Null, |is| is["state"].clone())
}

#[test]
fn who_is_added_by_a_stranger_decides_and_misses_nothing() {
    let world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|name| world.registered(name));
    alice.ok(&["group", "create", "team"]);
    alice.ok(&["member", "add", "team", "bob"]);
    alice.ok(&["send", "team", "hello"]);
    let lines = bob.read();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["type"], &lines[0]["by"]), (&"offered".into(), &alice.account().into()));
    let refusal = bob.fails(&["send", "team", "who is it?"], 1);
    assert!(refusal["error"]["next"].as_str().unwrap().contains("group accept"), "{refusal}");
    assert_eq!(state(&bob, "team"), "offered");
    assert_eq!(bob.ok(&["group", "show", "team"])[0]["offered_by"], alice.account());
    assert!(bob.read().is_empty(), "one line, once");
    assert!(alice.texts().is_empty());
    assert_eq!(bob.ok(&["group", "accept", "team"])[0]["state"], "taken");
    assert_eq!(texts(&bob.read()), ["hello"]);
    bob.ok(&["send", "team", "hello alice"]);
    assert_eq!(alice.texts(), ["hello alice"]);
    assert_eq!(state(&bob, "team"), "taken");
    // Now they know each other.
    alice.ok(&["group", "create", "second"]);
    alice.ok(&["member", "add", "second", "bob"]);
    bob.read();
    assert_eq!(state(&bob, "second"), "taken");
}

#[test]
fn who_may_add_is_set_and_kept() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    assert_eq!(bob.ok(&["group", "added-by"])[0]["added_by"], "known");
    assert_eq!(bob.ok(&["group", "added-by", "none"])[0]["added_by"], "none");
    for (group, set, expected) in
        [("one", None, "offered"), ("two", Some("all"), "taken"), ("three", Some("known"), "taken")]
    {
        alice.ok(&["group", "create", group]);
        alice.ok(&["member", "add", group, "bob"]);
        let mut tail = bob.command(&["tail", "--once"]);
        if let Some(set) = set {
            tail.env("CAUSEWAY_ADDED_BY", set);
        }
        assert!(tail.output().unwrap().status.success());
        assert_eq!(state(&bob, group), expected, "{group}");
    }
    assert_eq!(bob.ok(&["group", "added-by"])[0]["added_by"], "none", "kept");
    bob.fails(&["group", "added-by", "friends"], 2);
    bob.ok(&["group", "leave", "one"]);
    assert_eq!(state(&bob, "one"), "left");
}

/// A stranger's group that bears the name of one's own is not taken for it.
#[test]
fn an_offered_group_takes_no_name_away() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let mallory = world.registered("mallory");
    mallory.ok(&["group", "create", "team"]);
    mallory.ok(&["member", "add", "team", "bob"]);
    bob.read();
    bob.ok(&["send", "team", "to my friends"]);
    assert_eq!(alice.texts(), ["to my friends"]);
    assert!(mallory.texts().is_empty());
}

//! A group gets another name and topic, by who may, for everyone.

use serde_json::{Value, json};

use crate::cli_world::{Person, Running, World};

/// What somebody sees of a group: its name and topic.
fn shown(person: &Person, group: &str) -> (String, String) {
    let shown = person.ok(&["group", "show", group]);
    let text = |key: &str| shown[0][key].as_str().unwrap().to_owned();
    (text("name"), text("description"))
}

#[test]
fn a_new_name_and_topic_are_everyones() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let renamed = alice.ok(&["group", "rename", "team", "The walkers"]);
    assert_eq!(renamed[0]["name"], "The walkers");
    let told = alice.ok(&["group", "topic", "The walkers", "-- We meet at 9."]);
    assert_eq!(told[0]["description"], "-- We meet at 9.");
    assert_eq!(told[0]["epoch"].as_u64(), renamed[0]["epoch"].as_u64().map(|epoch| epoch + 1));
    let expected = ("The walkers".to_owned(), "-- We meet at 9.".to_owned());
    bob.read();
    for person in [&alice, &bob] {
        assert_eq!(shown(person, "The walkers"), expected);
    }
    alice.ok(&["send", "The walkers", "hello"]);
    assert_eq!(bob.texts(), ["hello"]);

    let text = alice.as_text(&["group", "rename", "The walkers", "team"]);
    assert!(text.starts_with("`The walkers` is `team` now [epoch "), "{text}");
    let text = alice.as_text(&["group", "topic", "team", ""]);
    assert!(text.starts_with("`team` has no topic now [epoch "), "{text}");
    assert_eq!(shown(&bob, "team"), ("team".to_owned(), String::new()));
}

/// Where it is so already, nobody is told of a change that is none.
#[test]
fn what_a_group_has_already_changes_nothing() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    bob.read();
    let epoch = || alice.ok(&["group", "show", "team"])[0]["epoch"].clone();
    let before = epoch();
    let none = alice.as_text(&["group", "topic", "team", ""]);
    assert_eq!(none, "`team` has no topic: nothing was changed.\n");
    let same = alice.as_text(&["group", "rename", "team", "team"]);
    assert_eq!(same, "`team` has that name already: nothing was changed.\n");
    assert_eq!(alice.ok(&["group", "rename", "team", "team"])[0]["epoch"], before);
    assert_eq!(epoch(), before);
    assert!(bob.read().is_empty());
    alice.ok(&["group", "topic", "team", "We meet at 9."]);
    let same = alice.as_text(&["group", "topic", "team", "We meet at 9."]);
    assert_eq!(same, "`team` has that topic already: nothing was changed.\n");
    assert_eq!(bob.read().len(), 1, "one change");
}

/// What `group rename` and `group topic` have done is said with the words themselves.
#[test]
fn a_new_name_and_topic_are_told_as_such() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    bob.read();
    alice.ok(&["group", "rename", "team", "The \u{202e}walkers"]);
    alice.ok(&["group", "topic", "The \u{202e}walkers", "We meet at 9.\nBring tea."]);
    alice.ok(&["group", "topic", "The \u{202e}walkers", ""]);
    let changes = |lines: Vec<Value>| -> Vec<Value> {
        let of = |line: Value| {
            let told = ["change", "name", "topic"].map(|key| line[key].clone());
            (line["name"].is_string() || line["topic"].is_string()).then(|| told.into())
        };
        lines.into_iter().filter_map(of).collect()
    };
    let told = [
        json!(["name", "The \u{202e}walkers", null]),
        json!(["topic", null, "We meet at 9.\nBring tea."]),
        json!(["topic", null, ""]),
    ];
    assert_eq!(changes(bob.read()), told);
    assert_eq!(changes(bob.ok(&["history", "The \u{202e}walkers"])), told);
    let text = bob.as_text(&["history", "The \u{202e}walkers"]);
    let told: Vec<&str> =
        text.lines().filter_map(|line| line.split_once("] -- ")).map(|l| l.1).collect();
    let [.., name, topic, none] = &*told else { panic!("{text}") };
    let is = |line: &str, words: &str| {
        let begin = format!("{} {words} [epoch ", alice.account());
        assert!(line.starts_with(&begin), "{line}");
    };
    is(name, "renamed the group to “The \u{fffd}walkers”");
    is(topic, "set the topic to “We meet at 9. Bring tea.”");
    is(none, "took the topic away");
}

#[test]
fn who_may_not_and_what_is_no_name_is_refused_in_words() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let (long, longer) = ("é".repeat(128), "x".repeat(4_097));
    for (person, arguments, code, what, next) in [
        (&bob, ["rename", "team", "mine"], 1, "only admins", "member list"),
        (&bob, ["topic", "team", "mine"], 1, "only admins", "member list"),
        (&alice, ["rename", "team", " "], 2, "needs a name", "one line"),
        (&alice, ["rename", "team", "\u{200b}"], 2, "needs a name", "can be seen"),
        (
            &alice,
            ["rename", "team", "\u{3164} \u{2800}\u{e0020}"],
            2,
            "needs a name",
            "can be seen",
        ),
        (&alice, ["rename", "team", "\u{1d159}"], 2, "needs a name", "can be seen"),
        (&alice, ["rename", "team", "\u{300} \u{301}"], 2, "needs a name", "can be seen"),
        (&alice, ["topic", "team", "\u{200b}\n"], 2, "can be seen", "empty"),
        (&alice, ["rename", "team", "two\nlines"], 2, "one line", "group topic"),
        (&alice, ["rename", "team", &long], 2, "at most 255 bytes; this one has 256", "shorter"),
        (&alice, ["topic", "team", &longer], 2, "at most 4096 bytes", "shorter"),
        (&alice, ["rename", "nothing", "x"], 2, "no group `nothing`", "group list"),
    ] {
        let said = person.fails(&[&["group"], &arguments[..]].concat(), code);
        let of = |field: &str| said["error"][field].as_str().unwrap_or_default().to_owned();
        assert!(of("what").contains(what) && of("next").contains(next), "{arguments:?}: {said}");
    }
    alice.ok(&["group", "rename", "team", &"é".repeat(127)]);
    alice.ok(&["group", "rename", &"é".repeat(127), "team"]);
    alice.ok(&["group", "close", "team"]);
    let said = alice.fails(&["group", "rename", "team", "other"], 1);
    assert!(said["error"]["what"].as_str().unwrap().contains("closed"), "{said}");
}

/// Each signs on what the other has just changed.
#[test]
fn two_admins_at_once_undo_nothing_of_each_other() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    alice.ok(&["member", "role", "team", "bob", "admin"]);
    let id = alice.ok(&["group", "show", "team"])[0]["group"].as_str().unwrap().to_owned();
    for turn in 0..5 {
        let (name, topic) = (format!("name {turn}"), format!("topic {turn}"));
        let both = [
            (&alice, ["group", "rename", &*id, &*name]),
            (&bob, ["group", "topic", &*id, &*topic]),
        ]
        .map(|(person, arguments)| Running::start(person.command(&arguments)));
        for ended in both.map(Running::ended) {
            assert!(ended.status.success(), "{}", ended.stderr);
        }
        assert_eq!(shown(&alice, &id), (name, topic));
    }
    let listed: Vec<Value> = bob.ok(&["group", "list"]);
    assert_eq!(listed[0]["groups"][0]["name"], "name 4");
}

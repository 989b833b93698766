//! `events` through the real binary and a real server.

use serde_json::Value;

use crate::{
    cli_devices::{device, linked},
    cli_world::{Person, Running, World},
};

fn kinds(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["kind"].as_str().unwrap()).collect()
}

fn number(line: &Value) -> u64 {
    line["id"].as_u64().unwrap()
}

#[test]
fn what_happened_in_ones_groups_is_shown_page_by_page() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let carol = world.registered("carol");
    let all = alice.ok(&["events", "--group", "team"]);
    assert_eq!(kinds(&all)[..2], ["group.created", "group.joined"], "{all:?}");
    assert_eq!(all[0]["account"], alice.account());
    assert_eq!(all[1]["account"], bob.account());
    // One by one they are the same.
    let first = alice.ok(&["events", "--limit", "1"]);
    assert_eq!((&first[0], kinds(&first)), (&all[0], vec!["group.created", "more"]));
    let after = first[1]["after"].to_string();
    let second = alice.ok(&["events", "--limit", "1", "--after", &after]);
    assert_eq!(second[0], all[1]);
    let last = number(all.last().unwrap()).to_string();
    assert!(alice.ok(&["events", "--after", &last]).is_empty());
    // Each sees his own time in his own groups, and nothing of others'.
    let theirs = bob.ok(&["events"]);
    assert_eq!(kinds(&theirs)[0], "group.joined", "{theirs:?}");
    assert!(carol.ok(&["events"]).is_empty());
    carol.fails(&["events", "--group", "team"], 2);
    alice.fails(&["events", "--limit", "0"], 2);
    alice.fails(&["events", "--follow", "--limit", "1"], 2);

    let text = alice.as_text(&["events"]);
    let line = text.lines().nth(1).unwrap();
    let said = format!("[team] {} came in, by {} [epoch 1]", bob.account(), alice.account());
    assert!(line.starts_with(&format!("#{} ", number(&all[1]))), "{text}");
    assert!(line.ends_with(&said), "{text}");
}

#[test]
fn who_follows_events_misses_none_and_reads_none_twice_when_the_server_restarts() {
    let mut world = World::new();
    let [alice] = world.group(["alice"]);
    let mut feed = Running::start(alice.command(&["events", "--follow", "--after", "0"]));
    let made = feed.next().unwrap();
    assert_eq!(made["kind"], "group.created");
    alice.ok(&["group", "rename", "team", "crew"]);
    let renamed = feed.next().unwrap();
    assert_eq!(renamed["kind"], "roster.changed");

    world.server.stop();
    world.server.start_again();
    alice.ok(&["group", "create", "other"]);
    let other = feed.next().unwrap();
    assert_eq!(other["kind"], "group.created");
    assert!(number(&other) > number(&renamed));
    assert_ne!(other["group"], renamed["group"]);
    assert!(feed.stop().is_empty());
    // What it gave is what is there.
    assert_eq!(alice.ok(&["events"]), [made, renamed, other]);
}

#[test]
fn a_feed_ends_when_its_device_is_taken_out() {
    let world = World::new();
    let [alice] = world.group(["alice"]);
    let laptop = linked(&world, &alice, "laptop");
    let mut feed = Running::start(laptop.command(&["events", "--follow", "--after", "0"]));
    // It came to the group now, and sees what follows.
    alice.ok(&["group", "rename", "team", "crew"]);
    feed.until(|line| line["op"] == "policy");
    alice.ok(&["device", "remove", &device(&laptop), "--yes"]);
    let ended = feed.ended();
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    // Where nobody answers, that is said.
    let away = Person { url: "http://127.0.0.1:1".to_owned(), ..alice };
    away.fails(&["events"], 4);
}

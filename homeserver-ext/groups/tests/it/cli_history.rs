//! What was said stays: own words and those of others, in one order.

use crate::cli_world::{World, own_texts, texts};

#[test]
fn own_messages_are_among_those_of_others_once_and_told_from_them() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    alice.read();
    let sent = alice.ok(&["send", "team", "hello bob"]);
    bob.read();
    bob.ok(&["send", "team", "hello alice"]);
    let lines = alice.read();
    let said: Vec<_> = lines.iter().filter(|line| line["type"] == "message").collect();
    let bodies: Vec<_> = said.iter().map(|line| line["body"].as_str().unwrap()).collect();
    assert_eq!(bodies, ["hello bob", "hello alice"]);
    assert_eq!(said[0]["own"], true);
    assert_eq!(said[0]["id"], sent[0]["id"]);
    assert_eq!(said[0]["client_id"], sent[0]["client_id"]);
    assert_eq!(said[0]["sender"], alice.account());
    assert_eq!(said[0]["group_name"], "team");
    assert!(said[0]["sent_at_ms"].as_u64().unwrap() > 0);
    assert!(said[1].get("own").is_none());
    assert!(alice.read().is_empty(), "shown once");
    let others = alice.ok(&["tail", "--once", "--since", "0", "--others"]);
    assert_eq!(texts(&others), ["hello alice"]);
    assert!(own_texts(&others).is_empty());
}

#[test]
fn an_own_message_appears_in_a_tail_that_runs() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let mut tail = alice.tail(&[]);
    alice.ok(&["send", "team", "from beside"]);
    let line = tail.until(|line| line["body"] == "from beside");
    assert_eq!(line["own"], true);
    tail.stop();
    assert_eq!(bob.texts(), ["from beside"]);
}

#[test]
fn what_was_given_up_is_shown_with_its_words() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let away = world.person_at("bob", "http://127.0.0.1:1");
    let kept = "what I still wanted to say";
    away.fails(&["send", "team", kept, "--timeout", "0"], 5);
    alice.ok(&["member", "remove", "team", "bob"]);
    let lines = bob.read();
    let unsent: Vec<_> = lines.iter().filter(|line| line["type"] == "unsent").collect();
    assert_eq!(unsent.len(), 1, "{lines:?}");
    assert_eq!(unsent[0]["body"], kept);
    assert!(unsent[0]["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    assert!(own_texts(&lines).is_empty());
    assert!(alice.texts().is_empty());
}

#[test]
fn a_message_is_answered_by_its_number_and_the_answer_names_it() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    alice.ok(&["send", "team", "tea or coffee?"]);
    let question = bob.read().into_iter().find(|line| line["type"] == "message").unwrap();
    let row = question["row"].to_string();
    bob.ok(&["send", "team", "--reply-to", &row, "tea"]);
    bob.ok(&["send", "team", "--reply-to", &format!("#{row}"), "with milk"]);
    let id = format!(
        "{}/{}",
        question["device"].as_str().unwrap(),
        question["client_id"].as_str().unwrap()
    );
    bob.ok(&["send", "team", "--reply-to", &id, "no sugar"]);
    for person in [&alice, &bob] {
        let lines = person.ok(&["tail", "--once", "--since", "0"]);
        let said: Vec<_> = lines.iter().filter(|line| line["type"] == "message").collect();
        assert_eq!(said.len(), 4, "{lines:?}");
        for answer in &said[1..] {
            assert_eq!(answer["reply_to"], id.as_str());
            assert_eq!(answer["reply_row"], said[0]["row"]);
        }
        let text = person.as_text(&["tail", "--once", "--since", "0"]);
        let wanted = format!(
            "[team] #{} bob:{} (re #{}): tea",
            said[1]["row"],
            crate::cli_server::NAME,
            said[0]["row"]
        );
        assert!(text.lines().any(|line| line.ends_with(&wanted)), "{text}");
    }
    // What is no message, or one of another group, is not answered.
    let roster = bob
        .ok(&["tail", "--once", "--since", "0"])
        .into_iter()
        .find(|line| line["type"] == "roster")
        .unwrap();
    bob.ok(&["group", "create", "other"]);
    for (group, row) in
        [("team", roster["row"].to_string()), ("other", row), ("team", "999".to_owned())]
    {
        let said = bob.fails(&["send", group, "--reply-to", &row, "what?"], 2);
        assert!(said["error"]["what"].as_str().unwrap().contains(&row), "{said}");
    }
    bob.fails(&["send", "team", "--reply-to", "that one", "what?"], 2);
}

#[test]
fn history_is_read_in_pages_both_ways_and_found_without_a_server() {
    let mut world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    alice.ok(&["group", "create", "other"]);
    for n in 0..4 {
        alice.ok(&["send", "team", &format!("Apple {n}")]);
        alice.ok(&["send", "other", &format!("apple of others {n}")]);
    }
    bob.ok(&["send", "team", "no fruit"]);
    let all = alice.ok(&["tail", "--once", "--since", "0"]);
    world.server.stop();
    let team: Vec<_> = all.iter().filter(|line| line["group_name"] == "team").cloned().collect();
    assert_eq!(alice.ok(&["history", "team"]), team);
    let (mut pages, mut before) = (Vec::new(), i64::MAX.to_string());
    loop {
        let page = alice.ok(&["history", "team", "--limit", "2", "--before", &before]);
        let Some(first) = page.first() else { break };
        before = first["row"].to_string();
        pages = [page, pages].concat();
    }
    assert_eq!(pages, team);
    let (mut pages, mut after) = (Vec::new(), "0".to_owned());
    loop {
        let page = alice.ok(&["history", "team", "--limit", "2", "--after", &after]);
        let Some(last) = page.last() else { break };
        after = last["row"].to_string();
        pages.extend(page);
    }
    assert_eq!(pages, team);

    let found = alice.ok(&["search", "APPLE"]);
    assert_eq!(own_texts(&found).len(), 8);
    assert!(found.is_sorted_by_key(|line| line["row"].as_i64()));
    let found = alice.ok(&["search", "--group", "team", "--limit", "3", "apple"]);
    assert_eq!(own_texts(&found), ["Apple 1", "Apple 2", "Apple 3"]);
    let first = found[0]["row"].to_string();
    let found = alice.ok(&["search", "--group", "team", "--before", &first, "apple"]);
    assert_eq!(own_texts(&found), ["Apple 0"]);
    assert!(alice.ok(&["search", "pear"]).is_empty());
}

#[test]
fn what_is_known_of_groups_is_shown_without_a_server_and_said_to_be_old() {
    let mut world = World::new();
    let [alice, _bob] = world.group(["alice", "bob"]);
    let commands: [&[&str]; 3] =
        [&["group", "list"], &["group", "show", "team"], &["member", "list", "team"]];
    let asked = commands.map(|command| alice.run(command));
    world.server.stop();
    for (command, before) in commands.iter().zip(asked) {
        assert_eq!(before.stderr, "", "{command:?}");
        let now = alice.run(command);
        assert!(now.status.success(), "{command:?}: {}", now.stderr);
        assert_eq!(now.lines, before.lines);
        let note: serde_json::Value = serde_json::from_str(&now.stderr).unwrap();
        assert!(note["note"].as_str().unwrap().contains("may be old"), "{note}");
    }
}

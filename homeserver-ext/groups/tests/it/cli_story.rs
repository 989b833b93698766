//! People talk through the real binary and a real server.

use serde_json::Value;

use crate::{
    cli_proxy::Proxy,
    cli_world::{Person, Running, World, folder_holds, texts},
};

#[test]
fn two_people_talk_in_a_group_that_one_made_and_the_other_joined() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let sent = alice.ok(&["send", "team", "hello", "bob"]);
    let got = bob.read();
    assert_eq!(texts(&got), ["hello bob"]);
    let message = got.iter().find(|line| line["type"] == "message").unwrap();
    assert_eq!(message["id"], sent[0]["id"]);
    assert_eq!(message["sender"], alice.account());
    assert_eq!(message["group_name"], "team");
    bob.ok(&["send", "team", "hello alice"]);
    assert_eq!(alice.texts(), ["hello alice"]);
    assert!(bob.texts().is_empty(), "shown once");
}

#[test]
fn everyone_in_a_group_reads_everyone_else_in_order() {
    let world = World::new();
    let people = world.group(["alice", "bob", "carol"]);
    for round in 0..3 {
        for person in &people {
            person.ok(&["send", "team", &format!("{}{round}", person.name)]);
        }
    }
    for reader in &people {
        let read = reader.texts();
        assert_eq!(read.len(), 6, "{}: {read:?}", reader.name);
        for other in people.iter().filter(|other| other.name != reader.name) {
            let of_other: Vec<_> = read.iter().filter(|t| t.starts_with(&other.name)).collect();
            let expected: Vec<_> = (0..3).map(|n| format!("{}{n}", other.name)).collect();
            assert_eq!(of_other, expected.iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn whoever_was_removed_reads_nothing_more_and_is_told() {
    let world = World::new();
    let [alice, bob, carol] = world.group(["alice", "bob", "carol"]);
    alice.ok(&["send", "team", "before"]);
    assert_eq!(bob.texts(), ["before"]);
    assert_eq!(carol.texts(), ["before"]);
    alice.ok(&["member", "remove", "team", "bob"]);
    alice.ok(&["send", "team", "after"]);
    carol.ok(&["send", "team", "after too"]);
    let got = bob.read();
    assert!(texts(&got).is_empty(), "{got:?}");
    assert!(got.iter().any(|line| line["type"] == "roster" && line["me_left"] == true), "{got:?}");
    assert_eq!(carol.texts(), ["after"]);
    assert_eq!(alice.texts(), ["after too"]);
    bob.fails(&["send", "team", "let me in"], 1);
}

#[test]
fn send_works_beside_a_tail_and_a_second_tail_is_refused() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let mut tail = bob.tail(&[]);
    alice.ok(&["send", "team", "one"]);
    tail.until(|line| line["body"] == "one");
    let refusal = bob.fails(&["tail", "--once"], 1);
    let what = refusal["error"]["what"].as_str().unwrap();
    assert!(what.contains(&tail.id().to_string()), "{what}");
    bob.ok(&["send", "team", "two"]);
    alice.ok(&["send", "team", "three"]);
    tail.until(|line| line["body"] == "three");
    tail.stop();
    assert_eq!(alice.texts(), ["two"]);
}

#[test]
fn an_unsent_message_goes_out_with_the_next_run_before_it_and_once() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let away = world.person_at("alice", "http://127.0.0.1:1");
    for text in ["one", "two"] {
        away.fails(&["send", "team", text, "--timeout", "0"], 5);
    }
    assert!(bob.texts().is_empty());
    let sent = alice.ok(&["send", "team", "three"]);
    assert_eq!(sent.len(), 1);
    assert_eq!(bob.texts(), ["one", "two", "three"]);
    alice.ok(&["send", "--flush"]);
    assert!(bob.texts().is_empty());
}

#[test]
fn a_message_whose_answer_was_lost_arrives_once() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let proxy = Proxy::before(world.server.address());
    let behind = world.person_at("alice", &proxy.url());
    for n in 0..5 {
        proxy.lose_answers(2);
        behind.ok(&["send", "team", &n.to_string()]);
    }
    assert_eq!(proxy.lost(), 10);
    alice.ok(&["send", "team", "last"]);
    assert_eq!(bob.texts(), ["0", "1", "2", "3", "4", "last"]);
}

#[test]
fn a_message_sealed_before_a_removal_was_known_arrives_once_after_it() {
    let world = World::new();
    let [alice, bob, carol] = world.group(["alice", "bob", "carol"]);
    bob.ok(&["send", "team", "from the old epoch"]);
    // Bob's client does not hear of the removal before it posts: the server answers 409.
    let mut sending = Running::start(bob.command(&["send", "team", "--lines"]));
    assert!(sending.give("one\n"));
    assert!(sending.next().is_some());
    alice.ok(&["member", "remove", "team", "carol"]);
    assert!(sending.give("two\n"));
    assert!(sending.next().is_some());
    drop(sending);
    assert_eq!(alice.texts(), ["from the old epoch", "one", "two"]);
    assert_eq!(carol.texts(), ["from the old epoch", "one"]);
}

#[test]
fn lines_are_messages_and_a_named_input_is_sent_once_however_often() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let lines = (0..150).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
    let first = alice.run_with(&["send", "team", "--lines", "--resume", "log"], &lines);
    let again = alice.run_with(&["send", "team", "--lines", "--resume", "log"], &lines);
    assert_eq!(first.lines.len(), 150, "{}", first.stderr);
    assert_eq!(first.lines, again.lines);
    let expected: Vec<_> = lines.lines().collect();
    assert_eq!(bob.texts(), expected);
}

#[test]
fn what_was_shown_can_be_shown_again_from_any_row() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    for text in ["one", "two", "three"] {
        alice.ok(&["send", "team", text]);
    }
    let shown = bob.read();
    let row = |text: &str| shown.iter().find(|line| line["body"] == text).unwrap()["row"].clone();
    let since = bob.ok(&["tail", "--once", "--since", &row("one").to_string()]);
    assert_eq!(texts(&since), ["two", "three"]);
    let all = bob.ok(&["tail", "--once", "--since", "0"]);
    assert_eq!(all, shown);
    let rows: Vec<_> = all.iter().map(|line| line["row"].as_i64().unwrap()).collect();
    assert!(rows.is_sorted_by(|a, b| a < b), "{rows:?}");
}

#[test]
fn an_invite_lets_in_as_many_as_it_says_and_none_after_it_was_taken_back() {
    let world = World::new();
    let [alice] = world.group(["alice"]);
    let [bob, carol, dave] = ["bob", "carol", "dave"].map(|name| world.registered(name));
    let link = |arguments: &[&str]| {
        alice.ok(&[&["invite", "create", "team"], arguments].concat())[0]["link"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let once = link(&[]);
    let tail = alice.tail(&[]);
    bob.ok(&["invite", "accept", &once]);
    let refusal = carol.fails(&["invite", "accept", &once], 1);
    assert!(refusal.to_string().contains("used"), "{refusal}");
    let revoked = link(&["--uses", "5"]);
    alice.ok(&["invite", "revoke", "team", &revoked]);
    alice.ok(&["invite", "revoke", "team", &revoked]);
    let refusal = dave.fails(&["invite", "accept", &revoked], 1);
    assert!(refusal.to_string().contains("taken back"), "{refusal}");
    tail.stop();
    let listed = alice.ok(&["invite", "list", "team"]);
    assert_eq!(listed[0]["invites"].as_array().unwrap().len(), 2);
    for bad in ["causeway://join/", "nonsense", &once[..once.len() - 3]] {
        carol.fails(&["invite", "accept", bad], 2);
    }
}

#[test]
fn whoever_accepts_while_nobody_lets_people_in_is_in_later() {
    let world = World::new();
    let [alice] = world.group(["alice"]);
    let bob = world.registered("bob");
    let link = alice.ok(&["invite", "create", "team"])[0]["link"].as_str().unwrap().to_owned();
    bob.fails(&["invite", "accept", &link, "--wait", "0"], 5);
    alice.read();
    bob.ok(&["invite", "accept", &link]);
    alice.ok(&["send", "team", "welcome"]);
    assert_eq!(bob.texts(), ["welcome"]);
}

#[test]
fn roles_leaving_and_closing_are_seen_by_everyone() {
    let world = World::new();
    let [alice, bob, carol] = world.group(["alice", "bob", "carol"]);
    carol.fails(&["member", "remove", "team", "bob"], 1);
    alice.ok(&["member", "role", "team", "bob", "admin"]);
    let members = bob.ok(&["member", "list", "team"]);
    let of_bob = |member: &&Value| member["account"] == bob.account();
    let role = &members[0]["members"].as_array().unwrap().iter().find(of_bob).unwrap()["role"];
    assert_eq!(role, "admin");
    alice.ok(&["group", "leave", "team"]);
    bob.ok(&["group", "close", "team"]);
    let seen = carol.read();
    let changes: Vec<_> = seen
        .iter()
        .filter(|line| line["type"] == "roster")
        .map(|line| line["change"].as_str().unwrap())
        .collect();
    assert!(changes.ends_with(&["role", "leave", "close"]), "{changes:?}");
    bob.fails(&["send", "team", "hello?"], 1);
    assert_eq!(bob.ok(&["group", "list"])[0]["groups"][0]["closed"], true);
}

/// One that was left, that somebody was removed from, or that was closed; its name still finds it.
#[test]
fn a_group_that_is_over_takes_no_name_away() {
    let world = World::new();
    let [alice, bob, carol] = world.group(["alice", "bob", "carol"]);
    let shown = |person: &Person| person.ok(&["group", "show", "team"])[0]["group"].clone();
    let first = shown(&bob);
    bob.ok(&["group", "leave", "team"]);
    alice.ok(&["member", "remove", "team", "carol"]);
    carol.read();
    for gone in [&bob, &carol] {
        assert_eq!(shown(gone), first);
        let second = gone.ok(&["group", "create", "team"])[0]["group"].clone();
        gone.ok(&["send", "team", "hello"]);
        assert_eq!(shown(gone), second);
        gone.ok(&["group", "close", "team"]);
        let said = gone.fails(&["group", "show", "team"], 2).to_string();
        assert!([&first, &second].iter().all(|id| said.contains(id.as_str().unwrap())), "{said}");
        let third = gone.ok(&["group", "create", "team"])[0]["group"].clone();
        assert_eq!(shown(gone), third);
        gone.ok(&["group", "close", "team"]);
    }
    // A stranger's offer of that name is behind them.
    let mallory = world.registered("mallory");
    mallory.ok(&["group", "create", "team"]);
    mallory.ok(&["member", "add", "team", "bob"]);
    bob.read();
    let said = bob.fails(&["group", "show", "team"], 2).to_string();
    assert!(said.contains("means 3 groups"), "{said}");
}

#[test]
fn a_registration_whose_answer_was_lost_is_found_again() {
    let world = World::new();
    let proxy = Proxy::before(world.server.address());
    let alice = world.person_at("alice", &proxy.url());
    proxy.lose_answers_to("/register", 1);
    alice.fails(&["register", "alice"], 4);
    let again = alice.ok(&["register", "alice"]);
    assert_eq!(again[0]["account"], alice.account());
    alice.ok(&["group", "create", "mine"]);
    alice.fails(&["register", "alice"], 1);
    let impostor = world.person("impostor");
    impostor.fails(&["register", "alice"], 1);
    impostor.ok(&["register", "impostor"]);
}

#[test]
fn a_new_login_ends_nothing_and_speaks_for_the_same_device() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let before = alice.ok(&["whoami"]);
    alice.ok(&["login"]);
    assert_eq!(alice.ok(&["whoami"])[0]["device_id"], before[0]["device_id"]);
    alice.ok(&["send", "team", "still me"]);
    assert_eq!(bob.texts(), ["still me"]);
}

#[test]
fn nothing_that_was_said_lies_readable_on_the_disk() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let canary = "heliotrope-canary";
    alice.ok(&["send", "team", canary]);
    world
        .person_at("alice", "http://127.0.0.1:1")
        .fails(&["send", "team", canary, "--timeout", "0"], 5);
    assert_eq!(bob.texts(), [canary]);
    for person in [&alice, &bob] {
        assert!(!folder_holds(&person.home, canary.as_bytes()), "{}", person.name);
    }
}

/// Alice and Bob after the server was put back to before Alice removed Carol, and went on with Bob.
fn forked_world() -> (World, [Person; 3]) {
    let mut world = World::new();
    let people = world.group(["alice", "bob", "carol"]);
    let [alice, bob, _] = &people;
    alice.ok(&["member", "role", "team", "bob", "admin"]);
    for person in &people {
        person.read();
    }
    world.server.stop();
    let backup = world.server.backup();
    world.server.start_again();
    alice.ok(&["member", "remove", "team", "carol"]);
    world.server.stop();
    world.server.restore(&backup);
    world.server.start_again();
    bob.ok(&["member", "role", "team", "carol", "admin"]);
    (world, people)
}

#[test]
fn a_second_history_is_said_and_nothing_is_sent_until_a_person_decides() {
    let (_world, [alice, bob, _carol]) = forked_world();
    let said = alice.fails(&["send", "team", "on which one?"], 5);
    assert!(said.to_string().contains("two histories"), "{said}");
    let lines = alice.read();
    assert!(lines.iter().any(|line| line["type"] == "fork"), "{lines:?}");
    let shown = alice.ok(&["group", "fork", "show", "team"]);
    assert_eq!(shown[0]["forked"], true);
    assert_eq!(shown[0]["fork"]["fork"]["mine"]["kind"], "remove");
    assert_eq!(shown[0]["fork"]["fork"]["other"]["kind"], "role");
    assert!(bob.texts().is_empty());
    alice.ok(&["group", "fork", "adopt", "team"]);
    assert_eq!(alice.ok(&["group", "fork", "show", "team"])[0]["forked"], false);
    alice.ok(&["send", "--flush"]);
    assert_eq!(bob.texts(), ["on which one?"]);
}

#[test]
fn what_is_said_on_a_history_that_was_kept_cannot_be_read_on_the_other() {
    let (_world, [alice, bob, carol]) = forked_world();
    alice.fails(&["send", "team", "mine"], 5);
    alice.ok(&["group", "fork", "keep", "team"]);
    alice.ok(&["send", "--flush"]);
    assert!(bob.texts().is_empty() && carol.texts().is_empty());
    let members = alice.ok(&["member", "list", "team"]);
    assert_eq!(members[0]["members"].as_array().unwrap().len(), 2);
}

#[test]
fn no_token_and_no_text_is_in_the_log_at_trace() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let canary = "heliotrope-canary";
    let log_of = |person: &Person, arguments: &[&str]| {
        let output = person.command(arguments).env("CAUSEWAY_LOG", "trace").output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let logs = [
        log_of(&alice, &["login"]),
        log_of(&alice, &["send", "team", canary]),
        log_of(&bob, &["tail", "--once"]),
        log_of(&alice, &["invite", "list", "team"]),
    ];
    for log in logs {
        assert!(log.contains("TRACE"), "nothing was logged");
        assert!(!log.contains(canary), "a text is in the log");
        for line in log.lines().filter(|line| line.to_lowercase().contains("authorization")) {
            assert!(line.contains("Sensitive") && !line.contains("Bearer"), "{line}");
        }
        assert!(!log.contains("Bearer"), "a token is in the log");
    }
}

#[test]
fn a_server_that_lost_its_last_ops_gets_them_back_from_a_client() {
    let mut world = World::new();
    let [alice, bob, carol] = world.group(["alice", "bob", "carol"]);
    for person in [&alice, &bob, &carol] {
        person.read();
    }
    world.server.stop();
    let backup = world.server.backup();
    world.server.start_again();
    alice.ok(&["member", "remove", "team", "carol"]);
    bob.read();
    alice.ok(&["send", "team", "lost with the server"]);
    assert_eq!(bob.texts(), ["lost with the server"]);
    world.server.stop();
    world.server.restore(&backup);
    world.server.start_again();
    // The server thinks again that Carol is a member; Alice's client knows better.
    alice.ok(&["send", "team", "after the restore"]);
    assert_eq!(bob.texts(), ["after the restore"]);
    assert!(carol.texts().is_empty());
    let members = bob.ok(&["member", "list", "team"]);
    assert_eq!(members[0]["members"].as_array().unwrap().len(), 2);
}

/// Found by an attack: nobody could say anything any more in a group with an account that was made after
/// the backup.
#[test]
fn a_group_with_an_account_that_the_server_lost_goes_on_when_that_is_said() {
    let mut world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    for person in [&alice, &bob] {
        person.read();
    }
    world.server.stop();
    let backup = world.server.backup();
    world.server.start_again();
    let carol = world.registered("carol");
    carol.ok(&["group", "added-by", "all"]);
    alice.ok(&["member", "add", "team", "carol"]);
    for person in [&bob, &carol] {
        person.read();
    }
    world.server.stop();
    world.server.restore(&backup);
    world.server.start_again();
    let said = alice.fails(&["send", "team", "does it go?"], 1);
    assert!(said.to_string().contains("--after-restore"), "{said}");
    world.server.stop();
    world.server.put_back = true;
    world.server.start_again();
    alice.ok(&["send", "team", "it goes"]);
    // What was refused was kept.
    assert_eq!(bob.texts(), ["does it go?", "it goes"]);
    alice.ok(&["member", "remove", "team", "carol"]);
    alice.ok(&["send", "team", "and without her"]);
    assert_eq!(bob.texts(), ["and without her"]);
}

//! Pairwise groups through the real binary and a real server.

use crate::cli_world::{Person, World, texts};

/// Registered people who are all in one pairwise group, which the first of them made.
pub(crate) fn pairwise<const N: usize>(world: &World, names: [&str; N]) -> [Person; N] {
    group_of(world, names, "pairwise")
}

/// The same of a group of this scheme.
pub(crate) fn group_of<const N: usize>(
    world: &World,
    names: [&str; N],
    scheme: &str,
) -> [Person; N] {
    let people = names.map(|name| world.registered(name));
    people[0].ok(&["group", "create", "team", "--scheme", scheme]);
    for guest in &people[1..] {
        let (name, home) = (guest.name.as_str(), &people[0]);
        home.ok(&["member", "add", "team", name]);
        guest.read();
        guest.ok(&["group", "accept", "team"]);
    }
    people
}

#[test]
fn people_talk_in_a_pairwise_group() {
    let world = World::new();
    let [alice, bob] = pairwise(&world, ["alice", "bob"]);
    let sent = alice.ok(&["send", "team", "hello", "bob"]);
    let got = bob.read();
    assert_eq!(texts(&got), ["hello bob"]);
    assert!(sent[0]["id"].is_string());
    bob.ok(&["send", "team", "hello alice"]);
    assert_eq!(alice.texts(), ["hello alice"]);

    let carol = world.registered("carol");
    alice.ok(&["member", "add", "team", "carol"]);
    carol.read();
    carol.ok(&["group", "accept", "team"]);
    for round in 0..3 {
        for person in [&alice, &bob, &carol] {
            person.ok(&["send", "team", &format!("{}{round}", person.name)]);
        }
    }
    for reader in [&alice, &bob, &carol] {
        let read = reader.texts();
        assert_eq!(read.len(), 6, "{}: {read:?}", reader.name);
    }

    alice.ok(&["member", "remove", "team", "bob"]);
    carol.ok(&["send", "team", "without bob"]);
    assert_eq!(alice.texts(), ["without bob"]);
    assert!(bob.texts().is_empty());
}

#[test]
fn more_members_than_a_pairwise_group_carries_are_refused_with_what_carries_them() {
    let world = World::new();
    let alice = world.registered("alice");
    let create = ["group", "create", "team", "--scheme", "pairwise", "--max-members", "501"];
    let said = alice.fails(&create, 2);
    let error = &said["error"];
    assert!(error["what"].as_str().unwrap().contains("at most 500 members"), "{said}");
    assert!(error["next"].as_str().unwrap().contains("Sender Keys"), "{said}");
    alice.ok(&["group", "create", "team", "--scheme", "pairwise"]);
}

/// How far the message came, by account.
fn status(of: &Person, arguments: &[&str]) -> Vec<(String, String)> {
    let lines = of.ok(&[&["message", "status", "team"], arguments].concat());
    let recipients = lines[0]["recipients"].as_array().unwrap().iter();
    let text = |of: &serde_json::Value, name: &str| of[name].as_str().unwrap().to_owned();
    let mut states: Vec<_> =
        recipients.map(|of| (text(of, "account"), text(of, "state"))).collect();
    states.sort();
    states
}

fn states<const N: usize>(of: [(&Person, &str); N]) -> Vec<(String, String)> {
    of.map(|(person, state)| (person.account(), state.to_owned())).into()
}

#[test]
fn the_sender_sees_how_far_a_message_came_to_each_device() {
    let world = World::new();
    let [alice, bob, carol] = pairwise(&world, ["alice", "bob", "carol"]);
    let sent = alice.ok(&["send", "team", "one"]);
    assert_eq!(status(&alice, &[]), states([(&bob, "sent"), (&carol, "sent")]));
    assert_eq!(bob.texts(), ["one"]);
    assert_eq!(status(&alice, &[]), states([(&bob, "delivered"), (&carol, "sent")]));
    for name in ["id", "client_id"] {
        let name = sent[0][name].as_str().unwrap();
        assert_eq!(status(&alice, &[name])[0].1, "delivered");
    }
    // By its number, as the home of whoever sent it shows it, and of nobody else.
    let row = alice.ok(&["history", "team"]).last().unwrap()["row"].to_string();
    assert_eq!(status(&alice, &[&format!("#{row}")])[0].1, "delivered");
    let theirs = bob.ok(&["history", "team"]).last().unwrap()["row"].to_string();
    let said = bob.fails(&["message", "status", "team", &theirs], 2);
    assert!(said["error"]["what"].as_str().unwrap().contains("not yours"), "{said}");
    bob.fails(&["message", "status", "team"], 2);
    // For people.
    let text = alice.as_text(&["message", "status", "team"]);
    assert!(text.contains(&bob.account()) && text.contains("delivered"), "{text}");

    // Nobody takes it: it is kept, and goes to nobody yet.
    let away = Person { url: "http://127.0.0.1:1".to_owned(), ..alice.clone() };
    let kept = away.run(&["send", "team", "two", "--timeout", "0"]);
    assert_eq!(kept.status.code(), Some(5), "{}", kept.stderr);
    assert_eq!(status(&away, &[]), states([(&bob, "queued"), (&carol, "queued")]));
}

#[test]
fn a_wedged_session_heals_by_itself_and_its_sender_sees_it() {
    let world = World::new();
    let [alice, bob, carol] = pairwise(&world, ["alice", "bob", "carol"]);
    alice.ok(&["send", "team", "one"]);
    assert_eq!((bob.texts(), carol.texts()), (vec!["one".to_owned()], vec!["one".to_owned()]));
    bob.meddle(&["DELETE FROM olm_sessions"]);
    alice.ok(&["send", "team", "two"]);
    assert!(bob.texts().is_empty());
    assert_eq!(carol.texts(), ["two"]);
    // Bob's client has asked in a new session; Alice's gives him the key again.
    alice.read();
    assert_eq!(status(&alice, &[]), states([(&bob, "wedged"), (&carol, "delivered")]));
    assert_eq!(bob.texts(), ["two"]);
    assert_eq!(status(&alice, &[]), states([(&bob, "delivered"), (&carol, "delivered")]));
}

#[test]
fn of_a_sender_keys_group_the_server_knows_how_far_a_message_came() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    alice.ok(&["send", "team", "one"]);
    assert_eq!(status(&alice, &[]), states([(&bob, "sent")]));
    assert_eq!(bob.texts(), ["one"]);
    assert_eq!(status(&alice, &[]), states([(&bob, "delivered")]));
}

//! `message status` in each scheme, also of devices that are gone.

use crate::cli_world::{Person, World};

/// A group of this scheme, of which the first is admin.
fn group<const N: usize>(world: &World, scheme: &str, names: [&str; N]) -> [Person; N] {
    let people = names.map(|name| world.registered(name));
    people[0].ok(&["group", "create", "team", "--scheme", scheme]);
    let uses = (N - 1).to_string();
    let invite = people[0].ok(&["invite", "create", "team", "--uses", &uses]);
    let link = invite[0]["link"].as_str().unwrap().to_owned();
    let tail = people[0].tail(&[]);
    for guest in &people[1..] {
        guest.ok(&["invite", "accept", &link]);
    }
    tail.stop();
    people
}

/// How far a message came, by account.
fn status(of: &Person, id: &str) -> Vec<(String, String)> {
    let lines = of.ok(&["message", "status", "team", id]);
    let recipients = lines[0]["recipients"].as_array().unwrap().iter();
    let text = |of: &serde_json::Value, name: &str| of[name].as_str().unwrap_or("?").to_owned();
    let mut states: Vec<_> =
        recipients.map(|of| (text(of, "account"), text(of, "state"))).collect();
    states.sort();
    states
}

fn states<const N: usize>(of: [(&Person, &str); N]) -> Vec<(String, String)> {
    of.map(|(person, state)| (person.account(), state.to_owned())).into()
}

/// In a group of this scheme.
fn what_is_known_outlives_who_was_removed(scheme: &str) {
    let world = World::new();
    let [alice, bob, carol] = group(&world, scheme, ["alice", "bob", "carol"]);
    let sent = alice.ok(&["send", "team", "one"]);
    let id = sent[0]["id"].as_str().unwrap();
    assert_eq!(status(&alice, id), states([(&bob, "sent"), (&carol, "sent")]), "{scheme}");
    assert_eq!(bob.texts(), ["one"]);
    assert_eq!(status(&alice, id), states([(&bob, "delivered"), (&carol, "sent")]), "{scheme}");
    // Both go: one who has it, and one who does not.
    alice.ok(&["member", "remove", "team", &bob.account()]);
    alice.ok(&["member", "remove", "team", &carol.account()]);
    assert_eq!(status(&alice, id), states([(&bob, "delivered"), (&carol, "sent")]), "{scheme}");
    let text = alice.as_text(&["message", "status", "team", id]);
    assert_eq!(text.matches("(not in the group any more)").count(), 2, "{text}");
    // It was said while she counted.
    assert_eq!(carol.texts(), ["one"]);
    assert_eq!(status(&alice, id)[1].1, "delivered", "{scheme}");
    // Nobody asks for another's.
    bob.fails(&["message", "status", "team", id], 2);
    let mallory = world.registered("mallory");
    mallory.ok(&["group", "create", "team", "--scheme", scheme]);
    mallory.fails(&["message", "status", "team", id], 2);
}

#[test]
fn a_sender_keys_message_is_followed_beyond_its_recipients_removal() {
    what_is_known_outlives_who_was_removed("sender-keys");
}

#[test]
fn a_pairwise_message_is_followed_beyond_its_recipients_removal() {
    what_is_known_outlives_who_was_removed("pairwise");
}

#[test]
fn a_message_under_a_shared_key_is_followed_beyond_its_recipients_removal() {
    what_is_known_outlives_who_was_removed("shared-key");
}

/// Its sender is told by `message status`, in `tail`, and by an event.
fn what_nobody_fetched_in_time_is_said_to_have_expired(scheme: &str) {
    let mut world = World::new();
    let [alice, bob, carol] = group(&world, scheme, ["alice", "bob", "carol"]);
    let kept = alice.ok(&["send", "team", "for long"]);
    let sent = alice.ok(&["send", "team", "--ttl", "60s", "for a minute"]);
    let id = sent[0]["id"].as_str().unwrap();
    assert!(bob.texts().contains(&"for a minute".to_owned()));
    assert_eq!(status(&alice, id), states([(&bob, "delivered"), (&carol, "sent")]), "{scheme}");
    world.server.passes(3_600_000);
    assert_eq!(status(&alice, id), states([(&bob, "delivered"), (&carol, "expired")]), "{scheme}");
    let text = alice.as_text(&["message", "status", "team", id]);
    assert!(text.contains("expired: not fetched in time"), "{text}");
    // It is told once, to who said it, and whoever comes too late reads what is left.
    let expired =
        |lines: &[serde_json::Value]| lines.iter().filter(|l| l["type"] == "expired").count();
    let told = alice.read();
    let line = told.iter().find(|line| line["type"] == "expired").unwrap();
    assert_eq!(line["id"], id, "{told:?}");
    assert_eq!((expired(&told), expired(&alice.read())), (1, 0), "{scheme}");
    assert_eq!(carol.texts(), ["for long"], "{scheme}");
    assert_eq!(expired(&bob.read()), 0);
    let of = |person: &Person| person.ok(&["events", "--group", "team"]);
    let is_it = |event: &&serde_json::Value| event["kind"] == "message.expired";
    let events = of(&alice);
    let told: Vec<_> = events.iter().filter(is_it).collect();
    assert_eq!(told.len(), 1, "{events:?}");
    assert!(told[0].to_string().contains(id), "{told:?}");
    assert!([&bob, &carol].iter().all(|person| of(person).iter().all(|event| !is_it(&event))));
    let id = kept[0]["id"].as_str().unwrap();
    assert_eq!(
        status(&alice, id),
        states([(&bob, "delivered"), (&carol, "delivered")]),
        "{scheme}"
    );
}

#[test]
fn a_sender_keys_message_that_ran_out_is_told_to_its_sender() {
    what_nobody_fetched_in_time_is_said_to_have_expired("sender-keys");
}

#[test]
fn a_pairwise_message_that_ran_out_is_told_to_its_sender() {
    what_nobody_fetched_in_time_is_said_to_have_expired("pairwise");
}

#[test]
fn a_message_under_a_shared_key_that_ran_out_is_told_to_its_sender() {
    what_nobody_fetched_in_time_is_said_to_have_expired("shared-key");
}

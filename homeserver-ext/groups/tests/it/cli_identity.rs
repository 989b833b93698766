//! Who people are, in the terminal: shown, compared, and decided by a person.

use serde_json::Value;

use crate::cli_world::{Person, World};

/// From here on this home knows Bob by another identity: what it shows of him is a change.
fn forget_who_bob_is(person: &Person) {
    person.meddle(&[
        "UPDATE identities SET member_id = x'0101010101010101010101010101010101010101010101010101010101010101',
             standing = 'verified' WHERE account LIKE 'bob:%'",
        "UPDATE own SET met = randomblob(8)",
    ]);
}

fn identity(person: &Person, of: &Person) -> Value {
    let list = person.ok(&["member", "list", "team"]);
    let members = list[0]["members"].as_array().unwrap();
    members.iter().find(|member| member["account"] == of.account()).unwrap()["identity"].clone()
}

#[test]
fn two_people_see_one_safety_number_and_it_is_kept_that_they_compared_it() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let shown = alice.ok(&["verify", "bob"]);
    let number = shown[0]["safety_number"].as_str().unwrap().to_owned();
    assert_eq!(shown[0]["verified"], false, "nobody was there to say so");
    assert_eq!(identity(&alice, &bob), "pinned");
    assert_eq!(identity(&alice, &alice), "you");
    let theirs = bob.ok(&["verify", &alice.account(), "--number", &number]);
    assert_eq!(theirs[0]["safety_number"], number);
    assert_eq!(theirs[0]["verified"], true);
    assert_eq!(identity(&bob, &alice), "verified");
    let other = number.replace(char::is_numeric, "0");
    let refusal = alice.fails(&["verify", "bob", "--number", &other], 1);
    assert!(refusal["error"]["what"].as_str().unwrap().contains(&number), "{refusal}");
    assert_eq!(identity(&alice, &bob), "pinned");
    alice.ok(&["verify", "bob", "--yes"]);
    assert_eq!(identity(&alice, &bob), "verified");
    assert_eq!(alice.ok(&["verify", "bob"])[0]["verified"], true);
    alice.fails(&["verify", "alice"], 2);
    alice.fails(&["verify", "nobody"], 1);
}

#[test]
fn a_changed_identity_stops_the_group_until_a_person_decides() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    alice.ok(&["send", "team", "before"]);
    alice.ok(&["group", "create", "other"]);
    forget_who_bob_is(&alice);
    assert_eq!(identity(&alice, &bob), "changed");
    let refusal = alice.fails(&["send", "team", "a secret"], 1);
    let (what, next) = (refusal["error"]["what"].to_string(), refusal["error"]["next"].to_string());
    assert!(what.contains(&bob.account()), "{what}");
    assert!(next.contains("verify") && next.contains("member accept"), "{next}");
    alice.fails(&["send", "team", "a secret"], 1);
    alice.ok(&["send", "other", "to myself"]);
    alice.ok(&["send", "--flush"]);
    let shown = alice.ok(&["verify", "bob"]);
    assert_eq!((&shown[0]["changed"], &shown[0]["verified"]), (&true.into(), &false.into()));
    let wrong = ["member", "accept", "team", "bob", "--fingerprint", "0000 0000"];
    alice.fails(&wrong, 1);
    let accepted = alice.ok(&["member", "accept", "team", "bob"]);
    assert_eq!(accepted[0]["identity"], "pinned");
    assert_eq!(identity(&alice, &bob), "pinned", "and not verified: nobody has compared it");
    alice.ok(&["send", "team", "after"]);
    assert_eq!(bob.texts(), ["before", "after"], "what was refused does not go out later");
    // The same again changes nothing.
    assert_eq!(alice.ok(&["member", "accept", "team", "bob"])[0]["identity"], "pinned");
    alice.fails(&["member", "accept", "team", "carol"], 1);
}

#[test]
fn what_waited_before_waits_for_the_decision_and_stops_no_other_group() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    alice.ok(&["group", "create", "zoo"]);
    let away = world.person_at("alice", "http://127.0.0.1:1");
    for group in ["team", "zoo"] {
        away.fails(&["send", group, "kept", "--timeout", "0"], 5);
    }
    forget_who_bob_is(&alice);
    alice.fails(&["send", "--flush"], 1);
    assert!(bob.texts().is_empty());
    let waiting = alice.fails(&["send", "--flush"], 1);
    assert!(waiting["error"]["what"].as_str().unwrap().contains("bob"), "{waiting}");
    alice.ok(&["tail", "--once"]);
    alice.ok(&["verify", "bob", "--yes"]);
    let flushed = alice.ok(&["send", "--flush"]);
    assert_eq!(flushed[0]["groups"].as_array().unwrap().len(), 1, "the other one went before");
    assert_eq!(bob.texts(), ["kept"]);
}

#[test]
fn whom_one_has_met_is_listed_by_pages() {
    let world = World::new();
    let [alice, _, _] = world.group(["alice", "bob", "carol"]);
    let page = alice.ok(&["pins", "--limit", "1"]);
    assert_eq!(page[0]["pins"][0]["account"], "bob:native.example");
    assert_eq!(page[0]["next"], "carol:native.example");
    let page = alice.ok(&["pins", "--from", "carol:native.example"]);
    assert_eq!(page[0]["pins"].as_array().unwrap().len(), 1);
    assert_eq!(page[0]["pins"][0]["identity"], "pinned");
    assert_eq!(page[0]["next"], Value::Null);
}

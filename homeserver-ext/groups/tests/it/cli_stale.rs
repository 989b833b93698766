//! Commands that change a group know it as the server has it, whether or not a `tail` ran.

use serde_json::Value;

use crate::cli_world::{Person, World};

fn key_of(invite: &[Value]) -> String {
    invite[0]["key"].as_str().unwrap().to_owned()
}

/// Bob has seen that he was removed; then he is added again, as an admin or not, and reads nothing.
fn back_unseen(alice: &Person, bob: &Person, role: &str) {
    alice.ok(&["member", "remove", "team", "bob"]);
    bob.read();
    alice.ok(&["member", "add", "team", "bob"]);
    alice.ok(&["member", "role", "team", "bob", role]);
}

#[test]
fn whoever_was_removed_and_added_again_can_act_at_once() {
    let world = World::new();
    let [alice, bob, _carol] = world.group(["alice", "bob", "carol"]);
    back_unseen(&alice, &bob, "admin");
    let invite = bob.ok(&["invite", "create", "team"]);
    back_unseen(&alice, &bob, "admin");
    bob.ok(&["invite", "revoke", "team", &key_of(&invite)]);
    back_unseen(&alice, &bob, "admin");
    bob.ok(&["member", "role", "team", "carol", "admin"]);
    back_unseen(&alice, &bob, "admin");
    bob.ok(&["member", "remove", "team", "carol"]);
    back_unseen(&alice, &bob, "admin");
    bob.ok(&["member", "add", "team", "carol"]);
    back_unseen(&alice, &bob, "member");
    bob.ok(&["group", "leave", "team"]);
    alice.ok(&["member", "add", "team", "bob"]);
    alice.ok(&["member", "role", "team", "bob", "admin"]);
    bob.ok(&["group", "close", "team"]);
}

#[test]
fn whoever_was_made_an_admin_can_act_at_once() {
    let world = World::new();
    let [alice, bob, _carol] = world.group(["alice", "bob", "carol"]);
    for act in [
        &["invite", "create", "team"] as &[&str],
        &["member", "role", "team", "carol", "admin"],
        &["member", "remove", "team", "carol"],
        &["group", "close", "team"],
    ] {
        alice.ok(&["member", "role", "team", "bob", "member"]);
        bob.read();
        alice.ok(&["member", "role", "team", "bob", "admin"]);
        bob.ok(act);
    }
}

#[test]
fn whoever_is_out_and_has_not_heard_of_it_is_told_so() {
    let world = World::new();
    let [alice, bob, _carol] = world.group(["alice", "bob", "carol"]);
    alice.ok(&["member", "role", "team", "bob", "admin"]);
    bob.read();
    alice.ok(&["member", "remove", "team", "bob"]);
    for act in [
        &["group", "leave", "team"] as &[&str],
        &["group", "close", "team"],
        &["member", "remove", "team", "carol"],
        &["member", "role", "team", "carol", "admin"],
        &["member", "add", "team", "carol"],
        &["invite", "create", "team"],
    ] {
        let said = bob.fails(act, 1);
        let what = said["error"]["what"].as_str().unwrap();
        assert!(what.contains("not in this group any more"), "{act:?}: {said}");
    }
    alice.ok(&["group", "close", "team"]);
    let said = alice.fails(&["invite", "create", "team"], 1);
    assert!(said["error"]["what"].as_str().unwrap().contains("closed"), "{said}");
}

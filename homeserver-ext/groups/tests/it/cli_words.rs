//! What went wrong is said in words: what, why, and what to do next.

use crate::cli_world::{Person, World};

/// Ends so, says this, and what to do about it.
fn says(person: &Person, arguments: &[&str], code: i32, what: &str, next: &str) {
    let said = person.fails(arguments, code);
    let of = |field: &str| said["error"][field].as_str().unwrap_or_default().to_owned();
    assert!(of("what").contains(what), "{arguments:?}: {said}");
    assert!(of("next").contains(next) && !of("next").is_empty(), "{arguments:?}: {said}");
}

/// A link to this group.
fn link(person: &Person, group: &str) -> String {
    person.ok(&["invite", "create", group])[0]["link"].as_str().unwrap().to_owned()
}

#[test]
fn a_link_that_lets_nobody_in_says_why() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let (carol, dave) = (world.registered("carol"), world.registered("dave"));
    let used = link(&alice, "team");
    let tail = alice.tail(&[]);
    carol.ok(&["invite", "accept", &used]);
    tail.stop();
    says(&dave, &["invite", "accept", &used], 1, "this link is used up", "Ask for another");
    let revoked = link(&alice, "team");
    alice.ok(&["invite", "revoke", "team", &revoked]);
    says(&dave, &["invite", "accept", &revoked], 1, "was taken back", "Ask for another");
    let closed = link(&alice, "team");
    alice.ok(&["group", "close", "team"]);
    says(&dave, &["invite", "accept", &closed], 1, "the group is closed", "link to another");
    says(&dave, &["invite", "accept", &closed[..40]], 2, "cannot be used", "Copy it whole");
    says(&bob, &["send", "team", "x"], 1, "closed", "group show");
    says(&alice, &["invite", "create", "team"], 1, "closed", "group forget");
    // Of a server that does not know it.
    let other = World::new();
    let erin = other.registered("erin");
    bob.ok(&["group", "create", "bobs"]);
    let unknown = link(&bob, "bobs");
    says(
        &erin,
        &["invite", "accept", &unknown],
        1,
        "nobody that this server knows",
        "Ask for another",
    );
}

#[test]
fn what_is_refused_says_why_and_what_to_do() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let carol = world.registered("carol");
    alice.ok(&["group", "create", "small", "--max-members", "1"]);
    alice.ok(&["group", "create", "news", "--channel"]);
    let crowd = ["group", "create", "crowd", "--scheme", "shared-key", "--max-members", "5000"];
    assert_eq!(alice.ok(&crowd)[0]["name"], "crowd");
    let listed = alice.ok(&["group", "list"]);
    let listed = listed[0]["groups"].as_array().unwrap();
    assert!(listed.iter().any(|group| group["scheme"] == "shared-key"), "{listed:?}");
    alice.ok(&["member", "add", "news", "bob"]);
    bob.read();
    let list = "member list";
    for (person, arguments, code, what, next) in [
        (
            &alice,
            &["member", "add", "team", "nobody"] as &[&str],
            1,
            "no account nobody:",
            "spelling",
        ),
        (&alice, &["group", "create", "big", "--max-members", "1001"], 2, "at most 1000", "shared"),
        (&alice, &["verify", "nobody"], 1, "no account nobody:", "spelling"),
        (&alice, &["verify", "Not One"], 2, "`Not One` is", "bob:b.example"),
        (&alice, &["verify", "alice"], 2, "this account itself", "Name the person"),
        (&alice, &["member", "add", "team", "bob"], 1, "in this group already", list),
        (&alice, &["member", "remove", "team", "carol"], 1, "is not in this group", list),
        (&alice, &["member", "role", "team", "carol", "admin"], 1, "is not in this group", list),
        (&alice, &["member", "accept", "team", "carol"], 1, "is not in this group", list),
        (&alice, &["member", "add", "small", "bob"], 1, "the group is full", "member remove"),
        (&alice, &["group", "leave", "team"], 1, "no admin left", "member role"),
        (&alice, &["group", "forget", "team"], 1, "open", "group leave"),
        (&alice, &["group", "fork", "keep", "team"], 1, "one history", "Nothing was changed"),
        (
            &alice,
            &["group", "bridge", "team", "--invite", "ursula"],
            2,
            "not a Matrix user",
            "Nothing",
        ),
        (&alice, &["group", "bridge", "team", "--yes"], 1, "no bridge", "operator"),
        (
            &alice,
            &["invite", "revoke", "team", &"A".repeat(43)],
            1,
            "no such invite",
            "invite list",
        ),
        (&alice, &["invite", "revoke", "team", "x"], 2, "neither", "invite list"),
        (&alice, &["tail", "--idle=-1"], 2, "no time to wait", "--idle 2.5"),
        (&bob, &["member", "remove", "team", "alice"], 1, "only admins", list),
        (&bob, &["invite", "create", "team"], 1, "who may add members", "admins"),
        (&bob, &["send", "news", "x"], 1, "only admins post", "group show"),
        (&carol, &["group", "show", "team"], 2, "no group `team`", "group list"),
        (&carol, &["register", "carol"], 1, "already the home", "--home"),
    ] {
        says(person, arguments, code, what, next);
    }
    let taken = world.person("another");
    says(&taken, &["register", "alice"], 1, "taken", "another name");
    says(&world.person("new"), &["register", "New"], 2, "New", "lower-case");
    says(&world.person_at("new", "b.example"), &["register", "new"], 2, "b.example", "https://");
}

//! Groups that share a key, through the real binary and a real server.

use crate::{
    cli_pairwise::group_of,
    cli_world::{Person, World},
};

#[test]
fn people_talk_under_a_key_that_they_share() {
    let world = World::new();
    let [alice, bob] = group_of(&world, ["alice", "bob"], "shared-key");
    alice.ok(&["send", "team", "hello", "bob"]);
    assert_eq!(bob.texts(), ["hello bob"]);
    bob.ok(&["send", "team", "hello alice"]);
    assert_eq!(alice.texts(), ["hello alice"]);

    let carol = world.registered("carol");
    alice.ok(&["member", "add", "team", "carol"]);
    carol.read();
    carol.ok(&["group", "accept", "team"]);
    for person in [&alice, &bob, &carol] {
        person.read();
    }
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
    carol.read();
    carol.ok(&["send", "team", "without bob"]);
    assert_eq!(alice.texts(), ["without bob"]);
    assert!(bob.texts().is_empty());
}

#[test]
fn whoever_has_not_the_key_yet_is_told_and_what_he_said_goes_out_when_it_has_come() {
    let world = World::new();
    let [alice, bob] = group_of(&world, ["alice", "bob"], "shared-key");
    let carol = world.registered("carol");
    alice.ok(&["member", "add", "team", "carol"]);
    let kept = bob.run(&["send", "team", "soon", "--timeout", "3"]);
    assert_eq!(kept.status.code(), Some(5), "{}", kept.stderr);
    assert!(kept.stderr.contains("key") && kept.stderr.contains("tail"), "{}", kept.stderr);
    let read = bob.read();
    assert_eq!(alice.texts(), ["soon"], "{read:#?}");
    carol.read();
    carol.ok(&["group", "accept", "team"]);
    assert_eq!(carol.texts(), ["soon"]);
}

#[test]
fn it_says_for_how_long_it_can_be_read_and_with_which_cipher_it_begins() {
    let world = World::new();
    let alice = world.registered("alice");
    for (n, algorithm) in
        ["aes_256_gcm", "chacha20_poly1305", "xsalsa20_poly1305"].iter().enumerate()
    {
        let name = format!("team{n}");
        let create = ["group", "create", &name, "--scheme", "shared-key", "--algorithm", algorithm];
        alice.ok(&create);
        alice.ok(&["send", &name, "hello?"]);
        let shown = alice.as_text(&["group", "show", &name]);
        assert!(shown.contains("shared-key"), "{shown}");
        assert!(shown.contains("shared key: readable for one key's window"), "{shown}");
    }
    let said = alice.fails(&["group", "create", "x", "--algorithm", "aes_256_gcm"], 2);
    assert!(said["error"]["next"].as_str().unwrap().contains("shared-key"), "{said}");
}

#[test]
fn every_role_of_the_group_sees_the_warning() {
    let world = World::new();
    let [alice, bob] = group_of(&world, ["alice", "bob"], "shared-key");
    let warns = |person: &Person| {
        let shown = person.as_text(&["group", "list"]);
        assert!(shown.contains("readable for one key's window"), "{shown}");
    };
    warns(&alice);
    warns(&bob);
}

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

/// Messages that not all have are more than are looked at in one go, and most of them wait for an op: those behind
/// are looked at all the same, each once.
#[test]
fn what_waits_for_an_op_keeps_nothing_from_being_looked_at() {
    const WAIT: usize = 130;
    let world = World::new();
    let [alice, _bob] = group_of(&world, ["alice", "bob"], "shared-key");
    alice.ok(&["send", "team", "hello"]);
    // Under an epoch that the group has not reached, then under its first: the server knows none of them.
    alice.meddle(&["WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 133)
         INSERT INTO outbox (group_id, client_id, content, created_ms, state, envelope_id, sealed_epoch)
         SELECT (SELECT group_id FROM outbox LIMIT 1), randomblob(16), x'00',
            CAST(strftime('%s', 'now') AS INTEGER) * 1000, 'accepted', randomblob(16),
            CASE WHEN n > 130 THEN 0 ELSE 99 END FROM n",
        "INSERT INTO not_taken (group_id, envelope_id)
         SELECT group_id, envelope_id FROM outbox WHERE content = x'00'"]);
    alice.read();
    let left = |epoch: u32| {
        let sql = format!(
            "SELECT count(*) FROM not_taken n JOIN outbox o ON o.envelope_id = n.envelope_id
             WHERE o.sealed_epoch = {epoch}"
        );
        alice.count(&sql)
    };
    assert_eq!((left(99), left(0)), (WAIT, 0));
}

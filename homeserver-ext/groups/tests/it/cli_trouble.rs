//! What a person sees when something is wrong, and that it passes.

use std::{fs, path::Path};

use causeway_groups::sdk::Http;
use causeway_protocol::{api::BridgeInfo, ids::MemberId, keys::fingerprint};

use crate::{
    cli_http::{answering, with_body},
    cli_proxy::Proxy,
    cli_world::{Person, World, texts},
};

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Alice's device logs in from a copy of her home, which ends the session of the first.
fn revoke(world: &World, alice: &Person) {
    let elsewhere = world.person("elsewhere");
    copy(&alice.home, &elsewhere.home);
    elsewhere.ok(&["login"]);
}

#[test]
fn a_session_that_the_server_ended_is_said_and_a_login_mends_it() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let mut tail = alice.tail(&[]);
    bob.ok(&["send", "team", "one"]);
    tail.until(|line| line["body"] == "one");
    revoke(&world, &alice);
    let ended = tail.ended();
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("causeway-client login"), "{}", ended.stderr);
    for command in [&["group", "list"] as &[&str], &["tail", "--once"], &["invite", "list", "team"]]
    {
        let said = alice.fails(command, 3);
        assert_eq!(said["error"]["code"], "not_logged_in", "{said}");
        assert!(said["error"]["next"].as_str().unwrap().contains("causeway-client login"));
    }
    // What was to be sent is kept, and says so.
    let said = alice.fails(&["send", "team", "two"], 3);
    assert!(said["error"]["next"].as_str().unwrap().contains("kept"), "{said}");
    alice.ok(&["login"]);
    alice.ok(&["send", "--flush"]);
    assert_eq!(bob.texts(), ["two"]);
}

#[test]
fn what_is_said_from_a_folder_that_was_put_back_whole_is_read_by_all() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    bob.ok(&["send", "team", "one"]);
    assert_eq!(alice.texts(), ["one"]);
    let elsewhere = bob.home.with_extension("copy");
    copy(&bob.home, &elsewhere);
    bob.ok(&["send", "team", "two"]);
    bob.ok(&["send", "team", "three"]);
    assert_eq!(alice.texts(), ["two", "three"]);
    fs::remove_dir_all(&bob.home).unwrap();
    fs::rename(&elsewhere, &bob.home).unwrap();
    for text in ["four", "five", "six"] {
        bob.ok(&["send", "team", text]);
    }
    assert_eq!(alice.texts(), ["four", "five", "six"]);
    alice.ok(&["send", "team", "seven"]);
    assert_eq!(bob.texts(), ["seven"]);
}

#[test]
fn what_cannot_be_held_stays_at_the_server_and_comes_in_order_with_the_key() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    alice.ok(&["send", "team", "one"]);
    // Bob loses Alice's chain before he has said that he has it.
    let mut tail = bob.tail(&[]);
    tail.until(|line| line["body"] == "one");
    tail.kill();
    bob.meddle(&["DELETE FROM held_chains", "DELETE FROM acks_due"]);
    // More than the 1 MiB that is held for one sender; where a long one has no room, a short one might.
    let long = |n: usize| if n.is_multiple_of(2) { 40_000 } else { 30_000 };
    let lines: Vec<String> = (0..40).map(|n| format!("{n} {}", "x".repeat(long(n)))).collect();
    let sent = alice.run_with(&["send", "team", "--lines"], &lines.join("\n"));
    assert!(sent.status.success(), "{}", sent.stderr);
    let ended = bob.run(&["tail", "--once"]);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(!texts(&ended.lines).iter().any(|text| lines.contains(text)));
    assert!(ended.stderr.contains("stay at the server") && ended.stderr.contains("alice"));
    // Alice's client answers Bob's; the key lies behind all that waits for it.
    alice.read();
    let read = bob.texts();
    assert!(read == lines, "{} lines of {}", read.len(), lines.len());
    assert!(bob.texts().is_empty());
}

#[test]
fn an_admin_made_later_lets_in_who_asked_before() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let carol = world.registered("carol");
    let link = alice.ok(&["invite", "create", "team"])[0]["link"].as_str().unwrap().to_owned();
    carol.fails(&["invite", "accept", &link, "--wait", "0"], 5);
    alice.ok(&["member", "role", "team", "bob", "admin"]);
    // Alice is never seen again.
    let seen = bob.read();
    assert!(seen.iter().any(|line| line["type"] == "join_asked"), "{seen:?}");
    carol.ok(&["invite", "accept", &link]);
    bob.ok(&["send", "team", "welcome"]);
    assert_eq!(carol.texts(), ["welcome"]);
}

#[test]
fn whoever_was_removed_comes_back_by_a_persons_word_only() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    alice.ok(&["member", "remove", "team", "bob"]);
    let link = alice.ok(&["invite", "create", "team"])[0]["link"].as_str().unwrap().to_owned();
    bob.fails(&["invite", "accept", &link, "--wait", "0"], 5);
    let seen = alice.read();
    let asked = seen.iter().find(|line| line["was_removed"] == true).unwrap();
    assert_eq!((&asked["type"], &asked["account"]), (&"join_asked".into(), &bob.account().into()));
    bob.fails(&["send", "team", "let me in"], 1);
    let added = alice.ok(&["member", "add", "team", "bob"]);
    let whoami = bob.ok(&["whoami"]);
    assert_eq!(added[0]["fingerprint"], whoami[0]["fingerprint"]);
    bob.ok(&["invite", "accept", &link]);
    bob.ok(&["send", "team", "thank you"]);
    assert_eq!(alice.texts(), ["thank you"]);
    alice.fails(&["member", "add", "team", "bob"], 1);
    alice.fails(&["member", "add", "team", "nobody-of-that-name"], 1);
}

#[test]
fn a_bridge_is_known_by_its_key_and_not_by_what_the_server_says_of_it() {
    let world = World::new();
    let [alice] = world.group(["alice"]);
    let (right, other) = (MemberId::new([8; 32]), MemberId::new([7; 32]));
    let http = Http::new(&world.server.url()).unwrap();
    let mut info = tokio::runtime::Runtime::new().unwrap().block_on(http.server()).unwrap();
    info.bridge = Some(BridgeInfo {
        account: "bot:native.example".parse().unwrap(),
        member_id: other,
        fingerprint: fingerprint(&right),
    });
    let body = serde_json::to_string(&info).unwrap();
    let lying = || world.person_at("alice", &answering(&with_body("200 OK", "", &body)));
    let shown = fingerprint(&right);
    let said = lying().fails(&["group", "bridge", "team", "--fingerprint", &shown], 1);
    assert!(said["error"]["what"].as_str().unwrap().contains(&fingerprint(&other)), "{said}");
    // Where nobody can be asked, nobody has agreed.
    let said = lying().fails(&["group", "bridge", "team"], 2);
    assert!(said["error"]["next"].as_str().unwrap().contains(&fingerprint(&other)), "{said}");
    // One that was known by another key is not let in by a mere yes.
    alice.meddle(&[
        "INSERT INTO identities (account, member_id, standing, since_ms) VALUES ('bot:native.example',
             x'0808080808080808080808080808080808080808080808080808080808080808', 'pinned', 0)",
        "UPDATE own SET met = randomblob(8)",
    ]);
    let said = lying().fails(&["group", "bridge", "team", "--yes"], 1);
    let what = said["error"]["what"].as_str().unwrap();
    assert!(what.contains(&fingerprint(&other)) && what.contains(&shown), "{said}");
    assert_eq!(alice.ok(&["group", "show", "team"])[0]["bridge"], serde_json::Value::Null);
}

/// A server that takes a large batch in turns refuses what comes after a change of the group: what was
/// taken before that has been sent.
#[test]
fn what_was_taken_before_a_refusal_is_sent_and_only_the_rest_failed() {
    let world = World::new();
    let proxy = Proxy::before(world.server.address());
    let alice = world.person_at("alice", &proxy.url());
    alice.ok(&["register", "alice"]);
    let bob = world.registered("bob");
    alice.ok(&["group", "create", "team"]);
    alice.ok(&["member", "add", "team", &bob.account()]);
    alice.ok(&["send", "team", "zero"]);
    proxy.refuse_after(1);
    let sent = alice.run_with(&["send", "team", "--lines"], "one\ntwo\n");
    assert_eq!(sent.status.code(), Some(1), "{}", sent.stderr);
    assert_eq!(sent.lines.len(), 1, "{}", sent.stderr);
    assert_eq!(sent.lines[0]["line"], 1);
    assert!(sent.stderr.contains("of line 2 was not sent"), "{}", sent.stderr);
}

#[test]
fn a_server_that_takes_connections_and_says_nothing_is_waited_for_as_long_as_was_asked() {
    let world = World::new();
    let [alice, _] = world.group(["alice", "bob"]);
    // Whoever connects is neither answered nor refused.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let began = tokio::time::Instant::now();
    let deaf = Person { url, ..alice.clone() };
    let said = deaf.fails(&["send", "team", "hello?", "--timeout", "2"], 5);
    assert!(said["error"]["what"].as_str().unwrap().contains("kept"), "{said}");
    // A call of its own would have been waited for a minute.
    assert!(began.elapsed() < std::time::Duration::from_secs(50), "{:?}", began.elapsed());
    alice.ok(&["send", "--flush"]);
}

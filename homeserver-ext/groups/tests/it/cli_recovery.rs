//! Coming back by the recovery key: a new device, the same identity.

use serde_json::Value;

use crate::{
    cli_proxy::Proxy,
    cli_world::{Person, World, own_texts, texts},
};

/// As [`World::registered`], with the recovery key that was shown.
fn registered(world: &World, name: &str) -> (Person, String) {
    let person = world.person(name);
    let shown = person.ok(&["register", name]);
    (person, shown[0]["recovery_key"].as_str().unwrap().to_owned())
}

/// Another folder of the same person.
fn elsewhere(world: &World, person: &Person, folder: &str) -> Person {
    Person { name: person.name.clone(), ..world.person(folder) }
}

fn recover(person: &Person, arguments: &[&str], key: &str) -> Value {
    let arguments = [&["recover", person.name.as_str()], arguments].concat();
    let ended = person.run_with(&arguments, key);
    assert!(ended.status.success(), "{arguments:?}: {}", ended.stderr);
    ended.lines[0].clone()
}

fn refused(person: &Person, account: &str, key: &str, code: i32) -> String {
    let ended = person.run_with(&["recover", account], key);
    assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
    let key = key.trim();
    assert!(key.len() < 40 || !ended.stderr.contains(key), "{}", ended.stderr);
    ended.stderr
}

fn device(person: &Person) -> Value {
    person.ok(&["whoami"])[0]["device_id"].clone()
}

/// Lets a guest into the host's group by a link.
fn let_in(host: &Person, guest: &Person) {
    let invite = host.ok(&["invite", "create", "team"]);
    let tail = host.tail(&[]);
    guest.ok(&["invite", "accept", invite[0]["link"].as_str().unwrap()]);
    tail.stop();
}

#[test]
fn a_new_device_takes_the_place_of_the_lost_one_in_all_groups() {
    let world = World::new();
    let ((old, key), bob) = (registered(&world, "alice"), world.registered("bob"));
    old.ok(&["group", "create", "team"]);
    let_in(&old, &bob);
    old.ok(&["send", "team", "before"]);
    assert_eq!(bob.texts(), ["before"]);

    let new = elsewhere(&world, &old, "alice-new");
    let shown = recover(&new, &[], &format!("  {key}\n"));
    assert_eq!(shown["removed_devices"], Value::Array(vec![device(&old)]));
    assert_eq!(shown["kept_devices"], Value::Array(Vec::new()));
    assert_eq!(shown["device_id"], device(&new));
    assert_eq!(shown["groups"][0]["name"], "team");
    assert_eq!((&shown["groups"][0]["offered"], &shown["offered"]), (&false.into(), &0.into()));

    // Bob sees that her devices changed, and that she is who she was.
    let lines = bob.read();
    let seen: Vec<_> = lines.iter().map(|line| (&line["type"], &line["change"])).collect();
    assert_eq!(seen, [(&"roster".into(), &"devices".into())], "{lines:?}");
    assert_eq!(lines[0]["by"], old.account());
    let members = bob.ok(&["member", "list", "team"]);
    let hers = members[0]["members"].as_array().unwrap().iter();
    let hers: Vec<_> = hers.filter(|member| member["account"] == old.account()).collect();
    assert_eq!((hers.len(), &hers[0]["identity"]), (1, &"pinned".into()));

    new.ok(&["send", "team", "I am back"]);
    assert_eq!(bob.texts(), ["I am back"]);
    bob.ok(&["send", "team", "welcome"]);
    assert_eq!(new.texts(), ["welcome"]);

    // The old one is out, of the server and of the group.
    old.fails(&["send", "team", "a thief's words"], 3);
    let said = old.fails(&["login"], 1).to_string();
    assert!(said.contains("recovered elsewhere") && said.contains("recover ACCOUNT"), "{said}");
    old.fails(&["tail", "--once"], 3);
}

#[test]
fn the_old_device_goes_on_if_that_was_said() {
    let world = World::new();
    let ((old, key), bob) = (registered(&world, "alice"), world.registered("bob"));
    old.ok(&["group", "create", "team"]);
    let_in(&old, &bob);
    let new = elsewhere(&world, &old, "alice-new");
    let shown = recover(&new, &["--old-devices", "keep"], &key);
    assert_eq!(shown["kept_devices"], Value::Array(vec![device(&old)]));
    assert_eq!(shown["removed_devices"], Value::Array(Vec::new()));
    bob.read();
    bob.ok(&["send", "team", "to both"]);
    for device in [&old, &new] {
        assert_eq!(device.texts(), ["to both"]);
    }
    new.ok(&["send", "team", "from the new"]);
    assert_eq!(own_texts(&old.read()), ["from the new"]);
    assert_eq!(bob.texts(), ["from the new"]);
    // What it makes from now on names both.
    old.ok(&["group", "create", "later"]);
    old.ok(&["send", "later", "here too"]);
    assert_eq!(new.ok(&["group", "list"])[0]["groups"].as_array().unwrap().len(), 2);
    assert_eq!(own_texts(&new.read()), ["from the new", "here too"]);
}

#[test]
fn each_device_that_came_hears_what_is_said_next() {
    let world = World::new();
    let ((first, key), bob) = (registered(&world, "alice"), world.registered("bob"));
    first.ok(&["group", "create", "team"]);
    let_in(&first, &bob);
    let mut hers = vec![first.clone()];
    for name in ["second", "third", "fourth"] {
        let new = elsewhere(&world, &first, name);
        recover(&new, &["--old-devices", "keep"], &key);
        hers.push(new);
        // Nobody has read anything since: they look at the group before they send.
        let speakers: Vec<_> = hers.iter().chain([&bob]).collect();
        for speaker in &speakers {
            let text = format!("{} of {}", speaker.home.display(), hers.len());
            speaker.ok(&["send", "team", &text]);
        }
        for listener in &hers {
            let lines = listener.read();
            let heard = texts(&lines).len() + own_texts(&lines).len();
            assert_eq!(heard, speakers.len(), "{} of {}", listener.home.display(), hers.len());
        }
    }
}

#[test]
fn coming_back_twice_leaves_the_last_one() {
    let world = World::new();
    let (first, key) = registered(&world, "alice");
    first.ok(&["group", "create", "team"]);
    let second = elsewhere(&world, &first, "second");
    recover(&second, &[], &key);
    second.ok(&["send", "team", "two"]);
    let third = elsewhere(&world, &first, "third");
    let shown = recover(&third, &[], &key);
    assert_eq!(shown["removed_devices"], Value::Array(vec![device(&second)]));
    third.ok(&["send", "team", "three"]);
    second.fails(&["send", "team", "two again"], 3);
    // Into one folder there is one way back.
    let said = refused(&third, "alice", &key, 1);
    assert!(said.contains("already the home of alice"), "{said}");
}

#[test]
fn where_others_have_put_the_account_is_an_offer_unless_it_is_accepted_at_once() {
    let world = World::new();
    let (host, (alice, key)) = (world.registered("host"), registered(&world, "alice"));
    host.ok(&["group", "create", "team"]);
    let_in(&host, &alice);
    let second = elsewhere(&world, &alice, "second");
    assert_eq!(recover(&second, &[], &key)["groups"][0]["offered"], true);
    host.read();
    host.ok(&["send", "team", "hello"]);
    assert_eq!(second.texts(), Vec::<String>::new());
    second.ok(&["group", "accept", "team"]);
    assert_eq!(second.texts(), ["hello"]);
    let third = elsewhere(&world, &alice, "third");
    let shown = recover(&third, &["--accept-groups"], &key);
    assert_eq!((&shown["groups"][0]["offered"], &shown["offered"]), (&false.into(), &0.into()));
    third.ok(&["send", "team", "three"]);
    assert_eq!(host.texts(), ["three"]);
}

#[test]
fn what_is_wrong_with_a_key_is_said() {
    let world = World::new();
    let ((alice, key), (bob, bobs)) = (registered(&world, "alice"), registered(&world, "bob"));
    let new = elsewhere(&world, &alice, "new");
    for (text, said) in [
        ("", "there is no recovery key"),
        (&key[1..], "has 43 characters, and this has 42"),
        (&key.replacen(&key[4..5], "!", 1), "is in no recovery key"),
    ] {
        let shown = refused(&new, "alice", text, 2);
        assert!(shown.contains(said), "{shown}");
    }
    // One character that is another.
    let other = if key.starts_with('A') { "B" } else { "A" };
    let shown = refused(&new, "alice", &format!("{other}{}", &key[1..]), 1);
    assert!(shown.contains("no account at") && shown.contains("a character of it"), "{shown}");
    // Somebody else's, and an account that is not there.
    let shown = refused(&new, "alice", &bobs, 1);
    assert!(shown.contains(&format!("of {}, not of {}", bob.account(), alice.account())));
    let shown = refused(&new, "nobody", &key, 1);
    assert!(shown.contains(&format!("of {}, not of nobody", alice.account())), "{shown}");
    assert_eq!(new.run(&["recover", "alice", "--key-file", "/nonexistent"]).status.code(), Some(2));
    let away = Person { url: "http://127.0.0.1:1".to_owned(), ..new.clone() };
    assert_eq!(away.run_with(&["recover", "alice"], &key).status.code(), Some(4));
    // None of that has made anybody of this folder, or changed anything.
    new.fails(&["whoami"], 3);
    alice.ok(&["group", "create", "still here"]);
    recover(&new, &[], &key);
}

#[test]
fn what_was_cut_off_goes_on_with_the_same_device() {
    let world = World::new();
    let (old, key) = registered(&world, "alice");
    old.ok(&["group", "create", "team"]);
    let proxy = Proxy::before(world.server.address());
    let new = Person { url: proxy.url(), ..elsewhere(&world, &old, "new") };
    // The list is put, and whether the device was logged in is not known.
    proxy.lose_answers_to("/login", 1);
    assert_eq!(new.run_with(&["recover", "alice"], &key).status.code(), Some(4));
    old.fails(&["send", "team", "a thief's words"], 3);
    assert_eq!(recover(&new, &[], &key)["groups"][0]["name"], "team");
    new.ok(&["send", "team", "I am back"]);
}

/// The server forgets the recovery, and would know the lost device only.
#[test]
fn a_server_that_was_put_back_to_before_takes_the_new_device_again() {
    let mut world = World::new();
    let ((old, key), bob) = (registered(&world, "alice"), world.registered("bob"));
    old.ok(&["group", "create", "team"]);
    let_in(&old, &bob);
    old.ok(&["send", "team", "before"]);
    assert_eq!(bob.texts(), ["before"]);
    world.server.stop();
    let copy = world.server.backup();
    world.server.start_again();
    let new = elsewhere(&world, &old, "alice-new");
    recover(&new, &[], &key);
    new.ok(&["send", "team", "I am back"]);
    assert_eq!(bob.texts(), ["I am back"]);
    world.server.stop();
    world.server.restore(&copy);
    world.server.start_again();
    new.fails(&["send", "team", "kept"], 3);
    new.ok(&["login"]);
    new.ok(&["send", "team", "and again"]);
    assert_eq!(bob.texts(), ["kept", "and again"]);
    bob.ok(&["send", "team", "welcome"]);
    assert_eq!(new.texts(), ["welcome"]);
    // The lost device is out again.
    old.fails(&["send", "team", "a thief's words"], 3);
    old.fails(&["login"], 1);
}

/// Somebody who never spoke to these devices reaches them: the server has keys of them.
fn is_reached(world: &World, host: &Person, devices: &[&Person]) {
    let carol = world.registered("carol");
    let_in(host, &carol);
    for device in devices {
        device.read();
    }
    carol.ok(&["send", "team", "hello"]);
    for device in devices {
        assert_eq!(device.texts(), ["hello"]);
    }
}

/// Another device of the account gives the server the list that names this one too.
#[test]
fn a_device_that_another_has_listed_again_gives_a_server_that_was_put_back_new_keys() {
    let mut world = World::new();
    let (first, key) = registered(&world, "alice");
    world.server.stop();
    let copy = world.server.backup();
    world.server.start_again();
    let [second, third] = ["second", "third"].map(|folder| {
        let device = elsewhere(&world, &first, folder);
        recover(&device, &["--old-devices", "keep"], &key);
        device
    });
    third.ok(&["group", "create", "team"]);
    third.ok(&["send", "team", "from the third"]);
    assert_eq!(own_texts(&second.read()), ["from the third"]);
    world.server.stop();
    world.server.restore(&copy);
    world.server.start_again();
    for device in [&third, &second] {
        device.ok(&["login"]);
        device.ok(&["send", "team", "and again"]);
    }
    is_reached(&world, &third, &[&second, &third]);
}

/// The list arrives, and the device never hears of it.
#[test]
fn a_device_whose_list_was_taken_unheard_gives_a_server_that_was_put_back_new_keys() {
    let mut world = World::new();
    let (first, key) = registered(&world, "alice");
    first.ok(&["group", "create", "team"]);
    world.server.stop();
    let copy = world.server.backup();
    world.server.start_again();
    let new = elsewhere(&world, &first, "new");
    recover(&new, &[], &key);
    new.ok(&["send", "team", "I am back"]);
    world.server.stop();
    world.server.restore(&copy);
    world.server.start_again();
    let proxy = Proxy::before(world.server.address());
    proxy.lose_answers_to("/recover/devices", 1);
    Person { url: proxy.url(), ..new.clone() }.fails(&["login"], 4);
    assert_eq!(proxy.lost(), 1);
    new.ok(&["login"]);
    new.ok(&["send", "team", "and again"]);
    is_reached(&world, &new, &[&new]);
}

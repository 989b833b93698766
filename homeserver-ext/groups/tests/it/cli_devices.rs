//! Two devices of one account: linked by a text, heard and read as one, and one taken out again.

use serde_json::Value;

use crate::{
    cli_pairwise::pairwise,
    cli_world::{Person, Running, World, own_texts, texts},
};

/// Another folder of the same person, which is nobody's yet.
pub(crate) fn elsewhere(world: &World, person: &Person, folder: &str) -> Person {
    Person { name: person.name.clone(), ..world.person(folder) }
}

/// Begins to make this folder a device; the text that it shows.
pub(crate) fn offers(new: &Person) -> (Running, String) {
    let mut running = Running::start(new.command(&["device", "link", "--yes"]));
    let offer = running.until(|line| line["type"] == "offer");
    (running, offer["link"].as_str().unwrap().to_owned())
}

/// A second device of this person.
pub(crate) fn linked(world: &World, first: &Person, folder: &str) -> Person {
    let new = elsewhere(world, first, folder);
    let (mut running, text) = offers(&new);
    let shown = first.ok(&["device", "add", &text, "--yes"]);
    assert_eq!(shown[0]["groups_told"], true);
    let line = running.until(|line| line["type"] == "linked");
    assert_eq!(line["account"], first.account());
    assert_eq!(line["device_id"], shown[0]["device_id"]);
    assert!(running.ended().status.success());
    new
}

pub(crate) fn device(person: &Person) -> String {
    person.ok(&["whoami"])[0]["device_id"].as_str().unwrap().to_owned()
}

/// What is said in `team` by each is read by all others, and as one's own by the other device.
fn talk(people: &[&Person]) {
    for speaker in people {
        let said = format!("from {}", speaker.home.display());
        speaker.ok(&["send", "team", &said]);
        for listener in people {
            let heard = listener.read();
            let all = [texts(&heard), own_texts(&heard)];
            let is_own = listener.name == speaker.name;
            let expected =
                if is_own { [vec![], vec![said.clone()]] } else { [vec![said.clone()], vec![]] };
            assert_eq!(all, expected, "{}: {heard:?}", listener.home.display());
        }
    }
}

fn two_devices_read_and_one_is_taken_out(world: &World, alice: &Person, bob: &Person) {
    alice.ok(&["send", "team", "before"]);
    assert_eq!(bob.texts(), ["before"]);
    alice.read();
    let laptop = linked(world, alice, "laptop");
    assert_eq!(laptop.ok(&["group", "list"])[0]["groups"].as_array().unwrap().len(), 1);
    for person in [alice, bob, &laptop] {
        person.read();
    }
    talk(&[alice, bob, &laptop]);
    // Both are one to everybody else.
    let members = bob.ok(&["member", "list", "team"]);
    assert_eq!(members[0]["members"].as_array().unwrap().len(), 2);
    // Only the first lets devices in and out.
    let said = laptop.fails(&["device", "remove", &device(alice)], 1);
    assert!(said.to_string().contains("identity key"), "{said}");
    let listed = alice.ok(&["device", "list"]);
    assert_eq!(
        (listed[0]["signs"].as_bool(), listed[0]["version"].as_u64()),
        (Some(true), Some(2))
    );
    assert_eq!(laptop.ok(&["device", "list"])[0]["signs"], false);

    let out = device(&laptop);
    let shown = alice.ok(&["device", "remove", &out[..12], "--yes"]);
    assert_eq!(
        (&shown[0]["device_id"], &shown[0]["groups_told"]),
        (&out.as_str().into(), &true.into())
    );
    let seen = bob.read();
    assert!(seen.iter().any(|line| line["change"] == "devices"), "{seen:?}");
    alice.ok(&["send", "team", "after"]);
    bob.ok(&["send", "team", "after, too"]);
    assert_eq!(bob.texts(), ["after"]);
    assert_eq!(alice.texts(), ["after, too"]);
    // It is logged out, reads nothing, and posts nothing.
    laptop.fails(&["send", "team", "a thief's words"], 3);
    laptop.fails(&["tail", "--once"], 3);
    let said = laptop.fails(&["login"], 1).to_string();
    assert!(said.contains("no more on its account's list"), "{said}");
    assert!(bob.texts().is_empty());
    assert!(alice.fails(&["device", "remove", &out], 2).to_string().contains("no device"));
}

#[test]
fn two_devices_of_one_account_talk_in_a_sender_keys_group_until_one_is_taken_out() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    two_devices_read_and_one_is_taken_out(&world, &alice, &bob);
}

#[test]
fn two_devices_of_one_account_talk_in_a_pairwise_group_until_one_is_taken_out() {
    let world = World::new();
    let [alice, bob] = pairwise(&world, ["alice", "bob"]);
    two_devices_read_and_one_is_taken_out(&world, &alice, &bob);
}

/// Where somebody else has put the account, the first device has agreed for both; where it has not
/// yet, neither takes part.
#[test]
fn a_new_device_takes_part_where_the_first_does() {
    let world = World::new();
    let [bob, alice] = world.group(["bob", "alice"]);
    bob.ok(&["group", "create", "unasked"]);
    let stranger = world.registered("stranger");
    stranger.ok(&["group", "create", "strange"]);
    stranger.ok(&["member", "add", "strange", "alice"]);
    alice.read();
    let laptop = linked(&world, &alice, "laptop");
    let offered = |person: &Person| -> Vec<(Value, Value)> {
        let shown = person.ok(&["group", "list"]);
        let groups = shown[0]["groups"].as_array().unwrap().iter();
        let mut groups: Vec<_> = groups.map(|g| (g["name"].clone(), g["state"].clone())).collect();
        groups.sort_by_key(|(name, _)| name.to_string());
        groups
    };
    for person in [&alice, &laptop] {
        let expected = [("strange".into(), "offered".into()), ("team".into(), "taken".into())];
        assert_eq!(offered(person), expected, "{}", person.home.display());
    }
    stranger.ok(&["send", "strange", "psst"]);
    assert!(laptop.texts().is_empty() && alice.texts().is_empty());
    alice.ok(&["group", "accept", "strange"]);
    alice.ok(&["send", "strange", "well"]);
    assert_eq!(stranger.texts(), ["well"]);
    laptop.read();
    stranger.ok(&["send", "strange", "hello both"]);
    assert_eq!(laptop.texts(), ["hello both"]);
}

#[test]
fn a_device_that_came_back_by_the_recovery_key_links_others_and_a_linked_one_does_not() {
    let world = World::new();
    let first = world.person("alice");
    let key = first.ok(&["register", "alice"])[0]["recovery_key"].as_str().unwrap().to_owned();
    first.ok(&["group", "create", "team"]);
    let laptop = linked(&world, &first, "laptop");
    // A linked device lets nobody in, and shows nothing of the text to anybody.
    let third = elsewhere(&world, &first, "third");
    let (running, text) = offers(&third);
    let said = laptop.fails(&["device", "add", &text, "--yes"], 1);
    assert!(said.to_string().contains("identity key"), "{said}");
    running.kill();
    // The first is lost; the recovered one keeps the laptop, and signs.
    let new = elsewhere(&world, &first, "new");
    let ended = new.run_with(&["recover", "alice", "--old-devices", "keep"], &key);
    assert!(ended.status.success(), "{}", ended.stderr);
    new.ok(&["device", "remove", &device(&first), "--yes"]);
    let third = linked(&world, &new, "third");
    for person in [&new, &laptop, &third] {
        person.read();
    }
    talk(&[&new, &laptop, &third]);
    first.fails(&["send", "team", "lost"], 3);
}

#[test]
fn two_links_at_once_bring_both_devices_in() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let news = ["laptop", "tablet"].map(|folder| elsewhere(&world, &alice, folder));
    let offered = news.each_ref().map(offers);
    let adding: Vec<_> = offered
        .iter()
        .map(|(_, text)| Running::start(alice.command(&["device", "add", text, "--yes"])))
        .collect();
    for adding in adding {
        let ended = adding.ended();
        assert!(ended.status.success(), "{}", ended.stderr);
    }
    for (running, _) in offered {
        assert!(running.ended().status.success());
    }
    assert_eq!(alice.ok(&["device", "list"])[0]["devices"].as_array().unwrap().len(), 3);
    let [laptop, tablet] = &news;
    for person in [&alice, &bob, laptop, tablet] {
        person.read();
    }
    bob.ok(&["send", "team", "to three"]);
    for person in [&alice, laptop, tablet] {
        assert_eq!(person.texts(), ["to three"], "{}", person.home.display());
    }
}

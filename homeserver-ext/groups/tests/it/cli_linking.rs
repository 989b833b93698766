//! Linking a device: what interrupts it, and who would do harm by it.

use std::process::{Command, Stdio};

use crate::{
    cli_devices::{device, elsewhere, linked, offers},
    cli_proxy::Proxy,
    cli_world::{Person, Running, World, ended},
};

/// The server is restarted, and each client is killed, between any two steps.
#[test]
fn whatever_is_restarted_between_two_steps_the_same_commands_go_on() {
    let mut world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let new = elsewhere(&world, &alice, "laptop");
    let restart = |world: &mut World| {
        world.server.stop();
        world.server.start_again();
    };
    // Offered; the new device is killed, and the server restarted.
    let (running, text) = offers(&new);
    running.kill();
    restart(&mut world);
    // The same command shows the same text; while nobody waits, the first one says so.
    let (running, again) = offers(&new);
    assert_eq!(text, again);
    running.kill();
    restart(&mut world);
    // Answered by a first device that is killed as soon as the new one has read it.
    let (mut running, again) = offers(&new);
    assert_eq!(text, again);
    let adding = Running::start(alice.command(&["device", "add", &text, "--yes"]));
    running.until(|line| line["type"] == "answer");
    adding.kill();
    restart(&mut world);
    // The new one has said yes; killed too, it goes on without showing anything.
    running.kill();
    let running = Running::start(new.command(&["device", "link", "--yes"]));
    restart(&mut world);
    let shown = alice.ok(&["device", "add", &text, "--yes"]);
    let ended = running.ended();
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(ended.lines.last().unwrap()["type"], "linked");
    assert_eq!(shown[0]["device_id"], device(&new));
    // What is done is done.
    alice.ok(&["device", "add", &text, "--yes"]);
    let said = new.fails(&["device", "link", "--yes"], 1);
    assert!(said.to_string().contains("already the home of alice"), "{said}");
    assert_eq!(alice.ok(&["device", "list"])[0]["version"], 2);
    bob.read();
    bob.ok(&["send", "team", "hello"]);
    assert_eq!(new.texts(), ["hello"]);
}

/// The answer to the list that names the new device gets lost, and the first device is killed: its next
/// message goes to both all the same.
#[test]
fn a_list_whose_answer_was_lost_is_told_to_the_groups() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let new = elsewhere(&world, &alice, "laptop");
    let proxy = Proxy::before(world.server.address());
    let behind = Person { url: proxy.url(), ..alice.clone() };
    proxy.lose_answers_to("/account/devices", 1_000);
    let (mut running, text) = offers(&new);
    let adding = Running::start(behind.command(&["device", "add", &text, "--yes"]));
    running.until(|line| line["type"] == "linked");
    adding.kill();
    assert!(running.ended().status.success());
    alice.ok(&["send", "team", "to both"]);
    bob.read();
    assert_eq!(crate::cli_world::own_texts(&new.read()), ["to both"]);
    bob.ok(&["send", "team", "to both of you"]);
    assert_eq!(new.texts(), ["to both of you"]);
}

#[test]
fn a_text_that_somebody_else_answers_makes_no_device_of_two_accounts() {
    let world = World::new();
    let (alice, mallory) = (world.registered("alice"), world.registered("mallory"));
    // Mallory has seen the text, and is quicker.
    let new = elsewhere(&world, &alice, "laptop");
    let (running, text) = offers(&new);
    running.kill();
    let stealing = Running::start(mallory.command(&["device", "add", &text, "--yes"]));
    let (mut running, _) = offers(&new);
    let answer = running.until(|line| line["type"] == "answer");
    assert_eq!(answer["account"], mallory.account(), "a person sees whose it is");
    let said = alice.fails(&["device", "add", &text, "--yes"], 1);
    assert!(said.to_string().contains("somebody else"), "{said}");
    assert_eq!(alice.ok(&["device", "list"])[0]["devices"].as_array().unwrap().len(), 1);
    stealing.kill();
    running.kill();
    // Whoever answers yes to that is Mallory's, if she was still there.
    let devices =
        |whose: &Person| whose.ok(&["device", "list"])[0]["devices"].as_array().unwrap().len();
    let hers = devices(&mallory);

    // The other way round: who comes late is told that the text is taken.
    let tablet = linked(&world, &alice, "tablet");
    let (mut running, text) = offers(&elsewhere(&world, &alice, "watch"));
    alice.ok(&["device", "add", &text, "--yes"]);
    running.until(|line| line["type"] == "linked");
    let said = mallory.fails(&["device", "add", &text, "--yes"], 1);
    assert!(said.to_string().contains("somebody else"), "{said}");
    assert_eq!(devices(&tablet), 3);
    assert_eq!(devices(&mallory), hers);
}

#[test]
fn texts_that_nobody_waits_with_are_refused_in_words() {
    let world = World::new();
    let alice = world.registered("alice");
    let said = alice.fails(&["device", "add", "causeway://join/eyJ2", "--yes"], 2);
    assert!(said.to_string().contains("causeway://link/"), "{said}");
    let new = elsewhere(&world, &alice, "laptop");
    let (running, text) = offers(&new);
    running.kill();
    // Without a terminal nobody is asked, and nothing is signed.
    let said = alice.fails(&["device", "add", &text], 2);
    assert!(said.to_string().contains("--yes"), "{said}");
    let said = new.fails(&["device", "link"], 2);
    assert!(said.to_string().contains("--yes"), "{said}");
    // An account of another server.
    let other = crate::cli_server::Server::named("b.example");
    let away = Person { url: other.url(), ..world.person("bob") };
    away.ok(&["register", "bob"]);
    let said = away.fails(&["device", "add", &text, "--yes"], 1);
    assert!(said.to_string().contains("native.example"), "{said}");
    // This folder is nobody's, and may become somebody else's.
    new.fails(&["whoami"], 3);
    new.ok(&["register", "carol"]);
    let said = new.fails(&["device", "link", "--yes"], 1);
    assert!(said.to_string().contains("already the home of carol"), "{said}");
}

/// A server that is put back to before a device was taken out, by accident or not, does not bring it in
/// again with the next one that is linked.
#[test]
fn a_list_that_goes_back_brings_no_device_back() {
    let mut world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let thief = linked(&world, &alice, "lost");
    world.server.stop();
    let before = world.server.backup();
    world.server.start_again();
    alice.ok(&["device", "remove", &device(&thief), "--yes"]);
    world.server.stop();
    world.server.restore(&before);
    world.server.start_again();
    let laptop = linked(&world, &alice, "laptop");
    let listed = alice.ok(&["device", "list"]);
    assert_eq!(
        (listed[0]["version"].as_u64(), listed[0]["devices"].as_array().unwrap().len()),
        (Some(4), 2)
    );
    assert!(
        listed[0]["devices"].as_array().unwrap().iter().all(|d| d["device_id"] != device(&thief))
    );
    bob.read();
    bob.ok(&["send", "team", "not for the thief"]);
    assert_eq!(laptop.texts(), ["not for the thief"]);
    thief.fails(&["tail", "--once"], 3);
}

/// Somebody who meets a device only when it was taken out already reads what it said while it was in.
#[test]
fn what_a_device_said_before_it_was_taken_out_is_read_by_who_never_met_it() {
    for scheme in ["sender-keys", "pairwise", "shared-key"] {
        let world = World::new();
        let (alice, eve) = (world.registered("alice"), world.registered("eve"));
        let laptop = linked(&world, &alice, "laptop");
        alice.ok(&["group", "create", "team", "--scheme", scheme]);
        alice.ok(&["member", "add", "team", "eve"]);
        eve.ok(&["group", "accept", "team"]);
        for one in [&laptop, &alice, &laptop] {
            one.read();
        }
        laptop.ok(&["send", "team", "said while it was in"]);
        alice.ok(&["device", "remove", &device(&laptop), "--yes"]);
        alice.ok(&["send", "team", "said after it"]);
        let mut read = eve.texts();
        read.extend(eve.texts());
        read.sort();
        assert_eq!(read, ["said after it", "said while it was in"], "{scheme}");
    }
}

#[test]
fn the_server_of_a_new_device_is_named_in_each_way_that_the_help_names() {
    let world = World::new();
    let url = world.server.url();
    let linking = |folder: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway-client"));
        command.env_clear().args(["--output", "json", "--home"]).arg(world.person(folder).home);
        command.args(["device", "link", "--yes"]).args(arguments).stdin(Stdio::null());
        command
    };
    for (folder, arguments) in
        [("one", &["--server", &url][..]), ("two", &["b.example", "--server", &url])]
    {
        let mut running = Running::start(linking(folder, arguments));
        running.until(|line| line["type"] == "offer");
        running.kill();
    }
    // By its name alone: it is looked up, which nobody answers here.
    let ended = ended(linking("three", &["b.invalid"]).output().unwrap());
    assert!(
        ended.stderr.contains("cannot reach the server: https://b.invalid"),
        "{}",
        ended.stderr
    );
}

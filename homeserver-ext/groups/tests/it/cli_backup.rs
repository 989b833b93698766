//! Backups of a home, as a person makes them and puts them back.

use std::fs;

use serde_json::Value;

use crate::cli_world::{Person, World, texts};

fn backup(world_of: &Person, name: &str) -> String {
    world_of.home.with_extension(name).to_str().unwrap().to_owned()
}

/// Loses the home, but for the storage key, which is kept elsewhere.
fn lose(person: &Person) {
    for file in fs::read_dir(&person.home).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap() != "storage.key" {
            fs::remove_file(path).unwrap();
        }
    }
}

fn what(said: &Value) -> &str {
    said["error"]["what"].as_str().unwrap()
}

#[test]
fn a_home_that_was_lost_goes_on_from_a_backup_made_while_it_was_used() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let lines: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    let mut tail = bob.tail(&[]);
    let copy = backup(&bob, "copy");
    let mut send = crate::cli_world::Running::start(alice.command(&["send", "team", "--lines"]));
    for (n, line) in lines.iter().enumerate() {
        assert!(send.give(&format!("{line}\n")));
        if n == 29 {
            tail.until(|line| line["body"] == "19");
            let made = bob.ok(&["backup", "create", &copy]).remove(0);
            assert_eq!((&made["storage_key"], &made["backup"]), (&false.into(), &(*copy).into()));
        }
    }
    tail.until(|line| line["body"] == "59");
    tail.stop();
    assert!(send.kill().len() > 29);
    bob.ok(&["send", "team", "from bob"]);
    assert_eq!(alice.texts(), ["from bob"]);
    assert_eq!(bob.ok(&["backup", "verify", &copy])[0]["whole"], true);

    lose(&bob);
    let restored = bob.ok(&["backup", "restore", &copy]).remove(0);
    assert_eq!((&restored["storage_key"], &restored["moved_aside"]), (&true.into(), &Value::Null));
    // What it had is there; what it had told the server to forget is in no other place.
    let had = texts(&bob.ok(&["tail", "--once", "--since", "0"]));
    assert!(had.len() >= 20 && had == lines[..had.len()], "{had:?}");
    for text in ["from bob again", "and again"] {
        bob.ok(&["send", "team", text]);
    }
    assert_eq!(alice.texts(), ["from bob again", "and again"]);
    alice.ok(&["send", "team", "welcome back"]);
    assert_eq!(bob.texts(), ["welcome back"]);
}

#[test]
fn a_backup_is_put_back_into_the_right_place_or_nowhere() {
    let world = World::new();
    let bob = world.registered("bob");
    let copy = backup(&bob, "copy");
    bob.ok(&["backup", "create", &copy]);
    let said = bob.fails(&["backup", "create", &copy], 1);
    assert!(what(&said).contains("already"), "{said}");
    assert_eq!(said["error"]["next"], "Name another folder.", "create moves nothing aside");
    let said = bob.fails(&["backup", "restore", &copy], 1);
    assert!(said["error"]["next"].as_str().unwrap().contains("--move-aside"), "{said}");
    let home = bob.home.to_str().unwrap();
    let said = bob.fails(&["backup", "restore", home], 2);
    assert!(what(&said).contains("manifest.json"), "{said}");
    // Somebody uses it.
    let mut tail = bob.tail(&[]);
    bob.ok(&["group", "create", "walkers"]);
    tail.until(|line| line["type"] == "roster");
    let said = bob.fails(&["backup", "restore", &copy, "--move-aside"], 1);
    assert!(what(&said).contains("in use"), "{said}");
    tail.stop();

    let database = std::path::Path::new(&copy).join("client.db");
    let whole = fs::read(&database).unwrap();
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    fs::write(&database, bytes).unwrap();
    for command in ["verify", "restore"] {
        assert!(what(&bob.fails(&["backup", command, &copy], 1)).contains("damaged"));
    }
    fs::write(&database, whole).unwrap();
    let restored = bob.ok(&["backup", "restore", &copy, "--move-aside"]).remove(0);
    let aside = restored["moved_aside"].as_str().unwrap();
    assert!(std::path::Path::new(aside).join("client.db").exists());
    assert_eq!(bob.ok(&["whoami"])[0]["account"], bob.account());
    // On another machine, before the key is there.
    let elsewhere = world.person("elsewhere");
    assert_eq!(elsewhere.ok(&["backup", "restore", &copy])[0]["storage_key"], false);
    assert!(what(&elsewhere.fails(&["whoami"], 1)).contains("storage"));
}

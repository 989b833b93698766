//! What the command line says of itself, and how it ends.

use std::{os::unix::fs::PermissionsExt as _, process::Command};

use serde_json::Value;

use crate::cli_world::World;

const COMMANDS: &[&[&str]] = &[
    &[],
    &["register"],
    &["recover"],
    &["login"],
    &["whoami"],
    &["group"],
    &["group", "create"],
    &["group", "list"],
    &["group", "show"],
    &["group", "leave"],
    &["group", "close"],
    &["group", "forget"],
    &["group", "bridge"],
    &["group", "fork"],
    &["group", "fork", "show"],
    &["group", "fork", "keep"],
    &["group", "fork", "adopt"],
    &["invite"],
    &["invite", "create"],
    &["invite", "accept"],
    &["invite", "show"],
    &["invite", "list"],
    &["invite", "revoke"],
    &["member"],
    &["member", "list"],
    &["member", "add"],
    &["member", "remove"],
    &["member", "role"],
    &["settings"],
    &["settings", "list"],
    &["settings", "get"],
    &["settings", "set"],
    &["send"],
    &["tail"],
    &["chat"],
    &["history"],
    &["search"],
    &["backup"],
    &["backup", "create"],
    &["backup", "verify"],
    &["backup", "restore"],
    &["backup", "export"],
    &["backup", "import"],
];

#[test]
fn every_command_explains_itself() {
    for command in COMMANDS {
        let run = Command::new(env!("CARGO_BIN_EXE_causeway-client"))
            .args(*command)
            .arg("--help")
            .output()
            .unwrap();
        assert!(run.status.success(), "{command:?}");
        let said = String::from_utf8(run.stdout).unwrap();
        assert!(said.contains("Usage:") && said.contains("--output"), "{command:?}: {said}");
        let has_commands = said.contains("Commands:");
        assert!(has_commands || said.contains("Examples:"), "{command:?}: {said}");
    }
}

#[test]
fn wrong_usage_ends_with_2_and_changes_nothing() {
    let world = World::new();
    let nobody = world.person("nobody");
    for wrong in [
        &["no-such-command"] as &[&str],
        &["group", "create"],
        &["member", "role", "g", "a", "bridge"],
        &["invite", "create", "g", "--uses", "0"],
        &["send"],
        &["send", "g", "--resume", "x"],
        &["tail", "--since", "one"],
        &["history", "g", "--before", "1", "--after", "2"],
        &["history", "g", "--limit", "0"],
        &["search"],
        &["register", "Not A Name"],
    ] {
        let said = nobody.fails(wrong, 2);
        let what = said["error"]["what"].as_str();
        assert!(what.is_some_and(|what| !what.starts_with("error")), "{wrong:?}: {said}");
    }
    let bad_url = world.person_at("nobody", "b.example");
    bad_url.fails(&["register", "bob"], 2);
}

#[test]
fn without_a_login_everything_ends_with_3_and_makes_no_folder() {
    let world = World::new();
    let nobody = world.person("nobody");
    for command in [
        &["whoami"] as &[&str],
        &["login"],
        &["group", "list"],
        &["send", "g", "x"],
        &["tail", "--once"],
        &["invite", "accept", "causeway://join/x"],
        &["backup", "create", "nowhere"],
        &["backup", "export", "nowhere"],
    ] {
        let said = nobody.fails(command, 3);
        assert_eq!(said["error"]["code"], "not_logged_in");
        assert!(said["error"]["next"].as_str().unwrap().contains("register"));
    }
    assert!(!nobody.home.exists());
}

#[test]
fn without_a_server_a_command_ends_with_4_and_says_what_was_changed() {
    let world = World::new();
    let away = world.person_at("away", "http://127.0.0.1:1");
    let said = away.fails(&["register", "away"], 4);
    assert_eq!(said["error"]["code"], "unreachable");
    world.registered("away");
    for command in
        [&["invite", "list", "x"] as &[&str], &["group", "create", "x"], &["tail", "--once"]]
    {
        away.fails(command, 4);
    }
}

#[test]
fn every_command_answers_in_json() {
    let world = World::new();
    let [alice, _bob] = world.group(["alice", "bob"]);
    let one = |arguments: &[&str]| -> Value {
        let lines = alice.ok(arguments);
        assert_eq!(lines.len(), 1, "{arguments:?}");
        lines.into_iter().next().unwrap()
    };
    assert_eq!(one(&["whoami"])["account"], alice.account());
    assert_eq!(one(&["group", "list"])["groups"][0]["name"], "team");
    let shown = one(&["group", "show", "team"]);
    assert_eq!(shown["members"].as_array().unwrap().len(), 2);
    assert_eq!(shown["forked"], false);
    assert_eq!(one(&["group", "fork", "show", "team"])["forked"], false);
    assert!(one(&["invite", "create", "team"])["link"].is_string());
    assert_eq!(one(&["invite", "list", "team"])["invites"].as_array().unwrap().len(), 2);
    assert_eq!(one(&["member", "list", "team"])["members"].as_array().unwrap().len(), 2);
    assert_eq!(one(&["send", "team", "x"])["id"].as_str().unwrap().len(), 22);
    // The group can be named by its id, and by the beginning of it.
    let id = shown["group"].as_str().unwrap();
    assert_eq!(one(&["group", "show", id])["group"], id);
    assert_eq!(one(&["group", "show", &id[..8]])["group"], id);
    alice.fails(&["group", "show", "nowhere"], 2);
}

#[test]
fn a_name_that_means_two_groups_is_refused_with_both() {
    let world = World::new();
    let alice = world.registered("alice");
    let make =
        |name: &str| alice.ok(&["group", "create", name])[0]["group"].as_str().unwrap().to_owned();
    for (refused, code) in [
        (&["group", "create", " "] as &[&str], 2),
        (&["group", "create", &"n".repeat(256)], 2),
        (&["group", "create", "tea\n[team] bob: yes"], 2),
    ] {
        alice.fails(refused, code);
    }
    // One id in 64 begins like an option, which no name that is given may.
    let plain = || std::iter::repeat_with(|| make("team")).find(|id| !id.starts_with('-')).unwrap();
    let (one, two) = (plain(), plain());
    for arguments in [
        &["send", "team", "to whom?"] as &[&str],
        &["history", "team"],
        &["group", "rename", "team", "mine"],
        &["group", "bridge", "team"],
        &["member", "list", "team"],
    ] {
        let said = alice.fails(arguments, 2);
        let next = said["error"]["next"].as_str().unwrap();
        assert!(next.contains(&one) && next.contains(&two), "{next}");
        assert!(next.contains(&format!("made by {}, 1 members", alice.account())), "{next}");
        // A command that is there to be pasted would choose one: a stranger's, perhaps.
        assert!(next.starts_with("Say which") && !next.contains("causeway-client"), "{next}");
    }
    // As it says.
    alice.ok(&["send", &two[..8], "this one"]);
    // Nobody can stand before a group by taking the beginning of its id as a name.
    let impostor = make(&one[..6]);
    let said = alice.fails(&["send", &one[..6], "to whom?"], 2);
    assert!(said["error"]["next"].as_str().unwrap().contains(&impostor));
    alice.ok(&["send", &one, "to this one"]);
}

#[test]
fn a_token_is_read_from_a_small_file_alone() {
    let world = World::new();
    let alice = world.person("alice");
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("long");
    std::fs::write(&long, vec![b'x'; 1024 * 1024 + 1]).unwrap();
    for (path, why) in [
        (folder.path(), "it is a folder"),
        (&*folder.path().join("nowhere"), "there is no such file"),
        (&*long, "it is longer than 1024 KiB"),
        // Which has no end.
        (std::path::Path::new("/dev/zero"), "it is a device"),
    ] {
        let path = path.to_str().unwrap();
        let said = alice.fails(&["register", "alice", "--token-file", path], 2);
        let of = |field: &str| said["error"][field].as_str().unwrap_or_default();
        assert!(of("what").starts_with(&format!("cannot read {path}: {why}")), "{said}");
        assert!(of("next").contains("CAUSEWAY_REGISTRATION_TOKEN"), "{said}");
    }
    let right = folder.path().join("token");
    std::fs::write(&right, "a token\n").unwrap();
    alice.ok(&["register", "alice", "--token-file", right.to_str().unwrap()]);
}

#[test]
fn a_wrong_storage_key_is_refused_and_nothing_is_written() {
    let world = World::new();
    let alice = world.registered("alice");
    let key = alice.home.join("storage.key");
    let right = std::fs::read(&key).unwrap();
    let file = alice.home.join("client.db");
    // Into the file goes what a command that ended left in the write-ahead log.
    let settle = || alice.meddle(&["PRAGMA wal_checkpoint(TRUNCATE)"]);
    settle();
    let database = || std::fs::read(&file).unwrap();
    let before = database();
    for wrong in [Some(vec![7; 32]), Some(vec![7; 31]), None] {
        match wrong {
            Some(bytes) => std::fs::write(&key, bytes).unwrap(),
            None => std::fs::remove_file(&key).unwrap(),
        }
        let said = alice.fails(&["whoami"], 1);
        assert!(said["error"]["what"].as_str().unwrap().contains("storage"), "{said}");
        assert_eq!(database(), before);
    }
    // Also where tables are to be brought up to date, which opening the database would do.
    alice.meddle(&["DELETE FROM schema_versions WHERE schema_name = 'client'"]);
    settle();
    let behind = database();
    std::fs::write(&key, [7; 32]).unwrap();
    let said = alice.fails(&["whoami"], 1);
    assert!(said["error"]["what"].as_str().unwrap().contains("storage"), "{said}");
    settle();
    assert_eq!(database(), behind);
    std::fs::write(&file, before).unwrap();
    std::fs::write(&key, right).unwrap();
    alice.ok(&["whoami"]);
}

#[test]
fn whatever_the_umask_a_home_is_its_owners() {
    let world = World::new();
    let alice = world.person("alice");
    for arguments in [&["register", "alice"][..], &["group", "create", "team"], &["tail", "--once"]]
    {
        let command = alice.command(arguments);
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 0; exec \"$0\" \"$@\""]).arg(command.get_program());
        assert!(shell.args(command.get_args()).output().unwrap().status.success(), "{arguments:?}");
    }
    let files = std::fs::read_dir(&alice.home).unwrap().map(Result::unwrap);
    let modes = files.map(|file| (file.path(), file.metadata().unwrap().permissions().mode()));
    let open: Vec<_> = modes.filter(|(_, mode)| mode & 0o077 != 0).collect();
    assert!(open.is_empty(), "{open:?}");
    assert!(alice.home.join("tail.lock").exists());
}

/// One in 64 of all ids begins so.
const ID: &str = "-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn an_id_that_begins_like_a_flag_is_an_id_and_flags_are_flags() {
    let world = World::new();
    let alice = world.registered("alice");
    alice.ok(&["group", "create", "team"]);
    for command in [
        &["group", "show"] as &[&str],
        &["group", "accept"],
        &["group", "leave"],
        &["group", "close"],
        &["group", "forget"],
        &["group", "bridge", "--yes"],
        &["group", "fork", "show"],
        &["group", "fork", "keep"],
        &["group", "fork", "adopt"],
        &["invite", "create", "--uses", "2"],
        &["invite", "list"],
        &["member", "list", "--limit", "5"],
        &["send", "--timeout", "5"],
        &["tail", "--once", "--group"],
    ] {
        for rest in [&[][..], &["--output", "json"]] {
            let said = alice.fails(&[command, &[ID], rest].concat(), 2);
            let what = said["error"]["what"].as_str().unwrap();
            assert!(what.contains(&format!("no group `{ID}`")), "{command:?}: {said}");
        }
        let wrong = [command, &["team", "--no-such-flag"]].concat();
        let said = alice.fails(&wrong, 2);
        let what = said["error"]["what"].as_str().unwrap();
        assert!(what.contains("unexpected argument '--no-such-flag'"), "{command:?}: {said}");
    }
    for (command, code) in [
        (&["member", "add", "team", "-bob"] as &[&str], 1),
        (&["member", "remove", "team", "-bob"], 1),
        (&["member", "accept", "team", "-bob", "--fingerprint", "1"], 1),
        (&["member", "role", "team", "-bob", "admin"], 1),
        (&["verify", "-bob", "--yes"], 1),
        (&["invite", "revoke", "team", ID], 1),
        (&["member", "role", ID, "bob", "admin"], 2),
        (&["member", "add", ID, "bob"], 2),
        (&["member", "remove", ID, "bob"], 2),
        (&["member", "accept", ID, "bob"], 2),
        (&["invite", "revoke", ID, "-x"], 2),
    ] {
        let said = alice.fails(command, code);
        assert!(!said.to_string().contains("unexpected argument"), "{command:?}: {said}");
    }
    assert!(alice.ok(&["pins", "--from", "-bob"])[0]["pins"].is_array());
    let answer = format!("{ID}/-AAAAAAAAAAAAAAAAAAAAA");
    alice.ok(&["send", "team", "--reply-to", &answer, "a text"]);
}

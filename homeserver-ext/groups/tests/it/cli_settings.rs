//! `settings` through the real binary and a real server.

use serde_json::{Value, json};

use crate::cli_world::World;

fn what(error: &Value) -> String {
    format!("{} {}", error["error"]["what"], error["error"]["next"])
}

#[test]
fn an_admin_sets_what_all_in_the_group_then_have() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let of_team = |name| ["settings", "get", name, "--group", "team"];
    let listed = alice.ok(&["settings", "list", "--group", "team"]);
    let settings = listed[0]["settings"].as_array().unwrap();
    let values: Vec<_> =
        settings.iter().map(|it| (it["name"].as_str().unwrap(), &it["value"])).collect();
    assert_eq!(
        values,
        [
            ("key_rotation_interval", &json!(86_400)),
            ("added_by", &json!("known")),
            ("message_ttl", &json!(2_592_000)),
            ("max_members", &json!(1_000)),
            ("members_may_add", &json!(false)),
            ("channel", &json!(false)),
        ]
    );
    for of in settings {
        assert_eq!(of["value"], of["default"], "{of}");
        assert!(of["meaning"].is_string() && of["range"].is_string(), "{of}");
    }
    for (name, value, is) in [
        ("message_ttl", "12h", json!(43_200)),
        ("max_members", "2", json!(2)),
        ("members_may_add", "yes", json!(true)),
        ("channel", "yes", json!(true)),
    ] {
        let set = ["settings", "set", name, value, "--group", "team"];
        let first = &alice.ok(&set)[0];
        assert_eq!(first["value"], is);
        assert_eq!(alice.ok(&set)[0]["epoch"], first["epoch"], "{name}: once");
        assert_eq!(bob.ok(&of_team(name))[0]["value"], is);
    }
    assert_eq!(bob.as_text(&of_team("message_ttl")), "12 hours\n");
    assert!(bob.as_text(&["group", "show", "team"]).contains("kept for      12 hours"));
    // They hold: he may not write, and nobody comes in.
    bob.fails(&["send", "team", "may I?"], 1);
    let said = bob.fails(&["settings", "set", "channel", "no", "--group", "team"], 1);
    assert!(what(&said).contains("admin"), "{said}");
    alice.ok(&["settings", "set", "channel", "default", "--group", "team"]);
    bob.ok(&["tail", "--once"]);
    bob.ok(&["send", "team", "now"]);
}

#[test]
fn what_is_not_one_is_refused_with_what_it_may_be() {
    let world = World::new();
    let alice = world.registered("alice");
    alice.ok(&["group", "create", "pair", "--scheme", "pairwise"]);
    let carol = world.registered("carol");
    for (name, value, says) in [
        ("message_ttl", "59", "30 days"),
        ("message_ttl", "31d", "30 days"),
        ("message_ttl", "soon", "12h"),
        ("max_members", "501", "1 to 500"),
        ("max_members", "0", "1 to 500"),
        ("channel", "perhaps", "yes, no"),
    ] {
        let said = alice.fails(&["settings", "set", name, value, "--group", "pair"], 2);
        assert!(what(&said).contains(says), "{name}: {said}");
        carol.fails(&["settings", "set", name, value, "--group", "pair"], 2);
    }
    let said = alice.fails(&["settings", "get", "channel"], 2);
    assert!(what(&said).contains("--group"), "{said}");
    alice.fails(&["settings", "get", "added_by", "--group", "pair"], 2);
    alice.fails(&["settings", "get", "no_such"], 2);
}

#[test]
fn a_clients_own_settings_are_its_own_and_stay() {
    let world = World::new();
    let alice = world.registered("alice");
    let interval = |value| ["settings", "set", "key_rotation_interval", value];
    assert_eq!(alice.ok(&interval("12h"))[0]["value"], 43_200);
    for (value, says) in [("599", "10 minutes to 7 days"), ("8d", "10 minutes to 7 days")] {
        let said = alice.fails(&interval(value), 2);
        assert!(what(&said).contains(says), "{said}");
    }
    assert_eq!(alice.ok(&["settings", "get", "key_rotation_interval"])[0]["value"], 43_200);
    assert_eq!(alice.ok(&interval("default"))[0]["value"], 86_400);
    assert_eq!(alice.ok(&["settings", "set", "added_by", "none"])[0]["value"], "none");
    assert_eq!(alice.ok(&["group", "added-by"])[0]["added_by"], "none");
    let said = alice.fails(&["settings", "set", "added_by", "friends"], 2);
    assert!(what(&said).contains("known, all, none"), "{said}");
    assert!(alice.as_text(&["settings", "list"]).contains("--group GROUP"));
}

#[test]
fn what_is_no_id_of_a_message_is_answered_with_what_one_looks_like() {
    let world = World::new();
    let alice = world.registered("alice");
    alice.ok(&["group", "create", "pw", "--scheme", "pairwise"]);
    let said = alice.fails(&["message", "status", "pw", "abc"], 2);
    let said = said["error"]["what"].as_str().unwrap();
    assert!(said.contains("22 letters") && !said.contains("16 bytes"), "{said}");
}

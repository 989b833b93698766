//! Links as clients of `opus_v1` write them: made, shown and followed by the real binary; what somebody has
//! changed in one is refused, and nothing was asked then.

use base64::{
    Engine as _,
    engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::cli_world::World;

const BEGINNING: &str = "discordopus://join/";

fn read(link: &str) -> Value {
    let encoded = link.strip_prefix(BEGINNING).unwrap();
    serde_json::from_slice(&URL_SAFE.decode(encoded).unwrap()).unwrap()
}

fn write(invite: &Value) -> String {
    format!("{BEGINNING}{}", URL_SAFE.encode(invite.to_string()))
}

#[test]
fn an_invite_of_an_opus_v1_group_lets_in_by_either_link() {
    let world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|name| world.registered(name));
    alice.ok(&["group", "create", "team", "--legacy", "opus_v1"]);
    let made = &alice.ok(&["invite", "create", "team", "--uses", "2"])[0];
    let (link, legacy) = (made["link"].as_str().unwrap(), made["legacy_link"].as_str().unwrap());
    let said = read(legacy);
    let shown = &alice.ok(&["group", "show", "team"])[0];
    assert_eq!((&said["g"], &said["n"]), (&shown["legacy_id"], &json!("team")));
    assert_eq!(said["t"], link);
    let id = shown["legacy_id"].as_str().unwrap();
    assert!(alice.as_text(&["group", "show", "team"]).contains(&format!("legacy id     {id}\n")));
    let text = alice.as_text(&["invite", "create", "team"]);
    let lines: Vec<_> = text.lines().filter(|line| line.contains("://")).collect();
    assert!(matches!(lines[..], [a, b] if a.starts_with("causeway") && b.starts_with(BEGINNING)));

    let of_ours = &bob.ok(&["invite", "show", link])[0];
    assert_eq!(of_ours, &bob.ok(&["invite", "show", legacy])[0]);
    assert_eq!((&of_ours["group"], &of_ours["uses"]), (&shown["group"], &json!(2)));
    assert!(bob.as_text(&["invite", "show", legacy]).contains("by          alice:native.example"));

    let tail = alice.tail(&[]);
    let joined = &bob.ok(&["invite", "accept", legacy])[0];
    assert_eq!(joined["group"], shown["group"]);
    tail.stop();
    bob.ok(&["send", "team", "I am in"]);
    assert_eq!(alice.texts(), ["I am in"]);
    alice.ok(&["invite", "revoke", "team", legacy]);
    world.registered("carol").fails(&["invite", "accept", legacy], 1);
}

#[test]
fn other_groups_have_no_such_link() {
    let world = World::new();
    let alice = world.registered("alice");
    for (name, legacy) in [("a", &[][..]), ("b", &["--legacy", "ren_a"])] {
        alice.ok(&[&["group", "create", name], legacy].concat());
        let made = &alice.ok(&["invite", "create", name])[0];
        assert_eq!(made["legacy_link"], Value::Null);
    }
    let [ours, ren_a] = ["a", "b"].map(|name| alice.ok(&["group", "show", name])[0].clone());
    assert_eq!(ours["legacy_id"], Value::Null);
    assert!(ren_a["legacy_id"].as_str().unwrap().parse::<i32>().is_ok());
    // An upgrade ends it.
    alice.ok(&["group", "create", "c", "--legacy", "opus_v1"]);
    alice.ok(&["group", "upgrade", "c", "--yes"]);
    assert_eq!(alice.ok(&["invite", "create", "c"])[0]["legacy_link"], Value::Null);
    assert_eq!(alice.ok(&["group", "show", "c"])[0]["legacy_id"], Value::Null);
}

#[test]
fn a_hostile_link_is_refused_and_asks_nobody() {
    let world = World::new();
    let [alice, bob] = ["alice", "bob"].map(|name| world.registered(name));
    let [one, other] = ["one", "other"].map(|name| {
        alice.ok(&["group", "create", name, "--legacy", "opus_v1"]);
        alice.ok(&["invite", "create", name])[0]["legacy_link"].as_str().unwrap().to_owned()
    });
    let (whole, another) = (read(&one), read(&other));
    let with = |field: &str, value: &Value| {
        let mut changed = whole.clone();
        changed[field] = value.clone();
        write(&changed)
    };
    let other_program = with("t", &json!("secrets.token_urlsafe(24)"));
    let token = whole["t"].as_str().unwrap().strip_prefix("causeway://join/").unwrap();
    let signed = String::from_utf8(URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
    assert!(signed.contains("\"u\":1,"));
    let tampered = URL_SAFE_NO_PAD.encode(signed.replace("\"u\":1,", "\"u\":9,"));
    let tampered = format!("causeway://join/{tampered}");
    for (link, code, why) in [
        (with("g", &another["g"]), 1, "names another group"),
        (with("t", &another["t"]), 1, "names another group"),
        (with("c", &json!("00".repeat(32))), 1, "names another group"),
        (with("n", &json!("the bank")), 1, "names another group"),
        (with("e", &json!(whole["e"].as_u64().unwrap() + 1)), 1, "names another group"),
        (with("e", &json!(1)), 1, "expired"),
        (with("t", &json!(tampered)), 1, "not as its maker made it"),
        (other_program, 2, "of another program"),
        (format!("{BEGINNING}!!!"), 2, "not whole"),
        (one.trim_end_matches('=').to_owned() + "====", 2, "not whole"),
        (one[..one.len() / 2].to_owned(), 2, "not whole"),
        (with("t", &json!("x".repeat(10_000))), 2, "not whole"),
        (write(&json!({"g": 1})), 2, "not whole"),
        (write(&json!([])), 2, "not whole"),
        (BEGINNING.to_owned(), 2, "not whole"),
    ] {
        for command in ["show", "accept"] {
            let said = bob.fails(&["invite", command, &link], code);
            let what = said["error"]["what"].as_str().unwrap();
            assert!(what.contains(why), "{command} {link}: {said}");
            assert!(said["error"]["next"].is_string());
        }
    }
    assert_eq!(bob.ok(&["group", "list"])[0]["groups"], json!([]));
    alice.read();
    for name in ["one", "other"] {
        let invites = &alice.ok(&["invite", "list", name])[0]["invites"];
        assert_eq!(invites[0]["used"], 0);
    }
}

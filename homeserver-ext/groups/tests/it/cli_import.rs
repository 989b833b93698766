//! `import secirc`: what another program has kept, read and found, once, and called unverified.

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::cli_world::{Person, World};

const VECTORS: &str = include_str!("../../../protocol/tests/vectors/seed003.json");

/// The vectors as an export, and how many of their messages are text.
fn export() -> (Value, usize) {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let keys = vectors["group_keys"].as_array().unwrap().clone();
    let group = keys[0]["group_id"].clone();
    let mut texts = 0;
    let messages: Vec<Value> = vectors["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| {
            let plaintext = hex::decode(message["plaintext"].as_str().unwrap()).unwrap();
            texts += usize::from(String::from_utf8(plaintext).is_ok());
            let mut message = message.clone();
            message["group_id"] = group.clone();
            message["signature"] = message["signature_hmac"].take();
            message
        })
        .collect();
    (json!({"group_keys": keys, "messages": messages}), texts)
}

fn write(person: &Person, export: &Value) -> String {
    let path = person.home.join("export.json");
    std::fs::write(&path, export.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Only those messages whose plaintext is text.
fn text_only(mut export: Value) -> Value {
    let messages = export["messages"].as_array_mut().unwrap();
    messages.retain(|message| {
        let plaintext = hex::decode(message["plaintext"].as_str().unwrap()).unwrap();
        String::from_utf8(plaintext).is_ok()
    });
    export
}

#[test]
fn what_secirc_kept_is_read_once_found_and_called_unverified() {
    let world = World::new();
    let alice = world.registered("alice");
    let (whole, texts) = export();
    assert!(texts >= 3);
    let mut named = text_only(whole);
    named["groups"] =
        json!([{"group_id": named["group_keys"][0]["group_id"], "name": "old\u{1b}[2J"}]);
    let file = write(&alice, &named);
    let done = &alice.ok(&["import", "secirc", &file])[0];
    assert_eq!((done["imported"].as_u64(), done["known"].as_u64()), (Some(texts as u64), Some(0)));
    let again = &alice.ok(&["import", "secirc", &file])[0];
    assert_eq!(
        (again["imported"].as_u64(), again["known"].as_u64()),
        (Some(0), Some(texts as u64))
    );

    let list = &alice.ok(&["import", "list"])[0]["groups"];
    assert_eq!(list[0]["name"], "old\u{1b}[2J");
    let id = list[0]["group"].as_str().unwrap();
    // Without a server, by its name or its id; it did not come in, so `tail` does not show it.
    let away = world.person_at("alice", "http://127.0.0.1:1");
    let lines = away.ok(&["history", id]);
    assert_eq!(lines.len(), texts);
    assert!(lines.iter().all(|line| line["type"] == "imported" && line["source"] == "secirc"));
    assert!(lines.is_sorted_by_key(|line| line["sent_at_ms"].as_u64()));
    assert_eq!(away.ok(&["history", "old\u{1b}[2J"]), lines);
    let found = away.ok(&["search", "hello", "GROUP"]);
    assert!(!found.is_empty());
    let says = |line: &Value| line["body"].as_str().unwrap().contains("Hello group!");
    assert!(found.iter().all(says), "{found:?}");
    let text = away.as_text(&["history", id]);
    assert!(text.contains("(secirc, imported, not verified): Hello group!"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(alice.read().is_empty());
    // It is no group to send to.
    alice.fails(&["send", id, "hello?"], 2);

    alice.ok(&["import", "forget", id, "--yes"]);
    assert_eq!(alice.ok(&["import", "list"])[0]["groups"], json!([]));
    assert!(alice.ok(&["search", "hello"]).is_empty());
    alice.fails(&["import", "forget", id, "--yes"], 2);
    let back = &alice.ok(&["import", "secirc", &file])[0];
    assert_eq!(back["imported"].as_u64(), Some(texts as u64));
}

#[test]
fn what_does_not_open_is_left_out_with_its_reason() {
    let world = World::new();
    let alice = world.registered("alice");
    let (whole, texts) = export();
    let all = whole["messages"].as_array().unwrap().len();
    let file = write(&alice, &whole);
    let said = alice.fails(&["import", "secirc", &file], 1);
    assert_eq!(said["error"]["what"], format!("{} messages were not imported", all - texts));
    assert!(said["error"]["next"].as_str().unwrap().contains("it is no UTF-8 text"), "{said}");

    for (field, value, why) in [
        ("nonce", json!(null), "which nobody can open"),
        ("nonce", json!("00".repeat(12)), "it does not open with its key"),
        ("nonce", json!("00".repeat(11)), "a nonce of 11 bytes"),
        ("sender_id", json!("00".repeat(16)), "its MAC is wrong"),
        ("key_id", json!("00".repeat(16)), "its key is not in the file"),
        ("timestamp", json!(1), "its key was not in use at its time"),
        ("algorithm", json!("rot13"), "unknown variant"),
        ("message_id", json!("00"), "its message_id is not 16 bytes of hex"),
    ] {
        let mut changed = text_only(whole.clone());
        let one = json!([changed["messages"][2].take()]);
        changed["messages"] = one;
        changed["messages"][0][field] = value;
        let said = alice.fails(&["import", "secirc", &write(&alice, &changed)], 1);
        let next = said["error"]["next"].as_str().unwrap();
        assert!(next.contains(why), "{field}: {said}");
    }
}

#[test]
fn what_is_no_export_is_said_to_be_none() {
    let world = World::new();
    let alice = world.registered("alice");
    let file = alice.home.join("export.json");
    let path = file.to_str().unwrap();
    alice.fails(&["import", "secirc", path], 2);
    for (text, why) in [
        ("", "EOF"),
        ("[]", "is no export of secIRC"),
        ("{\"messages\": []}", "group_keys"),
        ("{\"group_keys\": [], \"messages\": []} x", "trailing"),
        (
            "{\"group_keys\": [{\"group_id\": \"00\", \"key_id\": \"00\", \"key\": \"00\", \
             \"created_at\": 0, \"expires_at\": 0}], \"messages\": []}",
            "key 1: its key is not 32 bytes of hex",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let said = alice.fails(&["import", "secirc", path], 2);
        assert!(said["error"]["what"].as_str().unwrap().contains(why), "{text}: {said}");
    }
    std::fs::File::create(&file).unwrap().set_len((64 << 20) + 1).unwrap();
    let said = alice.fails(&["import", "secirc", path], 2);
    assert!(said["error"]["what"].as_str().unwrap().contains("larger than 64 MiB"), "{said}");
    alice.fails(&["import", "secirc", alice.home.to_str().unwrap()], 2);
    // A pipe that nobody writes into is not waited for.
    let pipe = alice.home.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let said = alice.fails(&["import", "secirc", pipe.to_str().unwrap()], 2);
    assert!(said["error"]["what"].as_str().unwrap().contains("no regular file"), "{said}");
    assert_eq!(alice.ok(&["import", "list"])[0]["groups"], json!([]));
}

/// Whoever has the key can write it, under any id and name.
#[test]
fn another_text_under_an_id_that_is_here_is_said_to_be_another() {
    let world = World::new();
    let alice = world.registered("alice");
    let (whole, _) = export();
    let mut first = text_only(whole);
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let mut other = first["messages"][1].clone();
    for field in ["message_id", "sender_id", "timestamp"] {
        other[field] = first["messages"][0][field].clone();
    }
    let of_it = |key: &&Value| key["key_id"] == other["key_id"];
    let key = bytes(&first["group_keys"].as_array().unwrap().iter().find(of_it).unwrap()["key"]);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    for field in ["message_id", "group_id", "sender_id", "encrypted_content"] {
        mac.update(&bytes(&other[field]));
    }
    other["signature"] = json!(hex::encode(mac.finalize().into_bytes()));
    let id = other["message_id"].as_str().unwrap().to_owned();

    let one = json!([first["messages"][0]]);
    first["messages"] = one;
    assert_eq!(alice.ok(&["import", "secirc", &write(&alice, &first)])[0]["imported"], 1);
    let group = alice.ok(&["import", "list"])[0]["groups"][0]["group"].as_str().unwrap().to_owned();
    let before = alice.ok(&["history", &group]);
    first["messages"].as_array_mut().unwrap().push(other);
    let ended = alice.run(&["import", "secirc", &write(&alice, &first)]);
    assert_eq!(ended.status.code(), Some(1));
    let said = &ended.lines[0];
    assert_eq!(
        (&said["imported"], &said["known"], &said["refused"]),
        (&json!(0), &json!(1), &json!(1))
    );
    let reason = format!("message {id}: another of this id and sender is here, and stays");
    assert_eq!(said["reasons"], json!([reason]));
    assert_eq!(alice.ok(&["history", &group]), before);
}

#[test]
fn a_file_of_more_groups_than_there_is_room_for_is_refused_whole() {
    let world = World::new();
    let alice = world.registered("alice");
    let (whole, _) = export();
    let whole = text_only(whole);
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let message = &whole["messages"][0];
    let of_it = |key: &&Value| key["key_id"] == message["key_id"];
    let key = whole["group_keys"].as_array().unwrap().iter().find(of_it).unwrap();
    let (mut keys, mut messages) = (Vec::new(), Vec::new());
    for n in 0..257_u128 {
        let (mut key, mut message) = (key.clone(), message.clone());
        let group = json!(hex::encode(n.to_be_bytes()));
        key["group_id"] = group.clone();
        message["group_id"] = group;
        let mut mac = Hmac::<Sha256>::new_from_slice(&bytes(&key["key"])).unwrap();
        for field in ["message_id", "group_id", "sender_id", "encrypted_content"] {
            mac.update(&bytes(&message[field]));
        }
        message["signature"] = json!(hex::encode(mac.finalize().into_bytes()));
        keys.push(key);
        messages.push(message);
    }
    let file = write(&alice, &json!({"group_keys": keys, "messages": messages}));
    let said = alice.fails(&["import", "secirc", &file], 1);
    assert!(said["error"]["what"].as_str().unwrap().contains("nothing was taken"), "{said}");
    assert_eq!(alice.ok(&["import", "list"])[0]["groups"], json!([]));
    keys.pop();
    messages.pop();
    let file = write(&alice, &json!({"group_keys": keys, "messages": messages}));
    assert_eq!(alice.ok(&["import", "secirc", &file])[0]["imported"], 256);
}

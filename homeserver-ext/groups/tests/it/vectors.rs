//! The published vectors, by the checker that we give to others; and the checker itself.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

#[path = "../../examples/check_vectors/main.rs"]
mod check_vectors;

fn file(name: &str) -> PathBuf {
    let crates = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    crates.join("../protocol/tests/vectors").join(name)
}

/// The lines about `name` after `change`, and whether the file passes.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> (Vec<String>, bool) {
    let mut json: Value = serde_json::from_slice(&fs::read(file(name)).unwrap()).unwrap();
    change(&mut json);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, json.to_string()).unwrap();
    let report = check_vectors::check(&path);
    (report.lines(), report.is_right())
}

#[test]
fn sender_keys_are_the_vectors() {
    let report = check_vectors::check(&file("v2.json"));
    let lines = report.lines();
    assert!(report.is_right(), "{lines:#?}");
    // Of all four suites: nothing is passed over.
    assert!(lines.last().unwrap().ends_with(": 76 checked, 0 failed"), "{lines:#?}");
    assert_eq!(lines.len(), 1, "{lines:#?}");
}

#[test]
fn legacy_suites_are_the_vectors() {
    for (name, checked) in [("seed001.json", 77), ("seed003.json", 32), ("seed004.json", 40)] {
        let report = check_vectors::check(&file(name));
        let lines = report.lines();
        assert!(report.is_right(), "{lines:#?}");
        let all = format!(": {checked} checked, 0 failed");
        assert!(lines.last().unwrap().ends_with(&all), "{lines:#?}");
    }
}

#[test]
fn everything_that_is_built_is_the_vectors() {
    let report = check_vectors::check(&file("native.json"));
    assert!(report.is_right(), "{:#?}", report.lines());
}

#[test]
fn the_checker_sees_a_wrong_byte_and_an_empty_file() {
    let (lines, right) = changed("v2.json", |file| {
        file["chains"][1]["messages"][3]["salt"] = json!("00000000");
    });
    assert!(!right && lines.iter().any(|line| line.contains("FAILED")), "{lines:#?}");

    let (lines, right) = changed("native.json", |file| {
        file["op_negatives"]["items"][0]["reason"] = json!("bad_length");
    });
    assert!(!right && lines.iter().any(|line| line.contains("bad_domain")), "{lines:#?}");

    // Every kind of thing that a file says is compared, not only what the rest is made from.
    for (name, pointer, wrong) in [
        ("v2.json", "/chains/0/messages/0/mk", json!("00".repeat(32))),
        ("v2.json", "/chains/0/covers/1/nodes/0/prefix", json!(7)),
        ("v2.json", "/chains/2/messages/9/mk", json!("00".repeat(32))),
        ("v2.json", "/chains/3/messages/9/wire", json!("24".repeat(120))),
        ("v2.json", "/chains/3/chain_rand", json!("00".repeat(16))),
        ("native.json", "/accounts/safety_numbers/0/sha512", json!("00".repeat(64))),
        ("native.json", "/second_histories/same_op/0/verdict", json!("a fork")),
        ("native.json", "/invites/items/0/json", json!("{}")),
        ("native.json", "/olm_plaintexts/items/0/roster_epoch", json!(4)),
        ("native.json", "/fanout/items/0/aad", json!("00")),
        ("native.json", "/fanout/items/0/pieces/1/id", json!("00".repeat(16))),
        ("native.json", "/fanout/items/1/pieces/0/binding", json!("00".repeat(32))),
        ("native.json", "/fanout/cases/5/result", json!("ok")),
        ("native.json", "/receive_rules/roster_hashes/3", json!("00".repeat(32))),
        ("native.json", "/shared_key/keys/1/messages/2/salt_or_nonce", json!("00".repeat(4))),
        ("native.json", "/shared_key/cases/5/result", json!("ok")),
        ("native.json", "/shared_key/replay_window/steps/1/result", json!("ok")),
        ("native.json", "/k_cases/items/0/result", json!("not_maker")),
        ("native.json", "/k_cases/send_choice/1/send_under", json!("00".repeat(32))),
        ("native.json", "/k_cases/new_key/7/new_key", json!(true)),
        ("seed001.json", "/master_secret_cases/3/signing_seed", json!("00".repeat(32))),
        ("seed001.json", "/messages/9/message_key", json!("00".repeat(32))),
        ("seed001.json", "/deep_chain/25000/chain_key", json!("00".repeat(32))),
        ("seed001.json", "/distribution_plaintext_at_7", json!("{}")),
        ("seed001.json", "/delivery_scripts/2/expect/3", json!("too_old")),
        ("seed001.json", "/negative/4/expect", json!("bad_signature")),
        ("seed001.json", "/attacks_v1_must_still_reject_or_flag/0/name", json!("another")),
        ("seed001.json", "/group_message_envelope_json_len", json!(557)),
        ("seed001.json", "/invites/1/expect_at/4102444801", json!("ok")),
        ("seed001.json", "/invite_negative/0/expect", json!("Invalid invite code encoding")),
        ("seed001.json", "/invite_tokens/0/sha256_hex", json!("00".repeat(32))),
        ("seed003.json", "/group_keys/1/key_id", json!("00".repeat(16))),
        ("seed003.json", "/messages/4/algorithm", json!("aes_256_gcm")),
        ("seed003.json", "/messages/23/signature_hmac", json!("00".repeat(32))),
        ("seed003.json", "/xsalsa20_fixed_nonce24/plaintext", json!("00")),
        ("seed003.json", "/rotation_script/1/accept/0", json!("v3")),
        ("seed004.json", "/messages/5/mk_seed", json!("00".repeat(32))),
        ("seed004.json", "/messages/5/wire_json/iteration", json!(6)),
        ("seed004.json", "/messages_B/2/cipher_key", json!("00".repeat(32))),
        ("seed004.json", "/key_wrap_vectors/1/blob", json!("00".repeat(80))),
        ("seed004.json", "/key_wrap_negative/0/ephemeral_public", json!("09".repeat(32))),
        ("seed004.json", "/delivery_scripts/1/expect/2", json!("ok")),
    ] {
        let (lines, right) = changed(name, |file| *file.pointer_mut(pointer).unwrap() = wrong);
        let seen = lines.iter().any(|line| line.contains("FAILED"));
        assert!(!right && seen, "{pointer}: {lines:#?}");
    }

    let (lines, right) = changed("v2.json", |file| *file = json!({}));
    assert!(!right && lines.last().unwrap().contains("0 checked"), "{lines:#?}");
    assert!(!check_vectors::check(&file("no such file.json")).is_right());
}

#[test]
fn the_checker_names_what_it_does_not_know() {
    for (name, change, section) in [
        ("v2.json", (|file| file["more"] = json!([1])) as fn(&mut Value), "more"),
        ("v2.json", |file| file["chains"][0]["ratchets"] = json!([1]), "ratchets"),
        ("seed001.json", |file| file["more"] = json!([1]), "more"),
        ("native.json", |file| file["epochs"] = json!({"items": []}), "epochs"),
        ("native.json", |file| file["accounts"]["aliases"] = json!([1]), "accounts.aliases"),
        ("native.json", |file| file["format"] = json!("causeway/native-vectors/3"), "people"),
    ] {
        let (lines, right) = changed(name, change);
        let said = format!(": section {section} skipped: not built");
        assert!(!right && lines.iter().any(|line| line.ends_with(&said)), "{lines:#?}");
    }
    for malformed in ["", "{", "[]", "7", "{\"format\":\"causeway/native-vectors/2\"}", "\u{0}"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.json");
        fs::write(&path, malformed).unwrap();
        let report = check_vectors::check(&path);
        let lines = report.lines();
        assert!(!report.is_right() && lines[0].contains("FAILED"), "{malformed}: {lines:#?}");
    }
}

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
    assert!(report.is_right(), "{:#?}", report.lines());
}

#[test]
fn everything_that_is_built_is_the_vectors() {
    let report = check_vectors::check(&file("native.json"));
    let lines = report.lines();
    assert!(lines.last().unwrap().ends_with(" checked, 0 failed"), "{lines:#?}");
    // What is not built is named, and is no success.
    let skipped = lines.iter().filter(|line| line.ends_with("skipped: not built")).count();
    assert_eq!((skipped, report.is_right()), (3, false));
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

    let (lines, right) = changed("v2.json", |file| *file = json!({}));
    assert!(!right && lines.last().unwrap().contains("0 checked"), "{lines:#?}");
    assert!(!check_vectors::check(&file("no such file.json")).is_right());
}

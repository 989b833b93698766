//! What must be true of the workspace as a whole.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Everything that `package` is built from, dev-dependencies of others aside.
fn built_from(metadata: &Value, package: &str) -> BTreeSet<String> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let id = |name: &str| {
        metadata["packages"]
            .as_array()
            .unwrap()
            .iter()
            .find(|p| p["name"] == name)
            .and_then(|p| p["id"].as_str())
            .unwrap()
    };
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![id(package).to_owned()]);
    while let Some(next) = waiting.pop() {
        if !seen.insert(next.clone()) {
            continue;
        }
        let node = nodes.iter().find(|n| n["id"] == *next).unwrap();
        for dependency in node["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|k| k["kind"] != "dev") {
                waiting.push(dependency["pkg"].as_str().unwrap().to_owned());
            }
        }
    }
    seen
}

#[test]
fn the_server_has_no_code_that_could_decrypt() {
    let metadata = metadata();
    let server = built_from(&metadata, "causeway-server");
    let secret = |id: &String| id.contains("groups") && id.contains("causeway");
    assert!(!server.iter().any(secret), "causeway-server depends on causeway-groups");
    // The rule means something only while the walk sees what it should.
    assert!(built_from(&metadata, "causeway-bridge").iter().any(secret));
}

#[test]
fn each_cryptography_crate_stands_in_the_tree_once() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for name in [
        "aes",
        "aes-gcm",
        "chacha20poly1305",
        "curve25519-dalek",
        "ed25519-dalek",
        "libsqlite3-sys",
        "rustls",
        "vodozemac",
        "x25519-dalek",
    ] {
        let times = lock.matches(&format!("name = \"{name}\"\n")).count();
        assert_eq!(times, 1, "{name} stands in Cargo.lock {times} times");
    }
    for name in ["openssl-sys", "aws-lc-rs", "matrix-sdk-sqlite", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{name}\"\n")), "{name} is in Cargo.lock");
    }
}

#[test]
fn secrets_are_wiped_where_a_feature_decides_it() {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    for name in ["aes", "aes-gcm", "curve25519-dalek", "ed25519-dalek", "x25519-dalek"] {
        let node = nodes
            .iter()
            .find(|n| n["id"].as_str().is_some_and(|id| id.contains(&format!("#{name}@"))))
            .unwrap();
        let features = node["features"].as_array().unwrap();
        assert!(features.iter().any(|f| f == "zeroize"), "{name} is built without zeroize");
    }
}

#[test]
fn the_top_level_is_the_architecture() {
    let output = Command::new("git").args(["ls-files"]).current_dir(root()).output().unwrap();
    let top: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|file| file.split('/').next().unwrap().to_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    let wanted = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "appservice.yaml",
        "bridge",
        "docs",
        "homeserver-ext",
        "migrations",
    ];
    assert_eq!(top, wanted.into_iter().map(str::to_owned).collect());
}

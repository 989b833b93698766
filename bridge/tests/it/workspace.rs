//! What must be true of the workspace as a whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// What `package` is built from on this machine, each crate with its features.
///
/// `cargo tree` needs only what building `package` has fetched; `cargo metadata` wants the crates
/// of other platforms as well, which no build here ever fetches. Features that are on by default
/// are left out, because who builds the bridge alone fetches none of the client's command line.
fn built_from(package: &str) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--no-default-features", "--package", package])
        .args(["--edges", "normal,build", "--prefix", "none", "--format", "{p}|{f}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut tree = BTreeMap::<_, BTreeSet<_>>::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        // A crate that stood there before is marked.
        let line = line.strip_suffix(" (*)").unwrap_or(line);
        let (name_and_version, features) = line.split_once('|').unwrap();
        let name = name_and_version.split(' ').next().unwrap();
        tree.entry(name.to_owned()).or_default().extend(features.split(',').map(str::to_owned));
    }
    tree
}

/// Our own code that decrypts, and what else could open a message of ours or of Matrix.
///
/// TLS may come into the server's tree one day; its ring opens only what a connection seals, and
/// stands in nobody's way by these names.
const DECRYPTS: [&str; 7] = [
    "causeway-groups",
    "aes",
    "aes-gcm",
    "chacha20poly1305",
    "matrix-sdk-crypto",
    "vodozemac",
    "xsalsa20poly1305",
];

#[test]
fn the_server_has_no_code_that_could_decrypt() {
    let server = built_from("causeway-server");
    let found: Vec<_> = DECRYPTS.iter().filter(|name| server.contains_key(**name)).collect();
    assert!(found.is_empty(), "causeway-server is built from {found:?}");
    // The rule means something only while the walk sees what it should.
    let bridge = built_from("causeway-bridge");
    for name in ["causeway-groups", "aes", "aes-gcm", "chacha20poly1305", "vodozemac"] {
        assert!(bridge.contains_key(name), "causeway-bridge is built without {name}");
    }
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
    for package in ["causeway-bridge", "causeway-groups"] {
        let tree = built_from(package);
        for name in ["aes", "aes-gcm", "curve25519-dalek", "ed25519-dalek", "x25519-dalek"] {
            assert!(tree[name].contains("zeroize"), "{package} builds {name} without zeroize");
        }
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

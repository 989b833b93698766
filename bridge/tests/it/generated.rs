//! Files in the repository that are made from the code, and must be what the code makes.

use std::{fs, path::Path};

use causeway_bridge::{http, registration::Registration};

#[test]
fn the_example_registration_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../appservice.yaml");
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        Registration::example_file().unwrap(),
        "make it anew: cargo run -- registration --example > appservice.yaml",
    );
}

/// `UPDATE=1 cargo test -p causeway-bridge admin_api` writes it anew.
#[test]
fn the_document_of_the_admin_api_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/admin-openapi.json");
    let made = serde_json::to_string_pretty(&http::openapi()).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let known = fs::read_to_string(path).unwrap_or_default();
    assert!(known == made, "make it anew: UPDATE=1 cargo test -p causeway-bridge admin_api");
}

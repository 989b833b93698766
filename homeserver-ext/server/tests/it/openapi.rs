//! The committed OpenAPI file is what the code says. `UPDATE=1 cargo test -p causeway-server
//! openapi` writes it anew.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

#[test]
fn the_committed_file_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let now = causeway_server::openapi().unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == now, "run: UPDATE=1 cargo test -p causeway-server openapi");
}

#[test]
fn every_route_is_described() {
    let routes = include_str!("../../src/http.rs");
    let document: Value = serde_json::from_str(&causeway_server::openapi().unwrap()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let described: BTreeSet<&str> =
        document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let expected: BTreeSet<String> = routes
        .split(".route(")
        .skip(1)
        .filter_map(|rest| rest.split('"').nth(1))
        .filter(|path| *path != "/ready")
        .map(|path| format!("{}{path}", causeway_protocol::api::PREFIX))
        .collect();
    assert_eq!(described, expected.iter().map(String::as_str).collect());
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(!document["components"]["schemas"][name].is_null(), "{name} is missing");
    }
}

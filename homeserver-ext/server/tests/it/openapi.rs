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

fn document() -> Value {
    serde_json::from_str(&causeway_server::openapi().unwrap()).unwrap()
}

/// Every operation: its name and what the document says of it.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &'_ Value)| {
        let path = path.clone();
        item.as_object().unwrap().keys().map(move |method| (path.clone(), method.clone())).collect()
    };
    let all: Vec<(String, String)> = paths.iter().flat_map(|x| -> Vec<_> { of(x) }).collect();
    all.into_iter()
        .map(|(path, method)| (format!("{method} {path}"), &paths[&path][&method]))
        .collect()
}

#[test]
fn every_refusal_is_described() {
    let document = document();
    for (name, operation) in operations(&document) {
        let responses = operation["responses"].as_object().unwrap();
        let mut expected = vec!["500"];
        if operation["security"].is_array() {
            expected.push("401");
        }
        if operation["requestBody"].is_object() {
            expected.extend(["400", "408", "413"]);
        }
        for status in expected {
            assert!(responses.contains_key(status), "{name}: no {status}");
        }
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
            assert!(!response["description"].as_str().unwrap().is_empty(), "{name}: {status}");
            let schema = &response["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/ErrorBody", "{name}: {status}");
        }
    }
}

#[test]
fn every_body_has_an_example() {
    let document = document();
    let mut named = BTreeSet::from(["StreamHello", "StreamRow", "StreamAck"].map(str::to_owned));
    for (_, operation) in operations(&document) {
        let answers = operation["responses"].as_object().unwrap().values();
        for body in answers.chain([&operation["requestBody"]]) {
            if let Some(name) = body["content"]["application/json"]["schema"]["$ref"].as_str() {
                named.insert(name.rsplit('/').next().unwrap().to_owned());
            }
        }
    }
    assert!(named.len() > 25, "{named:?}");
    for name in named {
        let schema = &document["components"]["schemas"][&name];
        let example = schema["examples"][0].as_object();
        let example = example.unwrap_or_else(|| panic!("{name} has no example"));
        for field in schema["required"].as_array().into_iter().flatten() {
            assert!(example.contains_key(field.as_str().unwrap()), "{name}: {field}");
        }
    }
}

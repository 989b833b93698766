//! Files in the repository that are made from the code, and must be what the code makes.

use std::{fs, path::Path};

use causeway_bridge::registration::Registration;

#[test]
fn the_example_registration_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../appservice.yaml");
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        Registration::example_file().unwrap(),
        "make it anew: cargo run -- registration --example > appservice.yaml",
    );
}

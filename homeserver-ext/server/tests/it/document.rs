//! The protocol document names every code that the server answers with.

use std::{collections::BTreeSet, fs, path::Path};

const DOCUMENT: &str = include_str!("../../../../docs/protocol.md");

/// Every word of capitals that begins as a code does, between these marks.
fn codes(text: &str, mark: char) -> BTreeSet<String> {
    let words = text.split(mark);
    let is_code = |word: &&str| {
        (word.starts_with("M_") || word.starts_with("DEV_CAUSEWAY_"))
            && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    };
    words.filter(is_code).map(str::to_owned).collect()
}

#[test]
fn every_error_code_is_in_the_document_and_no_other() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let folders = [folder.join("error"), folder].map(|folder| fs::read_dir(folder).unwrap());
    let files = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.is_file());
    let code: BTreeSet<String> =
        files.flat_map(|file| codes(&fs::read_to_string(file).unwrap(), '"')).collect();
    assert_eq!(codes(DOCUMENT, '`'), code);
    assert_eq!(code.len(), 35);
}

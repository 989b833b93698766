//! Imports go one way (`docs/decisions.md`): nothing below may know what stands above it.

use std::{collections::BTreeMap, fs, path::Path};

/// Each module, and how high it stands; those of one height do not see each other.
const LAYERS: [&[&str]; 8] = [
    &["secret", "clock", "figures", "health", "steps"],
    &["registration"],
    &["config", "domain"],
    &["storage", "gateway", "init"],
    &["services"],
    &["http"],
    &["app"],
    &["demo"],
];

#[test]
fn no_module_imports_what_stands_above_or_beside_it() {
    let heights: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(height, names)| names.iter().map(move |name| (*name, height)))
        .collect();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (module, file) in files(&src) {
        let Some(height) = heights.get(module.as_str()) else {
            assert!(
                matches!(&*module, "lib" | "main" | "cli"),
                "give `{module}` a place in the layers"
            );
            continue;
        };
        seen += 1;
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            let above = heights.get(&*import).is_none_or(|theirs| theirs >= height);
            if import != module && above {
                wrong.push(format!("{} imports crate::{import}", file.display()));
            }
        }
    }
    assert!(seen > 10, "the files were not found");
    assert!(wrong.is_empty(), "upward imports:\n{}", wrong.join("\n"));
}

/// Every source file with the top-level module that it belongs to.
fn files(src: &Path) -> Vec<(String, std::path::PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![src.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let first = path.strip_prefix(src).unwrap().iter().next().unwrap();
                let module = first.to_str().unwrap().trim_end_matches(".rs").to_owned();
                found.push((module, path));
            }
        }
    }
    found
}

/// Top-level modules that a file names after `crate::`, grouped imports included.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        // `pub(crate)` has no `::`; `causeway_x::crate::` does not exist.
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push(name(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut begins = true;
                for (at, letter) in group.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => begins = true,
                        _ if begins && letter.is_alphabetic() => {
                            found.push(name(&group[at..]));
                            begins = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

fn name(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

#[test]
fn grouped_imports_are_read() {
    let text = "use crate::{\n    a::b,\n    c::{d, e},\n    f,\n};\nuse crate::g::h;";
    assert_eq!(imports(text), ["a", "c", "f", "g"]);
}

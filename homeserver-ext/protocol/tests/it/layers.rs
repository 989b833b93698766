//! Imports go one way: a module sees those that stand before it, and nothing else of the crate.

use std::{fs, path::Path};

/// `olm_plaintext` may import `roster`; modules of one line do not see each other.
const LAYERS: &[&[&str]] = &[
    &["fields"],
    &["ids"],
    &["keys"],
    &["device", "envelope", "content", "sender_key"],
    &["roster"],
    &["olm_plaintext", "invite", "api"],
];

fn layer(module: &str) -> usize {
    let found = LAYERS.iter().position(|layer| layer.contains(&module));
    found.unwrap_or_else(|| panic!("{module} has no layer"))
}

/// The modules that a file imports, by what stands after `crate::`, groups included.
fn imports(source: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for (at, _) in source.match_indices("crate::") {
        let rest = &source[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(name(rest));
            continue;
        };
        let (mut depth, mut item) = (0, String::new());
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => found.push(name(&std::mem::take(&mut item))),
                c if depth == 0 => item.push(c),
                _ => {}
            }
        }
        found.push(name(&item));
    }
    found.retain(|name| !name.is_empty());
    found
}

fn check(dir: &Path, module: Option<&str>) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let module = module.unwrap_or(&stem);
        if path.is_dir() {
            files += check(&path, Some(module));
        } else if module != "lib" {
            files += 1;
            for import in imports(&fs::read_to_string(&path).unwrap()) {
                let downward = import == module || layer(&import) < layer(module);
                assert!(downward, "{} imports {import}", path.display());
            }
        }
    }
    files
}

#[test]
fn imports_go_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert!(check(&src, None) > 15);
}

#[test]
fn the_checker_sees_groups() {
    let source = "use crate::{\n    device::{A, B},\n    keys::x,\n};\nuse crate::roster::Log;";
    assert_eq!(imports(source), ["device", "keys", "roster"]);
}

//! Imports inside the crate go one way.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// From the bottom up: a file may import from layers before its own. Within a layer the folder's
/// own file (`storage.rs`) is for all of it, and files of the folder see each other only where
/// `FRIENDS` says so.
const LAYERS: [&str; 7] = ["quota", "config", "figures", "storage", "services", "http", "app"];
/// Layers whose files may import one another.
const FRIENDS: [&str; 2] = ["storage", "http"];

#[test]
fn imports_go_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in files(&src) {
        let module = file.strip_prefix(&src).unwrap().with_extension("");
        let parts: Vec<_> = module.iter().map(|part| part.to_str().unwrap()).collect();
        let (layer, own) = (parts[0], parts.get(1).copied());
        if layer == "lib" {
            continue;
        }
        let at = height(layer);
        for (target, inner) in imports(&std::fs::read_to_string(&file).unwrap()) {
            let is_up = height(&target) > at;
            let is_sibling = target == layer
                && !FRIENDS.contains(&layer)
                && inner.is_some_and(|inner| own.is_some_and(|own| own != inner))
                && own.is_some();
            if is_up || is_sibling {
                wrong.push(format!("{} imports crate::{target}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn height(layer: &str) -> usize {
    LAYERS.iter().position(|known| *known == layer).unwrap_or_else(|| panic!("no layer {layer}"))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Every `crate::layer[::module]` of a source text; of `crate::{a, b::c}` each.
fn imports(text: &str) -> BTreeSet<(String, Option<String>)> {
    let text: String = text.split_whitespace().collect();
    let mut found = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        let group = rest.strip_prefix('{').map(split_group);
        for path in group.unwrap_or_else(|| vec![rest.to_owned()]) {
            let mut names = path.split("::").map(name);
            let layer = names.next().unwrap_or_default();
            // Modules are lower case; what else is imported is a type of the layer's own file.
            let inner = names.next().filter(|name| name.starts_with(char::is_lowercase));
            found.insert((layer, inner));
        }
    }
    found
}

fn name(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The items of `a, b::{c, d}, …}` up to the brace that closes it.
fn split_group(inner: &str) -> Vec<String> {
    let (mut depth, mut items, mut item) = (0, Vec::new(), String::new());
    for c in inner.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                item.push(c);
            }
        }
    }
    items.push(item);
    items.retain(|item| !item.is_empty());
    items
}

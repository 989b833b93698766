//! Imports go one way in every crate (`docs/style.md`): nothing sees what stands above it, nor
//! what stands beside it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use syn::{ItemUse, UseTree, visit::Visit};

/// A crate's modules from the bottom up; those of one line do not see each other.
pub(crate) struct Crate {
    pub(crate) src: &'static str,
    layers: &'static [&'static [&'static str]],
    /// Folders whose files do not see each other either, by their path.
    apart: &'static [&'static str],
    /// What puts the rest together, and may see all of it.
    roots: &'static [&'static str],
}

pub(crate) const CRATES: [Crate; 5] = [
    Crate {
        src: "homeserver-ext/store/src",
        layers: &[
            &["turn"],
            &["engine", "error", "lock", "wake", "count", "room", "small_file"],
            &["open_error", "keeper", "script"],
            &["migrate", "tx"],
            &["backup", "readers", "writer"],
            &["db"],
        ],
        apart: &[],
        roots: &["lib"],
    },
    Crate {
        src: "homeserver-ext/protocol/src",
        layers: &[
            &["fields", "json"],
            &["ids"],
            &["keys", "ghost"],
            &["device", "envelope", "content", "sender_key", "fanout", "shared_key", "call"],
            &["roster"],
            &["olm_plaintext", "invite", "device_link", "api", "link", "posting"],
        ],
        apart: &[],
        roots: &["lib"],
    },
    Crate {
        src: "homeserver-ext/groups/src",
        layers: &[
            &["entropy", "olm", "public", "schemes", "trial"],
            &["vault", "calls"],
            &["storage"],
            &["machine"],
            &["sdk"],
            &["calling"],
            &["cli"],
        ],
        apart: &["schemes", "machine/schemes"],
        roots: &["lib", "bin"],
    },
    Crate {
        src: "homeserver-ext/server/src",
        layers: &[
            &["quota", "figures"],
            &["config"],
            &["storage"],
            &["live", "sessions", "gateway"],
            &["calls"],
            &["services"],
            &["http"],
            &["app"],
        ],
        apart: &["services"],
        roots: &["lib"],
    },
    Crate {
        src: "bridge/src",
        layers: &[
            &["secret", "clock", "figures", "health", "steps", "yaml"],
            &["registration"],
            &["domain"],
            &["config"],
            &["storage", "gateway", "init"],
            &["services"],
            &["http"],
            &["app"],
            &["demo", "doctor"],
        ],
        apart: &["services"],
        roots: &["lib", "main", "cli"],
    },
];

#[test]
fn no_module_imports_what_stands_above_or_beside_it() {
    let mut wrong = Vec::new();
    for krate in &CRATES {
        let src = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(krate.src);
        let files = files(&src);
        assert!(files.len() > 4, "no files in {}", krate.src);
        for file in files {
            let module = module(file.strip_prefix(&src).unwrap());
            let text = fs::read_to_string(&file).unwrap();
            for import in imports(&text, &module) {
                if let Some(why) = krate.forbids(&module, &import) {
                    wrong.push(format!("{}/{}: {why}", krate.src, module.join("/")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_engine_is_named_in_the_store_and_in_storage_only() {
    let mut wrong = Vec::new();
    for krate in CRATES.iter().filter(|krate| krate.src != "homeserver-ext/store/src") {
        let src = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(krate.src);
        for file in files(&src) {
            let module = module(file.strip_prefix(&src).unwrap());
            if !module.contains(&"storage".to_owned())
                && names(&fs::read_to_string(&file).unwrap(), "sqlx")
            {
                wrong.push(format!("{}/{}", krate.src, module.join("/")));
            }
        }
    }
    assert!(wrong.is_empty(), "SQL belongs to `storage`: {wrong:#?}");
}

/// Whether the code of a file, comments apart, has this name in it.
fn names(text: &str, name: &str) -> bool {
    struct Names<'a>(&'a str, bool);
    impl Visit<'_> for Names<'_> {
        fn visit_ident(&mut self, ident: &syn::Ident) {
            self.1 |= ident == self.0;
        }

        fn visit_macro(&mut self, called: &syn::Macro) {
            self.1 |= called.tokens.to_string().contains(self.0);
            syn::visit::visit_macro(self, called);
        }
    }
    let mut names = Names(name, false);
    names.visit_file(&syn::parse_file(text).unwrap());
    names.1
}

#[test]
fn names_are_found_wherever_they_stand() {
    for code in [
        "use a::x;",
        "use x as y;",
        "fn f(b: Vec<x::Y>) {}",
        "fn f() { x::query(1) }",
        "static M: N = x::migrate!();",
        "fn f() { vec![x::Y] }",
    ] {
        assert!(names(code, "x"), "{code}");
    }
    assert!(!names("/// x, and [`x::y`]\nfn f() { /* x */ g() }", "x"));
}

impl Crate {
    /// Why a file of `module` may not import `import`.
    fn forbids(&self, module: &[String], import: &[String]) -> Option<String> {
        let [from, ..] = module else { return None };
        let [to, ..] = import else { return None };
        if self.roots.contains(&from.as_str()) || !to.starts_with(char::is_lowercase) {
            return None;
        }
        if from == to {
            return self.apart.iter().find_map(|folder| self.beside(folder, module, import));
        }
        let height = |name: &String| self.layers.iter().position(|l| l.contains(&name.as_str()));
        match (height(from), height(to)) {
            (Some(from), Some(to)) => (to >= from).then(|| format!("imports crate::{}", import[0])),
            (None, _) => Some(format!("`{from}` needs a place in the layers")),
            (_, None) => Some(format!("imports crate::{to}, which has no place in the layers")),
        }
    }

    /// Why a file of `folder` may not import another one of it.
    fn beside(&self, folder: &str, module: &[String], import: &[String]) -> Option<String> {
        let parts: Vec<_> = folder.split('/').collect();
        let within = |path: &[String]| {
            let inner = path.get(parts.len())?;
            path.iter().zip(&parts).all(|(a, b)| a == b).then(|| inner.clone())
        };
        let (inner, target) = (within(module)?, within(import)?);
        let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(self.src);
        let is_module = file.join(folder).join(&target).with_extension("rs").is_file();
        (is_module && inner != target).then(|| format!("{folder}::{target} stands beside it"))
    }
}

pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// `services/deliver.rs` is `services`, `deliver`.
pub(crate) fn module(file: &Path) -> Vec<String> {
    file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect()
}

/// Every path that a file of `module` names in its own crate, from the crate's root.
pub(crate) fn imports(text: &str, module: &[String]) -> BTreeSet<Vec<String>> {
    let mut found = Imports { module: module.to_vec(), found: BTreeSet::new() };
    found.visit_file(&syn::parse_file(text).unwrap());
    found.found
}

struct Imports {
    module: Vec<String>,
    found: BTreeSet<Vec<String>>,
}

impl Imports {
    /// Notes a path as it is written, if it begins with `crate`, `super` or `self`.
    fn note(&mut self, path: &[String]) {
        let supers = path.iter().take_while(|part| *part == "super").count();
        let absolute = match path.first().map(String::as_str) {
            Some("crate") => path[1..].to_vec(),
            Some("super") if supers <= self.module.len() => {
                let base = &self.module[..self.module.len() - supers];
                [base, &path[supers..]].concat()
            }
            Some("self") => [&self.module, &path[1..]].concat(),
            _ => return,
        };
        self.found.insert(absolute);
    }

    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) => self.note(&with(&name.ident)),
            UseTree::Rename(rename) => self.note(&with(&rename.ident)),
            UseTree::Glob(_) => self.note(before),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(before, item)),
        }
    }
}

impl Visit<'_> for Imports {
    fn visit_item_use(&mut self, item: &ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let parts: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        self.note(&parts);
        syn::visit::visit_path(self, path);
    }

    // `mod tests` is one deeper, and its `super` is the file's own module.
    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        self.module.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.module.pop();
    }
}

#[test]
fn files_of_a_folder_that_is_apart_do_not_see_each_other() {
    let groups = CRATES.iter().find(|krate| krate.src.contains("/groups/")).unwrap();
    let path = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
    let forbids = |from: &str, to: &str| groups.forbids(&path(from), &path(to)).is_some();
    let scheme = "machine::schemes::sender_keys";
    assert!(forbids("machine::schemes::pairwise", &format!("{scheme}::Plan")));
    assert!(forbids("schemes::pairwise::piece", "schemes::sender_keys::Suite"));
    // Their parent sees them, they see themselves, and one another's names are no files.
    assert!(!forbids("machine::schemes", &format!("{scheme}::Plan")));
    assert!(!forbids(&format!("{scheme}::send"), &format!("{scheme}::Plan")));
    assert!(!forbids(&format!("{scheme}::send"), "machine::schemes::Form"));
    assert!(!forbids(&format!("{scheme}::send"), "machine::work::Work"));
}

#[test]
fn constructions_know_neither_rows_nor_rosters() {
    let src = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../homeserver-ext/groups/src"));
    let files = [files(&src.join("schemes")), vec![src.join("schemes.rs")]].concat();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        for word in ["sqlx::", "causeway_store::", "roster::"] {
            assert!(!text.contains(word), "{} names {word}", file.display());
        }
    }
    assert!(files.len() > 4);
}

#[test]
fn imports_are_read_as_the_compiler_reads_them() {
    let text = "
        use crate::{a::b, c::{d, e as f}};
        use super::{g, h::*};
        /// [`crate::not_this`]
        fn x() -> crate::i::J { super::super::k::l() }
        mod tests { use super::m; }";
    let module = ["layer", "file"].map(str::to_owned);
    let found: Vec<String> =
        imports(text, &module).into_iter().map(|path| path.join("::")).collect();
    let wanted = ["a::b", "c::d", "c::e", "i::J", "k::l", "layer::file::m", "layer::g", "layer::h"];
    assert_eq!(found, wanted);
}

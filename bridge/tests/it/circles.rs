//! What stands in one folder does not import each other in a circle (`docs/style.md`).
//!
//! A thing of a folder is a file with the folder of its own name, so that `group.rs` and what is in
//! `group/` are one. It imports what the paths in it come from: a name that a module only passes on
//! is looked up where it is from, so that `super::Kind` is an import of the sibling that has
//! `Kind`. A parent calls its children and they use what it holds: that is one thing and no circle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use syn::{Item, UseTree};

use crate::layers::{CRATES, files, imports, module};

type Module = Vec<String>;

#[test]
fn no_file_imports_one_that_imports_it() {
    let circles: Vec<_> = CRATES
        .iter()
        .flat_map(|krate| {
            let src = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(krate.src);
            let text = |file: &Path| fs::read_to_string(file).unwrap();
            let texts = files(&src).into_iter();
            let tree = Tree::read(
                texts.map(|file| (module(file.strip_prefix(&src).unwrap()), text(&file))),
            );
            tree.circles().into_iter().map(|circle| (krate.src, circle))
        })
        .collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

/// The files of a crate by their modules; its root has the empty name.
struct Tree(BTreeMap<Module, File>);

/// What a file says of modules of its crate.
struct File {
    named: BTreeSet<Module>,
    /// Names that it has from elsewhere, which those who name it may pass through.
    passed_on: BTreeMap<String, Module>,
}

impl Tree {
    fn read(texts: impl IntoIterator<Item = (Module, String)>) -> Self {
        let rooted = |module: Module| match module.as_slice() {
            [root] if root == "lib" => Vec::new(),
            _ => module,
        };
        let files = texts.into_iter().map(|(module, text)| {
            let module = rooted(module);
            let named = imports(&text, &module);
            let passed_on = passed_on(&text, &module);
            (module, File { named, passed_on })
        });
        Self(files.collect())
    }

    /// The module in whose file stands what `path` names.
    fn home(&self, path: &[String]) -> Option<Module> {
        let is_file = |len: &usize| self.0.contains_key(&path[..*len]);
        let (module, rest) = path.split_at((0..=path.len()).rev().find(is_file)?);
        let [name, rest @ ..] = rest else { return Some(module.to_vec()) };
        match self.0[module].passed_on.get(name) {
            Some(origin) => self.home(&[origin, rest].concat()),
            None => Some(module.to_vec()),
        }
    }

    /// Which things of a folder import which beside them.
    fn edges(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let mut edges = BTreeMap::<_, BTreeSet<_>>::new();
        for (from, file) in &self.0 {
            for to in file.named.iter().filter_map(|path| self.home(path)) {
                let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                if let (Some(from), Some(to)) = (from.get(..=shared), to.get(..=shared)) {
                    edges.entry(from.to_vec()).or_default().insert(to.to_vec());
                }
            }
        }
        edges
    }

    /// Things that reach each other, once for each circle.
    fn circles(&self) -> BTreeSet<Vec<String>> {
        let edges = self.edges();
        let reached: BTreeMap<_, _> =
            edges.keys().map(|from| (from, reached(&edges, from))).collect();
        let circle = |of: &Module| -> Vec<String> {
            let other = reached[of].iter();
            other
                .filter(|other| reached.get(*other).is_some_and(|back| back.contains(of)))
                .map(|other| other.join("::"))
                .collect()
        };
        edges.keys().map(circle).filter(|circle| !circle.is_empty()).collect()
    }
}

fn reached<'a>(
    edges: &'a BTreeMap<Module, BTreeSet<Module>>,
    from: &'a Module,
) -> BTreeSet<&'a Module> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(next) = open.pop() {
        open.extend(edges.get(next).into_iter().flatten().filter(|to| seen.insert(*to)));
    }
    seen
}

/// Names that the file of `module` has by `use` from its crate, with the paths that they are from.
fn passed_on(text: &str, module: &[String]) -> BTreeMap<String, Module> {
    let (mut found, mut children) = (Vec::new(), BTreeSet::new());
    for item in syn::parse_file(text).unwrap().items {
        match item {
            Item::Use(item) => leaves(&[], &item.tree, &mut found),
            Item::Mod(item) => drop(children.insert(item.ident.to_string())),
            _ => {}
        }
    }
    let absolute = |path: Module| {
        let supers = path.iter().take_while(|part| *part == "super").count();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "super" => Some([&module[..module.len() - supers], &path[supers..]].concat()),
            "self" => Some([module, &path[1..]].concat()),
            first => children.contains(first).then(|| [module, &path].concat()),
        }
    };
    found.into_iter().filter_map(|(name, path)| Some((name, absolute(path)?))).collect()
}

fn leaves(before: &[String], tree: &UseTree, found: &mut Vec<(String, Module)>) {
    let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
    match tree {
        UseTree::Path(path) => leaves(&with(&path.ident), &path.tree, found),
        UseTree::Name(name) => found.push((name.ident.to_string(), with(&name.ident))),
        UseTree::Rename(rename) => found.push((rename.rename.to_string(), with(&rename.ident))),
        UseTree::Glob(_) => {}
        UseTree::Group(group) => group.items.iter().for_each(|item| leaves(before, item, found)),
    }
}

#[test]
fn circles_are_found_where_they_are_and_nowhere_else() {
    let circles = |files: &[(&str, &str)]| {
        let file = |(path, text): &(&str, &str)| (module(Path::new(path)), (*text).to_owned());
        Tree::read(files.iter().map(file)).circles().into_iter().collect::<Vec<_>>()
    };
    // Through a name that the parent passes on, and over three files.
    let named = circles(&[
        ("lib.rs", "mod a; mod b; mod c; pub use c::C;"),
        ("a.rs", "use crate::b::B; struct A;"),
        ("b.rs", "fn b() -> crate::C { todo!() }"),
        ("c.rs", "use super::a::A; pub struct C;"),
    ]);
    assert_eq!(named, [["a", "b", "c"]]);
    // One command's folder with another command.
    let folders = circles(&[
        ("cli.rs", "mod group; mod member;"),
        ("cli/group.rs", "mod show; pub(super) struct Named;"),
        ("cli/group/show.rs", "use super::super::member;"),
        ("cli/member.rs", "use super::group::Named;"),
    ]);
    assert_eq!(folders, [["cli::group", "cli::member"]]);
    // A parent and its child, and siblings that see each other one way.
    let none = circles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "mod inner; pub struct A; fn a() { inner::go() }"),
        ("a/inner.rs", "use super::A; use crate::b::B;"),
        ("b.rs", "pub struct B;"),
    ]);
    assert_eq!(none, [] as [Vec<String>; 0]);
}

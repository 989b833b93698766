//! The book: what it names is there, and its links lead somewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Every page of the book, and the README.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|file| file.unwrap().path());
    let mut pages: Vec<PathBuf> =
        docs.filter(|path| path.extension().is_some_and(|kind| kind == "md")).collect();
    pages.push(root().join("README.md"));
    pages.sort();
    pages
}

/// Targets of the links of `text`.
fn links(text: &str) -> Vec<&str> {
    let parts = text.lines().flat_map(|line| line.split("](").skip(1));
    parts.filter_map(|rest| rest.split_once(')')).map(|(link, _)| link).collect()
}

/// What `text` says in letters of code.
fn codes(text: &str) -> Vec<&str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Text outside of code blocks.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).unwrap();
    text.split("```").step_by(2).collect()
}

/// The anchor that a heading gets.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut seen = 0;
    for page in pages() {
        for link in links(&prose(&page)) {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').map_or((link, None), |(f, a)| (f, Some(a)));
            let target =
                if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            if let Some(anchor) = anchor {
                let text = fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#')).map(slug);
                assert!(headings.any(|slug| slug == anchor), "{}: {link}", page.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 15, "the links were not found");
}

#[test]
fn every_page_is_in_the_summary_once() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    for page in pages() {
        let name = page.file_name().unwrap().to_str().unwrap();
        if name != "SUMMARY.md" && name != "README.md" {
            assert_eq!(summary.matches(&format!("]({name})")).count(), 1, "{name}");
        }
    }
}

/// A path in the repository, as code is named in the book: whole, with `{a,b}` for two at once.
#[test]
fn files_that_the_book_names_are_there() {
    let tops = ["bridge/", "homeserver-ext/", "migrations/", "docs/", ".ci/"];
    let shortened = [
        "src/",
        "services/",
        "domain/",
        "storage/",
        "machine/",
        "http/",
        "groups/src",
        "server/src",
    ];
    let mut seen = 0;
    for page in pages() {
        for code in codes(&prose(&page)) {
            let at = || format!("{} names `{code}`", page.display());
            let is_path = Path::new(code).extension().is_some_and(|kind| kind == "rs");
            assert!(
                !(is_path && shortened.iter().any(|s| code.starts_with(s))),
                "{} in part",
                at()
            );
            if !tops.iter().any(|top| code.starts_with(top)) || code.contains(' ') {
                continue;
            }
            for path in alternatives(code) {
                assert!(root().join(&path).exists(), "{}", at());
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "the names were not found");
}

/// Every file of Rust below `folder`, one after the other.
fn rust(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                rust(&path, into);
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn tests_that_the_book_names_are_there() {
    let mut code = String::new();
    for top in ["bridge/tests", "homeserver-ext"] {
        rust(&root().join(top), &mut code);
    }
    let pages = ["security", "sources"].map(|name| prose(&root().join(format!("docs/{name}.md"))));
    let text = pages.join("\n");
    // Metrics are as long.
    let is_sentence = |code: &&str| {
        code.matches('_').count() > 3 && !code.contains('/') && !code.starts_with("causeway_")
    };
    let names: Vec<_> = codes(&text).into_iter().filter(is_sentence).collect();
    for name in &names {
        assert!(code.contains(&format!("fn {name}(")), "there is no test `{name}`");
    }
    assert!(names.len() > 30, "the names were not found");
}

fn alternatives(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else { return vec![path.to_owned()] };
    let (list, after) = rest.split_once('}').unwrap();
    list.split(',').map(|one| format!("{before}{one}{after}")).collect()
}

#[test]
fn every_limit_is_in_the_book_with_its_default() {
    let text = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let known = serde_json::to_value(causeway_bridge::config::Limits::default()).unwrap();
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    for (key, default) in known.as_object().unwrap() {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
        let row = row.unwrap_or_else(|| panic!("`{key}` is not in docs/limits.md"));
        let shown = digits(row.split('|').nth(2).unwrap());
        let numbers = match default.as_object() {
            Some(rate) => {
                let each = ["per_minute", "per_hour", "burst"].map(|name| rate.get(name));
                each.into_iter().flatten().map(ToString::to_string).collect()
            }
            None => default.to_string(),
        };
        assert_eq!(shown, numbers, "{key}");
    }
    let rows = text.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, known.as_object().unwrap().len(), "and no other");
}

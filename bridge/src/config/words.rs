//! What was found where something else belongs, and what belongs there: in words, where the
//! libraries have the names of types.

use figment::{
    error::{Actual, Kind},
    value::Value,
};
use serde_json::Value as Json;

use super::Config;

/// What is wrong with the value of `key`; `value` is what stands there.
pub(super) fn words(key: &str, kind: &Kind, value: Option<&Value>) -> String {
    match kind {
        Kind::InvalidType(Actual::Str(text), expected)
            if expected != "a string" && text.trim_start().starts_with(['[', '{']) =>
        {
            format!("in `{text}` {}; write {}", broken(text), wanted(key, expected, ""))
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("it is {}; write {}", is(found), wanted(key, expected, &bare(found)))
        }
        Kind::UnknownVariant(found, known) => {
            format!("it is {}; write {}", quoted(found), one_of(known))
        }
        // What the standard library says of an address that is none.
        Kind::Message(text) if text.contains("socket address") => {
            let found = value.and_then(Value::as_str).unwrap_or_default();
            format!("it is {}; write {}", quoted(found), wanted(key, "socket address", found))
        }
        other => other.to_string(),
    }
}

/// Why what begins as a list or as a map is neither.
fn broken(text: &str) -> &'static str {
    let (open, close) = if text.trim_start().starts_with('{') { ('{', '}') } else { ('[', ']') };
    let count = |c: char| text.matches(c).count();
    if count(open) > count(close) {
        "the bracket is not closed"
    } else if count('"') % 2 == 1 {
        "a quotation mark is not closed"
    } else if text.contains('\'') {
        "a text is in single quotation marks, and belongs in double ones or in none"
    } else if open == '{' && text.contains(':') {
        "a key has `:` behind it, and `=` belongs there"
    } else {
        "something stands beside the bracket that does not belong there"
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() { "empty".to_owned() } else { format!("`{text}`") }
}

/// What was found, and of which kind it is.
fn is(found: &Actual) -> String {
    match found {
        Actual::Str(text) if text.is_empty() => "empty".to_owned(),
        Actual::Str(text) => format!("the text `{text}`"),
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => {
            format!("the number {}", bare(found))
        }
        Actual::Bool(_) => format!("`{}`", bare(found)),
        Actual::Unit | Actual::Option => "empty".to_owned(),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a section with keys".to_owned(),
        other => other.to_string(),
    }
}

/// What was found, as it stands there.
fn bare(found: &Actual) -> String {
    match found {
        Actual::Str(text) => text.clone(),
        Actual::Unsigned(number) => number.to_string(),
        Actual::Signed(number) => number.to_string(),
        Actual::Float(number) => format!("{number:?}"),
        Actual::Bool(is) => is.to_string(),
        _ => String::new(),
    }
}

/// What belongs there, where a library expects `expected` and found `found`.
fn wanted(key: &str, expected: &str, found: &str) -> String {
    match expected {
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "a boolean" => "true or false".to_owned(),
        "a string" | "path string" if found.is_empty() => "a text".to_owned(),
        "a string" | "path string" => format!("a text, with quotes: \"{found}\""),
        "a sequence" if found.is_empty() => "a list of texts, as in [one, two]".to_owned(),
        // A star or an `@` means something in YAML.
        "a sequence" if found.starts_with(|c: char| !c.is_alphanumeric()) => {
            format!("a list of texts, in brackets: [\"{found}\"]")
        }
        "a sequence" => format!("a list of texts, in brackets: [{found}]"),
        "socket address" => match default(key).as_ref().and_then(Json::as_str) {
            Some(usual) => format!("an IP address and a port, as in {usual}"),
            None => "an IP address and a port".to_owned(),
        },
        _ => match default(key) {
            Some(Json::Object(section)) => {
                let keys: Vec<&str> = section.keys().map(String::as_str).collect();
                format!("keys and values below it: {}", keys.join(", "))
            }
            _ => expected.to_owned(),
        },
    }
}

fn one_of(known: &[&str]) -> String {
    let known: Vec<String> = known.iter().map(|one| format!("`{one}`")).collect();
    match known.split_last() {
        Some((last, first)) if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => known.concat(),
    }
}

/// What is in force where nobody writes anything, in the order in which it is described.
pub(super) fn default(key: &str) -> Option<Json> {
    let all = serde_json::to_value(Config::default()).ok()?;
    let below = |tree: Json, name: &str| tree.get(name).cloned();
    key.split('.').filter(|name| !name.is_empty()).try_fold(all, below)
}

//! What was checked of a file, and what was wrong; and ways into a JSON file that cannot panic.

use std::{
    fmt::{Debug, Display},
    path::Path,
};

use serde_json::Value;

/// What is wrong with an item.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

pub(crate) type Check = Result<(), Failure>;

/// Fails unless both are the same.
#[expect(clippy::needless_pass_by_value, reason = "callers compare what they have just made")]
pub(crate) fn same<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Check {
    if got == expected {
        return Ok(());
    }
    let short = |value: &dyn Debug| format!("{value:?}").chars().take(160).collect::<String>();
    Err(Failure(format!("{what} is {}, expected {}", short(&got), short(&expected))))
}

/// Fails unless `right`.
pub(crate) fn ensure(right: bool, what: &str) -> Check {
    if right { Ok(()) } else { Err(Failure(what.to_owned())) }
}

/// What came of one file.
pub(crate) struct Report {
    file: String,
    checked: usize,
    failed: usize,
    notes: Vec<String>,
    skipped_section: bool,
}

impl Report {
    pub(crate) fn new(file: &Path) -> Self {
        let file = file.display().to_string();
        Self { file, checked: 0, failed: 0, notes: Vec::new(), skipped_section: false }
    }

    /// Checks each item of a section.
    pub(crate) fn section<T: Named>(
        &mut self,
        name: &str,
        items: impl FnOnce() -> Result<Vec<T>, Failure>,
        check: impl Fn(&T) -> Check,
    ) {
        let items = match items() {
            Ok(items) => items,
            Err(failure) => return self.failed(name, &failure),
        };
        for item in &items {
            self.checked += 1;
            if let Err(failure) = check(item) {
                self.failed(&format!("{name}: {}", item.name()), &failure);
            }
        }
    }

    pub(crate) fn failed(&mut self, what: &str, failure: &Failure) {
        self.failed += 1;
        self.note(format!("FAILED {what}: {}", failure.0));
    }

    pub(crate) fn skip_section(&mut self, section: &str) {
        self.skipped_section = true;
        self.note(format!("section {section} skipped: not built"));
    }

    /// Skips the sections of a file that are not among `known`, and those parts of the known ones
    /// that are not named beside them. Words and numbers beside the sections are no sections.
    pub(crate) fn skip_unknown(&mut self, file: &Value, known: &[(&str, &[&str])]) {
        for section in parts_of(file) {
            let Some((_, parts)) = known.iter().find(|(name, _)| *name == section) else {
                self.skip_section(section);
                continue;
            };
            for part in parts_of(&file[section]).filter(|part| !parts.contains(part)) {
                self.skip_section(&format!("{section}.{part}"));
            }
        }
    }

    pub(crate) fn note(&mut self, note: impl Display) {
        self.notes.push(format!("{}: {note}", self.file));
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let sum = format!("{}: {} checked, {} failed", self.file, self.checked, self.failed);
        [self.notes.clone(), vec![sum]].concat()
    }

    /// Something was checked, nothing failed, nothing was left out.
    pub(crate) fn is_right(&self) -> bool {
        self.checked > 0 && self.failed == 0 && !self.skipped_section
    }
}

fn parts_of(value: &Value) -> impl Iterator<Item = &str> {
    let parts = value.as_object().into_iter().flatten();
    parts.filter(|(_, part)| part.is_array() || part.is_object()).map(|(name, _)| name.as_str())
}

/// What an item is called in a failure.
pub(crate) trait Named {
    fn name(&self) -> String;
}

impl Named for &Value {
    fn name(&self) -> String {
        let names = ["name", "account", "kind", "type", "index", "safety_number"];
        let name = names.iter().find_map(|name| self.get(*name));
        name.map_or_else(|| "item".to_owned(), ToString::to_string)
    }
}

/// What stands in a JSON object.
pub(crate) trait Fields {
    fn field(&self, name: &str) -> Result<&Value, Failure>;

    fn items(&self, name: &str) -> Result<Vec<&Value>, Failure> {
        let list = self.field(name)?.as_array();
        Ok(list.ok_or_else(|| Failure(format!("{name} is no list")))?.iter().collect())
    }

    fn text(&self, name: &str) -> Result<&str, Failure> {
        self.field(name)?.as_str().ok_or_else(|| Failure(format!("{name} is no text")))
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, Failure> {
        unhex(self.field(name)?)
    }

    fn array<const N: usize>(&self, name: &str) -> Result<[u8; N], Failure> {
        self.bytes(name)?.try_into().map_err(|_| Failure(format!("{name} is not {N} bytes")))
    }

    fn number<T: TryFrom<u64>>(&self, name: &str) -> Result<T, Failure> {
        let number = self.field(name)?.as_u64().and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| Failure(format!("{name} is no such number")))
    }

    fn flag(&self, name: &str) -> Result<bool, Failure> {
        self.field(name)?.as_bool().ok_or_else(|| Failure(format!("{name} is no flag")))
    }

    /// Every one a name of 32 bytes.
    fn names<T>(&self, name: &str, new: impl Fn([u8; 32]) -> T) -> Result<Vec<T>, Failure> {
        let id = |id| unhex(id)?.try_into().map_err(|_| Failure(format!("{name}: not 32 bytes")));
        self.items(name)?.into_iter().map(|value| id(value).map(&new)).collect()
    }
}

impl Fields for Value {
    fn field(&self, name: &str) -> Result<&Value, Failure> {
        self.get(name).ok_or_else(|| Failure(format!("{name} is missing")))
    }
}

pub(crate) fn unhex(value: &Value) -> Result<Vec<u8>, Failure> {
    Ok(hex::decode(value.as_str().ok_or_else(|| Failure("no hex".to_owned()))?)?)
}

/// `native.json`, to look people up in.
pub(crate) struct Vectors<'a>(pub(crate) &'a Value);

impl Vectors<'_> {
    /// The account, member and devices of whom `is` names.
    pub(crate) fn person(&self, is: impl Fn(&Value) -> bool) -> Option<&Value> {
        self.0.get("people")?.as_array()?.iter().find(|person| is(person))
    }
}

//! From the four sources to one [`Config`], or to an error that says where and what to write.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use causeway_store::small_file;
use figment::{
    Figment,
    error::{Actual, Kind},
    providers::Serialized,
    value::Value,
};
use serde_json::Value as Json;

use super::{
    Config,
    error::{ConfigError, Hint, WrongValue},
    leaves,
    lines::Lines,
    origin::Origin,
    words::{default, words},
};
use crate::yaml::fault;

/// What every environment variable begins with.
const ENV_PREFIX: &str = "CAUSEWAY__";
/// How the command line says it.
const SET: &str = "--set";
/// Keys of `native` that are in `limits` now; where they were they are still read.
const MOVED: [&str; 8] = [
    "registrations",
    "logins",
    "ops",
    "op_kib",
    "new_groups",
    "key_uploads",
    "claims",
    "device_lists",
];
/// Where the file is looked for when nobody says.
const PLACES: [&str; 2] = ["causeway.yaml", "/etc/causeway/config.yaml"];

/// The file that is meant: `given`, else the first of the usual places.
///
/// # Errors
/// [`ConfigError::NoFile`]
pub fn find(given: Option<&Path>) -> Result<PathBuf, ConfigError> {
    if let Some(given) = given {
        return Ok(given.to_path_buf());
    }
    for place in PLACES.map(PathBuf::from) {
        match fs::metadata(&place) {
            Ok(meta) if meta.is_file() => return Ok(place),
            // It may be there, for somebody else.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(ConfigError::Unreadable(place, error.into()));
            }
            Ok(_) | Err(_) => {}
        }
    }
    Err(ConfigError::NoFile)
}

/// Reads the configuration and checks it; `overrides` are the command line's, as `(key, value)` with
/// dots. Relative paths in the answer are as seen from the file's folder.
///
/// # Errors
/// [`ConfigError`], by its variant where the fault is.
pub fn load(file: &Path, overrides: &[(&str, String)]) -> Result<Config, ConfigError> {
    let text = small_file::read_text(file)
        .map_err(|error| ConfigError::Unreadable(file.to_path_buf(), error))?;
    let sources = Sources::read(&text, &file.display().to_string(), overrides)?;
    let mut config = sources.merged()?;
    config.check().map_err(|WrongValue(key, why)| {
        ConfigError::Value(sources.place(&key, sources.whence(&key)), why)
    })?;
    config.origin = sources.origin();
    config.relative_to(file.parent().unwrap_or(Path::new("")));
    Ok(config)
}

/// All that is said about the configuration, by whom, and on which line.
pub(super) struct Sources {
    all: Figment,
    file: String,
    lines: Lines,
}

impl Sources {
    pub(super) fn read(
        text: &str,
        file: &str,
        overrides: &[(&str, String)],
    ) -> Result<Self, ConfigError> {
        let tree: Option<Value> = serde_saphyr::from_str(text).map_err(|error| {
            let (place, why) = fault(file, &error);
            ConfigError::Malformed(place, why)
        })?;
        let all = Figment::from(Serialized::defaults(Config::default()));
        let mut sources = Self { all, file: file.to_owned(), lines: Lines::of(text) };
        match tree {
            None | Some(Value::Empty(..)) => {}
            Some(Value::Dict(tag, mut dict)) => {
                move_keys(&mut dict);
                let tree = Value::Dict(tag, dict.clone());
                sources.has_sections("", &tree, None)?;
                sources.merge(Named(file.to_owned(), dict));
            }
            Some(_) => {
                let why = "write sections with keys in them, as `causeway init` does".to_owned();
                return Err(ConfigError::Malformed(file.to_owned(), why));
            }
        }
        for (name, key, value) in environment() {
            let whence = format!("{name} in the environment");
            let Ok(value) = value.into_string() else {
                let why = "its value is not UTF-8 text".to_owned();
                return Err(ConfigError::Malformed(whence, why));
            };
            sources.set(&whence, &key, &value)?;
        }
        for (key, value) in overrides {
            sources.set(SET, key, value)?;
        }
        Ok(sources)
    }

    fn merge(&mut self, source: impl figment::Provider) {
        self.all = std::mem::take(&mut self.all).merge(source);
    }

    /// Takes in what the command line or the environment says of one key.
    fn set(&mut self, whence: &str, key: &str, value: &str) -> Result<(), ConfigError> {
        if key.split('.').any(|part| part.trim().is_empty()) {
            let why = match (whence, key) {
                (SET, "") => "a key is missing before `=`; write KEY=VALUE, as in \
                              native.listen=127.0.0.1:29361"
                    .to_owned(),
                (SET, key) => format!("`{key}` is no key: a part of it is missing beside a dot"),
                _ => "a key, or a part of it, is missing in its name; write it as in \
                      CAUSEWAY__NATIVE__LISTEN"
                    .to_owned(),
            };
            return Err(ConfigError::Malformed(whence.to_owned(), why));
        }
        let source = Override::new(whence, key, value);
        self.has_sections(&source.1, &source.2, Some(whence))?;
        self.merge(source);
        Ok(())
    }

    /// That what stands at `key`, and below it, is a map where one belongs: a list would be taken for
    /// the values of its keys, in their order.
    fn has_sections(
        &self,
        key: &str,
        value: &Value,
        whence: Option<&str>,
    ) -> Result<(), ConfigError> {
        let usual = default(key);
        match usual.as_ref().and_then(|usual| no_section(key, value, usual)) {
            None => Ok(()),
            Some((key, found)) => {
                let why = words(&key, &Kind::InvalidType(found, "a map".to_owned()), None);
                Err(ConfigError::Malformed(self.place(&key, whence), why))
            }
        }
    }

    /// The later source wins, key by key.
    pub(super) fn merged(&self) -> Result<Config, ConfigError> {
        self.all.extract().map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &figment::Error) -> ConfigError {
        // Of an unknown key, its own name included.
        let path = error.path.join(".");
        let whence = error.metadata.as_ref().and_then(overriding);
        match &error.kind {
            Kind::UnknownField(key, known) => {
                let place = match whence {
                    Some(name) => name.to_owned(),
                    None => self.in_file(&path),
                };
                ConfigError::UnknownKey(place, path, Hint::new(key, known))
            }
            kind => {
                let value = self.all.find_value(&path).ok();
                let why = words(&path, kind, value.as_ref());
                ConfigError::Malformed(self.place(&path, whence), why)
            }
        }
    }

    /// Who had the last word about `key`, if it was not the file.
    fn whence(&self, key: &str) -> Option<&str> {
        self.all.find_metadata(key).and_then(overriding)
    }

    /// Where a value stands, its key included.
    fn place(&self, key: &str, whence: Option<&str>) -> String {
        // The number of an item of a list is for people, who count from one.
        let (key, item) = match key.rsplit_once('.').map(|(list, n)| (list, n.parse::<usize>())) {
            Some((list, Ok(n))) => (list, format!(", item {}", n + 1)),
            _ => (key, String::new()),
        };
        match whence {
            Some(SET) => format!("{SET} {key}{item}"),
            Some(name) => format!("{name}: {key}{item}"),
            None => format!("{}: {key}{item}", self.in_file(key)),
        }
    }

    /// Where each key was set.
    fn origin(&self) -> Origin {
        let all = serde_json::to_value(Config::default()).map(|tree| leaves(&tree));
        let place = |key: String| {
            let place = match self.whence(&key) {
                Some(name) => name.to_owned(),
                None if self.written(&key).is_some() => self.in_file(&key),
                None => format!("as {} does not set it", self.file),
            };
            (key, place)
        };
        all.unwrap_or_default().into_keys().map(place).collect()
    }

    fn in_file(&self, key: &str) -> String {
        match self.lines.line(&self.written(key).unwrap_or_else(|| key.to_owned())) {
            Some(line) => format!("{}:{line}", self.file),
            None => self.file.clone(),
        }
    }

    /// As `key` is called in the file, if it is there.
    fn written(&self, key: &str) -> Option<String> {
        let former = key.strip_prefix("limits.").map(|key| format!("native.{key}"));
        let former = former.filter(|former| moved(former) == key);
        [Some(key.to_owned()), former].into_iter().flatten().find(|key| self.lines.holds(key))
    }
}

/// Variables that begin as ours do: name, key, value.
fn environment() -> Vec<(String, String, OsString)> {
    let mut found: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let begins = name.get(..ENV_PREFIX.len())?.eq_ignore_ascii_case(ENV_PREFIX);
            let key = name.get(ENV_PREFIX.len()..)?.replace("__", ".").to_lowercase();
            begins.then(|| (name.clone(), key, value))
        })
        .collect();
    found.sort();
    found
}

/// The first that is no map where one belongs: its key, and what it is.
fn no_section(key: &str, value: &Value, usual: &Json) -> Option<(String, Actual)> {
    let Json::Object(usual) = usual else { return None };
    let Value::Dict(_, found) = value else { return Some((key.to_owned(), value.to_actual())) };
    found.iter().find_map(|(name, below)| {
        let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        no_section(&key, below, usual.get(name)?)
    })
}

/// Where a key is now.
pub(super) fn moved(key: &str) -> String {
    let lower = key.to_lowercase();
    let inner = lower.strip_prefix("native.");
    match inner.filter(|inner| inner.split('.').next().is_some_and(|name| MOVED.contains(&name))) {
        Some(inner) => format!("limits.{inner}"),
        None => key.to_owned(),
    }
}

fn move_keys(file: &mut figment::value::Dict) {
    let Some(Value::Dict(_, native)) = file.get_mut("native") else { return };
    let found: Vec<_> =
        MOVED.into_iter().filter_map(|key| native.remove(key).map(|value| (key, value))).collect();
    if found.is_empty() {
        return;
    }
    let limits =
        file.entry("limits".to_owned()).or_insert_with(|| Value::from(figment::value::Dict::new()));
    if let Value::Dict(_, limits) = limits {
        for (key, value) in found {
            limits.entry(key.to_owned()).or_insert(value);
        }
    }
}

/// The file as a source that knows its name.
struct Named(String, figment::value::Dict);

impl figment::Provider for Named {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(self.0.clone())
    }

    fn data(
        &self,
    ) -> figment::error::Result<figment::value::Map<figment::Profile, figment::value::Dict>> {
        Ok(figment::Profile::Default.collect(self.1.clone()))
    }
}

/// One key of the command line or of the environment, which says where it is from.
struct Override(String, String, Value);

impl Override {
    fn new(whence: &str, key: &str, value: &str) -> Self {
        // A number is one, and so is a list.
        let value: Value = value.parse().unwrap_or_else(|never| match never {});
        Self(whence.to_owned(), moved(key), value)
    }
}

impl figment::Provider for Override {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::from(self.0.clone(), figment::Source::Custom(self.0.clone()))
    }

    fn data(
        &self,
    ) -> figment::error::Result<figment::value::Map<figment::Profile, figment::value::Dict>> {
        Serialized::default(&self.1, &self.2).data()
    }
}

/// Its name, if a source is neither the file nor the defaults.
fn overriding(source: &figment::Metadata) -> Option<&str> {
    source.source.as_ref().and_then(figment::Source::custom)
}

//! From the four sources to one [`Config`], or to an error that says where and what to write.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use figment::{
    Figment,
    error::Kind,
    providers::{Env, Serialized},
    value::Value,
};

use super::Config;

/// What every environment variable begins with.
const ENV_PREFIX: &str = "CAUSEWAY__";
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

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// None of the usual places has one.
    #[error(
        "there is no ./causeway.yaml and no /etc/causeway/config.yaml; `causeway init` makes one"
    )]
    NoFile,
    /// The named file cannot be read.
    #[error("{0} cannot be read: {1}; run this as the user that Causeway runs as")]
    Unreadable(PathBuf, io::Error),
    /// Not YAML, or a value of the wrong kind.
    #[error("{0}: {1}")]
    Malformed(String, String),
    /// A key that does not exist: where, the key, and the nearest one that does.
    #[error("{0}: there is no key `{1}`{2}")]
    UnknownKey(String, String, Hint),
    /// Key, and what is wrong with its value.
    #[error("{0}: {1}")]
    Value(&'static str, String),
}

/// What was probably meant, if anything.
#[derive(Debug, PartialEq, Eq)]
pub struct Hint(Option<String>, &'static [&'static str]);

impl std::fmt::Display for Hint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self(Some(near), _) => write!(f, "; did you mean `{near}`?"),
            Self(None, known) => write!(f, "; there are: {}", known.join(", ")),
        }
    }
}

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
                return Err(ConfigError::Unreadable(place, error));
            }
            Ok(_) | Err(_) => {}
        }
    }
    Err(ConfigError::NoFile)
}

/// Reads the configuration; `overrides` are the command line's, as `(key, value)` with dots.
/// Relative paths in the answer are as seen from the file's folder. It is not checked yet.
///
/// # Errors
/// [`ConfigError`], by its variant where the fault is.
pub fn load(file: &Path, overrides: &[(&str, String)]) -> Result<Config, ConfigError> {
    let text = fs::read_to_string(file)
        .map_err(|error| ConfigError::Unreadable(file.to_path_buf(), error))?;
    let mut config = read(&text, &file.display().to_string(), overrides)?;
    config.relative_to(file.parent().unwrap_or(Path::new("")));
    Ok(config)
}

fn read(text: &str, name: &str, overrides: &[(&str, String)]) -> Result<Config, ConfigError> {
    let tree: Option<Value> = serde_saphyr::from_str(text)
        .map_err(|error| ConfigError::Malformed(name.to_owned(), error.to_string()))?;
    let mut sources = Figment::from(Serialized::defaults(Config::default()));
    match tree {
        None | Some(Value::Empty(..)) => {}
        Some(Value::Dict(_, mut dict)) => {
            move_keys(&mut dict);
            sources = sources.merge(Named(name.to_owned(), dict));
        }
        Some(_) => {
            let why = "it should be sections with keys in them".to_owned();
            return Err(ConfigError::Malformed(name.to_owned(), why));
        }
    }
    let env = Env::prefixed(ENV_PREFIX).map(|key| moved(key.as_str(), "__").into());
    sources = sources.merge(env.split("__"));
    for (key, value) in overrides {
        // As in the environment: a number is one.
        let value: Value = value.parse().unwrap_or_else(|never| match never {});
        sources = sources.merge(Override(format!("--set {key}"), moved(key, "."), value));
    }
    sources.extract().map_err(|error| explain(&error, text, name))
}

/// Where a key is now, its parts divided by `dot`.
fn moved(key: &str, dot: &str) -> String {
    let lower = key.to_lowercase();
    let inner = lower.strip_prefix("native").and_then(|key| key.strip_prefix(dot));
    match inner.filter(|inner| inner.split(dot).next().is_some_and(|name| MOVED.contains(&name))) {
        Some(inner) => format!("limits{dot}{inner}"),
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

/// One key of the command line, which says where it is from.
struct Override(String, String, Value);

impl figment::Provider for Override {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(self.0.clone())
    }

    fn data(
        &self,
    ) -> figment::error::Result<figment::value::Map<figment::Profile, figment::value::Dict>> {
        Serialized::default(&self.1, &self.2).data()
    }
}

fn explain(error: &figment::Error, text: &str, name: &str) -> ConfigError {
    // Of an unknown key, its own name included.
    let path = error.path.join(".");
    let from_file = error.metadata.as_ref().is_none_or(|source| source.name == name);
    let place = if from_file {
        match line_of(text) {
            Some(line) => format!("{name}:{line}"),
            None => name.to_owned(),
        }
    } else {
        error.metadata.as_ref().map_or_else(String::new, |source| source.name.to_string())
    };
    match &error.kind {
        Kind::UnknownField(key, known) => {
            ConfigError::UnknownKey(place, path, Hint(nearest(key, known), known))
        }
        kind => ConfigError::Malformed(place, format!("{path}: {kind}")),
    }
}

/// The line of the first fault in the file itself: figment's tree has lost it.
fn line_of(text: &str) -> Option<u64> {
    let error = serde_saphyr::from_str::<Config>(text).err()?;
    error.location().map(|at| at.line())
}

/// The known key that is at most a third of its letters away.
fn nearest(key: &str, known: &[&str]) -> Option<String> {
    known
        .iter()
        .map(|candidate| (distance(key, candidate), candidate))
        .min()
        .filter(|(far, candidate)| far * 3 <= candidate.len().max(3))
        .map(|(_, candidate)| (*candidate).to_owned())
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (to, above) in b.iter().zip(row.iter().skip(1)) {
            left = (corner + usize::from(from != *to)).min(above + 1).min(left + 1);
            corner = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Config, ConfigError, distance, moved, read};

    #[test]
    fn an_empty_file_is_the_defaults() {
        for text in ["", "# nothing\n", "{}"] {
            assert_eq!(read(text, "f", &[]).unwrap(), Config::default(), "{text}");
        }
    }

    #[test]
    fn what_is_dumped_is_read_again() {
        let text = serde_saphyr::to_string(&Config::default()).unwrap();
        assert_eq!(read(&text, "f", &[]).unwrap(), Config::default(), "{text}");
    }

    #[test]
    fn limits_are_read_where_they_were() {
        let text = "native:\n  ops: {per_minute: 7, burst: 8}\n  logins: {per_minute: 5, burst: 6}\n\
                    limits:\n  logins: {per_minute: 1, burst: 2}\n";
        let config = read(text, "f", &[("native.claims.burst", "9".to_owned())]).unwrap();
        let limits = config.limits;
        assert_eq!((limits.ops.per_minute, limits.ops.burst), (7, 8));
        assert_eq!(limits.logins.per_minute, 1, "where it is now counts");
        assert_eq!(limits.claims.burst, 9);
        // As `init` of before wrote it.
        let text = "native:\n  new_groups: {per_minute: 1, burst: 300}\n";
        let groups = read(text, "f", &[]).unwrap().limits.new_groups;
        assert_eq!((groups.per_hour, groups.burst), (60, 300));
        assert_eq!(moved("NATIVE__LOGINS__BURST", "__"), "limits__logins__burst");
        for key in ["NATIVE__LISTEN", "native.trusted_proxies", "LIMITS__OPS", "native"] {
            assert_eq!(moved(key, if key.contains('.') { "." } else { "__" }), key);
        }
    }

    #[test]
    fn what_is_wrong_on_the_command_line_is_said_to_be_there() {
        for (key, value, said) in [
            ("native.listen", "nowhere", "--set native.listen: native.listen: "),
            ("limits.devices", "many", "--set limits.devices: limits.devices: "),
            ("native.lissen", "127.0.0.1:1", "--set native.lissen: there is no key"),
        ] {
            let error = read("", "f", &[(key, value.to_owned())]).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[test]
    fn the_command_line_wins() {
        let text = "native: {listen: '127.0.0.1:1'}\nlogging: {level: debug}\n";
        let config = read(text, "f", &[("native.listen", "127.0.0.1:2".to_owned())]).unwrap();
        assert_eq!(config.native.listen.port(), 2);
        assert_eq!(config.logging.level, "debug");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_a_hint() {
        let rows = [
            ("homserver: {}\n", "f:1: there is no key `homserver`; did you mean `homeserver`?"),
            (
                "# x\nnative:\n  lisen: 1\n",
                "f:3: there is no key `native.lisen`; did you mean `listen`?",
            ),
            (
                "native:\n  colour: red\n",
                "f:2: there is no key `native.colour`; there are: listen, address, registration, \
                 trusted_proxies, keep_read, cleanup_interval_s",
            ),
        ];
        for (text, says) in rows {
            assert_eq!(read(text, "f", &[]).unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_its_place() {
        for text in ["native:\n  listen: nowhere\n", "native:\n  registration: all\n"] {
            let error = read(text, "f", &[]).unwrap_err();
            assert!(matches!(error, ConfigError::Malformed(..)), "{error:?}");
            assert!(error.to_string().starts_with("f:2: native."), "{error}");
        }
        for text in ["- a\n", "a: [\n", "x"] {
            let error = read(text, "f", &[]).unwrap_err();
            assert!(matches!(error, ConfigError::Malformed(..)), "{error:?}");
        }
    }

    #[test]
    fn limits_and_proxies_must_be_some() {
        let named = |text: &str| {
            let mut config = read(text, "f", &[]).unwrap();
            config.homeserver.server_name = "example.org".to_owned();
            config.check().map_err(|error| error.to_string())
        };
        let good = "native:\n  trusted_proxies: [127.0.0.1, '::1', 10.0.0.0/8]\n";
        named(good).unwrap();
        for (text, key) in [
            ("native:\n  trusted_proxies: [proxy.example]\n", "native.trusted_proxies: "),
            ("limits:\n  logins: {per_minute: 0, burst: 1}\n", "limits.logins: "),
            ("native:\n  registrations: {per_minute: 1, burst: 0}\n", "limits.registrations: "),
            ("limits:\n  new_groups: {per_hour: 0, burst: 1}\n", "limits.new_groups: "),
            ("limits: {devices: 0}\n", "limits.devices: "),
            ("native:\n  cleanup_interval_s: 0\n", "native.cleanup_interval_s: "),
        ] {
            let error = named(text).unwrap_err();
            assert!(error.starts_with(key), "{error}");
        }
    }

    #[test]
    fn addresses_hold_no_passwords() {
        let mut config = Config::default();
        config.homeserver.server_name = "example.org".to_owned();
        config.check().unwrap();
        config.homeserver.address = "http://me:canary@localhost".to_owned();
        let error = config.check().unwrap_err().to_string();
        assert!(error.starts_with("homeserver.address: ") && !error.contains("canary"), "{error}");
    }

    #[test]
    fn distances() {
        for (a, b, far) in [("", "", 0), ("a", "", 1), ("listen", "lisen", 1), ("ab", "ba", 2)] {
            assert_eq!(distance(a, b), far, "{a} {b}");
        }
    }
}

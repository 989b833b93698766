//! From the four sources to one [`Config`], or to an error that says where and what to write.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use figment::{Figment, error::Kind, providers::Serialized, value::Value};

use super::{
    Config,
    error::{ConfigError, Hint, WrongValue},
    leaves,
    lines::Lines,
    origin::Origin,
    words::words,
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
                return Err(ConfigError::Unreadable(place, error));
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
    let text = fs::read_to_string(file)
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
struct Sources {
    all: Figment,
    file: String,
    lines: Lines,
}

impl Sources {
    fn read(text: &str, file: &str, overrides: &[(&str, String)]) -> Result<Self, ConfigError> {
        let tree: Option<Value> = serde_saphyr::from_str(text).map_err(|error| {
            let (place, why) = fault(file, &error);
            ConfigError::Malformed(place, why)
        })?;
        let mut all = Figment::from(Serialized::defaults(Config::default()));
        match tree {
            None | Some(Value::Empty(..)) => {}
            Some(Value::Dict(_, mut dict)) => {
                move_keys(&mut dict);
                all = all.merge(Named(file.to_owned(), dict));
            }
            Some(_) => {
                let why = "write sections with keys in them, as `causeway init` does".to_owned();
                return Err(ConfigError::Malformed(file.to_owned(), why));
            }
        }
        for (name, key, value) in environment() {
            all = all.merge(Override::new(&format!("{name} in the environment"), &key, &value));
        }
        for (key, value) in overrides {
            all = all.merge(Override::new(SET, key, value));
        }
        Ok(Self { all, file: file.to_owned(), lines: Lines::of(text) })
    }

    /// The later source wins, key by key.
    fn merged(&self) -> Result<Config, ConfigError> {
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
fn environment() -> Vec<(String, String, String)> {
    let mut found: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let begins = name.get(..ENV_PREFIX.len())?.eq_ignore_ascii_case(ENV_PREFIX);
            let key = name.get(ENV_PREFIX.len()..)?.replace("__", ".").to_lowercase();
            begins.then(|| (name.clone(), key, value.to_string_lossy().into_owned()))
        })
        .collect();
    found.sort();
    found
}

/// Where a key is now.
fn moved(key: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::{Config, ConfigError, Sources, moved};

    fn read(text: &str, file: &str, set: &[(&str, String)]) -> Result<Config, ConfigError> {
        Sources::read(text, file, set)?.merged()
    }

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
        assert_eq!(moved("native.logins.burst"), "limits.logins.burst");
        for key in ["native.listen", "native.trusted_proxies", "limits.ops", "native"] {
            assert_eq!(moved(key), key);
        }
    }

    #[test]
    fn what_is_wrong_on_the_command_line_is_said_to_be_there() {
        for (key, value, said) in [
            (
                "native.listen",
                "nowhere",
                "--set native.listen: it is `nowhere`; write an IP address and a port, as in \
                 127.0.0.1:29361",
            ),
            (
                "limits.devices",
                "many",
                "--set limits.devices: it is the text `many`; write a whole number from 0 to \
                 4294967295",
            ),
            (
                "limits.devices",
                "-1",
                "--set limits.devices: it is the number -1; write a whole number from 0 to \
                 4294967295",
            ),
            (
                "limits.logins",
                "5",
                "--set limits.logins: it is the number 5; write keys and values below it: burst, \
                 per_minute",
            ),
            (
                "limits.new_groups",
                "5",
                "--set limits.new_groups: it is the number 5; write keys and values below it: \
                 burst, per_hour",
            ),
            (
                "bridge.allow",
                "ann",
                "--set bridge.allow: it is the text `ann`; write a list of texts, in brackets: [ann]",
            ),
            (
                "bridge.allow",
                "[ann, 2]",
                "--set bridge.allow, item 2: it is the number 2; write a text, with quotes: \"2\"",
            ),
            (
                "homeserver.server_name",
                "5",
                "--set homeserver.server_name: it is the number 5; write a text, with quotes: \"5\"",
            ),
            ("logging.format", "xml", "--set logging.format: it is `xml`; write `text` or `json`"),
            (
                "native.registration",
                "all",
                "--set native.registration: it is `all`; write `closed`, `token` or `open`",
            ),
            (
                "native.lissen",
                "127.0.0.1:1",
                "--set: there is no key `native.lissen`; did you mean `listen`?",
            ),
        ] {
            let error = read("", "f", &[(key, value.to_owned())]).unwrap_err().to_string();
            assert_eq!(error, said);
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
        for (text, said) in [
            ("native:\n  listen: nowhere\n", "f:2: native.listen: it is `nowhere`; write an IP"),
            ("native:\n  registration: all\n", "f:2: native.registration: it is `all`; write"),
            ("native:\n  ops:\n    burst: x\n", "f:3: limits.ops.burst: it is the text `x`;"),
            ("limits: {devices: '16'}\n", "f:1: limits.devices: it is the text `16`; write a"),
            ("bridge:\n  allow:\n  - 5\n", "f:2: bridge.allow, item 1: it is the number 5;"),
            ("homeserver:\n  server_name:\n", "f:2: homeserver.server_name: it is empty; write"),
            ("homeserver: example.org\n", "f:1: homeserver: it is the text `example.org`; write"),
            ("- a\n", "f: write sections with keys in them"),
            ("a: [\n", "f:1:4: "),
            ("a: 1\na: 2\n", "f:2:1: "),
            ("native:\n\tlisten: x\n", "f:2:"),
            ("x", "f: write sections"),
        ] {
            let error = read(text, "f", &[]).unwrap_err();
            assert!(matches!(error, ConfigError::Malformed(..)), "{error:?}");
            let error = error.to_string();
            assert!(error.starts_with(said), "{error}");
            for alien in ["u32", "struct", "sequence", "<input>", "DuplicateKeyPolicy"] {
                assert!(!error.contains(alien), "{error}");
            }
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
            ("limits:\n  logins: {per_minute: 0, burst: 1}\n", "limits.logins.per_minute: "),
            (
                "native:\n  registrations: {per_minute: 1, burst: 0}\n",
                "limits.registrations.burst: ",
            ),
            ("limits:\n  new_groups: {per_hour: 0, burst: 1}\n", "limits.new_groups.per_hour: "),
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
}

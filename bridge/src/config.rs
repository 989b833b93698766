//! What an operator may set, and where it is read from: defaults, then the file, then the
//! environment (`CAUSEWAY__SECTION__KEY`), then the command line.
//!
//! No secret is in here: tokens and keys have files of their own in `data_dir`, so that the
//! configuration can be shown, copied and kept in a repository.

mod calls;
mod error;
mod level;
mod limits;
mod lines;
mod load;
#[cfg(test)]
mod load_table;
mod origin;
mod share;
mod words;

pub use calls::{Calls, LiveKit, Mesh, RoomRing, Turn};
pub use error::{ConfigError, WrongValue, unread_remedy};
pub use limits::{HourlyRate, Limits, Rate};
pub use load::{find, load};
pub use origin::Origin;
pub use share::Bridge;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::registration::{Registration, RegistrationError};

/// Everything, as `causeway config schema` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where keys, tokens and databases are kept; relative to the configuration file's folder.
    pub data_dir: DataDir,
    /// The Matrix homeserver.
    pub homeserver: Homeserver,
    /// What the homeserver and the operator talk to.
    pub appservice: Appservice,
    /// What native clients talk to.
    pub native: Native,
    /// Calls in native groups.
    pub calls: Calls,
    /// Who may ask the bridge into a group, and for how much.
    pub bridge: Bridge,
    /// How much one account, and one address, may ask for.
    pub limits: Limits,
    /// What is written to standard error.
    pub logging: Logging,
    /// Where all that was set; not a key.
    #[serde(skip)]
    pub origin: Origin,
}

/// Where keys, tokens and databases are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DataDir(pub PathBuf);

impl Default for DataDir {
    fn default() -> Self {
        Self(PathBuf::from("data"))
    }
}

/// The Matrix homeserver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Homeserver {
    /// Its name: the part of its users' names after the colon. Also the native server's name.
    pub server_name: String,
    /// Where its client-server API is, best without a proxy in between.
    pub address: String,
}

impl Default for Homeserver {
    fn default() -> Self {
        Self { server_name: String::new(), address: "http://127.0.0.1:8008".to_owned() }
    }
}

/// What the homeserver and the operator talk to: appservice API, admin API, health, metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Appservice {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the homeserver finds it; goes into the registration.
    pub address: String,
    /// The registration file; relative to the configuration file's folder.
    pub registration: PathBuf,
}

impl Default for Appservice {
    fn default() -> Self {
        Self {
            listen: loopback(29360),
            address: "http://127.0.0.1:29360".to_owned(),
            registration: PathBuf::from("registration.yaml"),
        }
    }
}

/// What native clients talk to: the native API and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Native {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the bridge finds it: with `run --only bridge`, on the other host.
    pub address: String,
    /// Who may register an account: `closed`, `token` (those with `registration.token`), `open`.
    pub registration: RegistrationPolicy,
    /// Addresses or networks (`10.0.0.0/8`) of proxies whose `X-Forwarded-For` is believed. Without
    /// it, all who come through a proxy share one limit.
    pub trusted_proxies: Vec<String>,
    /// With which other servers groups are shared.
    pub servers: Servers,
    /// What is kept of what the bridge has read, so that a `bridge.db` that is put back from a backup
    /// loses nothing.
    pub keep_read: KeepRead,
    /// The longest that a message is kept, in seconds, where its group would keep it longer; 2,592,000,
    /// which is 30 days, at most.
    pub max_message_ttl_s: u32,
    /// How often messages that nobody fetched in time are looked for and dropped, in seconds.
    pub cleanup_interval_s: u32,
}

/// With which other servers this one speaks: those that `allow` covers and `deny` does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Servers {
    /// Servers by their names, `*` for any characters: `b.example`, `*.b.example`. Without any, none.
    pub allow: Vec<String>,
    /// Likewise.
    pub deny: Vec<String>,
    /// Whether what is for all of a group on three servers or more goes once, by a Matrix room of their
    /// agents, instead of once to each.
    pub relay_rooms: bool,
    /// MiB of what they acknowledged that are kept, sealed as it is, so that one that is put back from a backup
    /// is given it again; the oldest goes first. 0 keeps nothing.
    pub keep_mib: u32,
    /// MiB that are kept of the groups of one other server, which it orders: their ops, and who is in them. What is
    /// beyond that is refused.
    pub logs_mib: u32,
}

impl Default for Servers {
    fn default() -> Self {
        Self {
            allow: vec!["*".to_owned()],
            deny: Vec::new(),
            relay_rooms: true,
            keep_mib: 256,
            logs_mib: 1024,
        }
    }
}

/// How much is kept, whichever is less; 0 of either keeps nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeepRead {
    /// From the time on at which the bridge had it.
    pub hours: u32,
    /// Of what was said, sealed as it is.
    pub mib: u32,
}

impl Default for KeepRead {
    fn default() -> Self {
        Self { hours: 48, mib: 256 }
    }
}

impl Default for Native {
    fn default() -> Self {
        Self {
            listen: loopback(29361),
            address: "http://127.0.0.1:29361".to_owned(),
            registration: RegistrationPolicy::default(),
            trusted_proxies: Vec::new(),
            servers: Servers::default(),
            keep_read: KeepRead::default(),
            max_message_ttl_s: 2_592_000,
            cleanup_interval_s: 10,
        }
    }
}

/// Who may register a native account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationPolicy {
    /// Nobody but the bridge.
    Closed,
    /// Whoever has the registration token.
    #[default]
    Token,
    /// Everybody.
    Open,
}

/// What is written to standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as
    /// `info,causeway_bridge=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for Logging {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::default() }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

impl Config {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// [`WrongValue`] names the key and says what it should be.
    pub fn check(&self) -> Result<(), WrongValue> {
        let wrong = |key: &str, why: String| Err(WrongValue::new(key, why));
        let name = &self.homeserver.server_name;
        if name.is_empty() {
            let why = "it is not set; write what your users' names have after the colon, as in \
                       example.org";
            return wrong("homeserver.server_name", why.to_owned());
        }
        if !causeway_protocol::ids::is_server_name(name) {
            return wrong("homeserver.server_name", format!("`{name}` is not a server name"));
        }
        for (key, path) in [
            ("data_dir", &self.data_dir.0),
            ("appservice.registration", &self.appservice.registration),
        ] {
            if path.as_os_str().is_empty() {
                return wrong(key, "it is empty; write a path".to_owned());
            }
            if path.starts_with("~") {
                let why = format!(
                    "`{}` begins with `~`, which nothing here takes for a home folder; write that \
                     folder's path",
                    path.display()
                );
                return wrong(key, why);
            }
        }
        for (key, address) in [
            ("homeserver.address", &self.homeserver.address),
            ("appservice.address", &self.appservice.address),
            ("native.address", &self.native.address),
        ] {
            check_address(address).or_else(|why| wrong(key, why))?;
        }
        if self.appservice.listen == self.native.listen && self.native.listen.port() != 0 {
            return wrong("native.listen", "it is the same as appservice.listen".to_owned());
        }
        for proxy in &self.native.trusted_proxies {
            if proxy.parse::<causeway_server::Proxy>().is_err() {
                let why = format!("`{proxy}` is neither an address nor a network like 10.0.0.0/8");
                return wrong("native.trusted_proxies", why);
            }
        }
        self.other_servers()?;
        self.limits.check()?;
        self.terms()?;
        if self.native.cleanup_interval_s == 0 {
            return wrong("native.cleanup_interval_s", "it must be at least 1".to_owned());
        }
        if !(1..=2_592_000).contains(&self.native.max_message_ttl_s) {
            return wrong("native.max_message_ttl_s", "it must be 1 to 2592000".to_owned());
        }
        self.calls.check()?;
        level::check(&self.logging.level).or_else(|why| wrong("logging.level", why))?;
        Ok(())
    }

    /// `key`, with the file and line, the variable or the option that set it: for messages.
    pub fn key(&self, key: &str) -> String {
        self.origin.of(key)
    }

    /// Keys of which `other` says something else, in their order.
    pub fn changed(&self, other: &Self) -> Vec<String> {
        let all = |config: &Self| {
            serde_json::to_value(config).map(|tree| leaves(&tree)).unwrap_or_default()
        };
        let others = all(other);
        let differs = |(key, value): &(String, Json)| others.get(key) != Some(value);
        all(self).into_iter().filter(differs).map(|(key, _)| key).collect()
    }

    /// The registration, which is to be one for this server.
    ///
    /// # Errors
    /// [`RegistrationError`]
    pub fn registration(&self) -> Result<Registration, RegistrationError> {
        let (path, server_name) = (&self.appservice.registration, &self.homeserver.server_name);
        Registration::read_for(path, server_name, &self.key("homeserver.server_name"))
    }

    /// A file in `data_dir`.
    pub fn data_file(&self, name: &str) -> PathBuf {
        self.data_dir.0.join(name)
    }

    /// Takes relative paths as seen from `folder`.
    fn relative_to(&mut self, folder: &Path) {
        let own = [&mut self.data_dir.0, &mut self.appservice.registration];
        for path in own.into_iter().chain(self.calls.files()) {
            *path = folder.join(&*path);
        }
    }

    /// The JSON schema of the file.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

/// The values of a tree that are no sections, by their keys with dots.
fn leaves(tree: &Json) -> BTreeMap<String, Json> {
    let Json::Object(section) = tree else { return BTreeMap::new() };
    let below = |(key, value): (&String, &Json)| match value {
        Json::Object(_) => {
            leaves(value).into_iter().map(|(rest, leaf)| (format!("{key}.{rest}"), leaf)).collect()
        }
        leaf => vec![(key.clone(), leaf.clone())],
    };
    section.iter().flat_map(below).collect()
}

fn check_address(address: &str) -> Result<(), String> {
    if address.trim().is_empty() {
        return Err("it is empty; write http:// or https://, and a host".to_owned());
    }
    let url = Url::parse(address)
        .map_err(|_| format!("`{address}` is no address: write http:// or https://, and a host"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{address}` begins neither with http:// nor with https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not shown: a password has no place in here, nor in an error.
        return Err("it holds a user name or a password".to_owned());
    }
    // Paths are put behind it.
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{address}` has `?` or `#` in it; write nothing behind the host"));
    }
    Ok(())
}

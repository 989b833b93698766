//! The registration: what a homeserver must be told of this application service.
//!
//! ruma's own `Registration` lacks fields that matter here (`io.element.msc4190`), so this is a
//! struct of ours that keeps what it does not know.

pub mod homeserver;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use causeway_store::small_file::{self, ReadError};
use serde::{Deserialize, Serialize};

use crate::{secret::Secret, yaml::fault};

/// What every ghost's localpart begins with.
pub const GHOST_PREFIX: &str = causeway_protocol::ghost::PREFIX;
/// Localpart of the bot, an ordinary user of the namespace.
pub const BOT: &str = "causewaybot";
/// Localpart of every server's agent, who speaks with other servers. Homeservers give a name with a `_`
/// before it to application services alone.
pub const AGENT: &str = "_causeway";
/// What every portal's alias begins with.
pub const ALIAS_PREFIX: &str = "causeway_";

/// The registration file, YAML (spec v1.17, Application Service API, "Registration").
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Registration {
    /// Unique among the homeserver's application services: Synapse refuses to start with two.
    pub id: String,
    /// Where the homeserver finds us.
    pub url: String,
    /// With it we call the homeserver.
    #[serde(serialize_with = "Secret::serialize")]
    pub as_token: Secret,
    /// With it the homeserver calls us.
    #[serde(serialize_with = "Secret::serialize")]
    pub hs_token: Secret,
    /// Random and unused: this user cannot `/sync` on Synapse, so the bot is another one.
    pub sender_localpart: String,
    /// Whether the homeserver limits our rate; it should not. Synapse does where nothing is said.
    #[serde(default = "limited")]
    pub rate_limited: bool,
    /// Whether typing and receipts are pushed.
    #[serde(default)]
    pub receive_ephemeral: bool,
    /// Devices without a login (MSC4190).
    #[serde(default, rename = "io.element.msc4190")]
    pub msc4190: bool,
    /// Third-party protocols: none.
    #[serde(default)]
    pub protocols: Vec<String>,
    /// Which names are ours.
    pub namespaces: Namespaces,
    /// What other versions or other tools wrote.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

const fn limited() -> bool {
    true
}

/// Names that are ours.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Namespaces {
    /// Ghosts and the bot.
    #[serde(default)]
    pub users: Vec<Namespace>,
    /// Portals.
    #[serde(default)]
    pub aliases: Vec<Namespace>,
    /// None.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<Namespace>,
}

/// Names that match a pattern.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Namespace {
    /// Whether nobody else may have such a name.
    pub exclusive: bool,
    /// Regular expression over the whole name.
    pub regex: String,
}

/// The random parts of a registration.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// Suffix of the id and of `sender_localpart`, eight hex digits.
    pub suffix: String,
    /// With it we call the homeserver.
    pub as_token: Secret,
    /// With it the homeserver calls us.
    pub hs_token: Secret,
}

impl Tokens {
    /// New ones.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut suffix = [0_u8; 4];
        getrandom::fill(&mut suffix)?;
        Ok(Self {
            suffix: hex::encode(suffix),
            as_token: Secret::random()?,
            hs_token: Secret::random()?,
        })
    }

    /// Placeholders for the example in the repository; a homeserver would take them, so they say
    /// what they are.
    fn placeholders() -> Self {
        Self {
            suffix: "00000000".to_owned(),
            as_token: Secret::new("replace-with-a-random-as-token"),
            hs_token: Secret::new("replace-with-a-random-hs-token"),
        }
    }
}

/// Why a registration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The file, and why.
    #[error(
        "{} cannot be read: {}. That is appservice.registration; {}",
        .0.display(),
        .1,
        .1.remedy().unwrap_or("`causeway init` makes one")
    )]
    Unreadable(PathBuf, ReadError),
    /// Not YAML, or a field is missing or empty: where, and what.
    #[error(
        "{0}: the registration is not what it should be: {1}. Put back the one that the homeserver \
         has; or make it anew with `causeway registration --new-tokens`, copy that to the \
         homeserver, and restart it"
    )]
    Malformed(String, String),
    /// Our ghosts or our bot would be strangers to the homeserver.
    #[error(transparent)]
    NotCovered(#[from] Box<NotCovered>),
}

/// A registration that is for another server, or for other names.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is the registration for {server}, and {key} is {wanted}: it does not claim {missing}. Right is \
     what the homeserver's users have after the colon. Write that in homeserver.server_name; if it is \
     there already, write the registration anew with `causeway registration`, copy it to the \
     homeserver, and restart that",
    path.display()
)]
pub struct NotCovered {
    path: PathBuf,
    server: String,
    key: String,
    wanted: String,
    missing: String,
}

impl Registration {
    /// The registration of a Causeway at `url` for the homeserver `server_name`.
    pub fn new(server_name: &str, url: &str, tokens: Tokens) -> Self {
        let server = escaped(server_name);
        let ours = |regex: String| Namespace { exclusive: true, regex };
        Self {
            id: format!("causeway-{}", tokens.suffix),
            url: url.to_owned(),
            as_token: tokens.as_token,
            hs_token: tokens.hs_token,
            sender_localpart: format!("causeway-sender-{}", tokens.suffix),
            rate_limited: false,
            receive_ephemeral: true,
            msc4190: true,
            protocols: Vec::new(),
            namespaces: Namespaces {
                users: vec![
                    ours(format!("@{GHOST_PREFIX}.+:{server}")),
                    ours(format!("@{BOT}:{server}")),
                    ours(format!("@{AGENT}:{server}")),
                ],
                aliases: vec![ours(format!("#{ALIAS_PREFIX}.+:{server}"))],
                rooms: Vec::new(),
            },
            extra: BTreeMap::new(),
        }
    }

    /// The example that stands in the repository as `appservice.yaml`.
    pub fn example() -> Self {
        Self::new("example.org", "http://127.0.0.1:29360", Tokens::placeholders())
    }

    /// The example's file, with what a reader should know of it.
    ///
    /// # Errors
    /// None that can happen.
    pub fn example_file() -> Result<String, RegistrationError> {
        Ok(format!(
            "# An example of what `causeway init` writes, with placeholders for the tokens.\n\
             # Made by `causeway registration --example`; do not edit.\n{}",
            Self::example().to_yaml()?
        ))
    }

    /// A registration for these names that keeps id, tokens and extras of `former`.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn anew(
        server_name: &str,
        url: &str,
        former: Option<&Self>,
    ) -> Result<Self, getrandom::Error> {
        let mut made = Self::new(server_name, url, Tokens::random()?);
        if let Some(former) = former {
            made.id.clone_from(&former.id);
            made.as_token = former.as_token.clone();
            made.hs_token = former.hs_token.clone();
            made.sender_localpart.clone_from(&former.sender_localpart);
            made.extra.clone_from(&former.extra);
        }
        Ok(made)
    }

    /// Reads a registration file.
    ///
    /// # Errors
    /// [`RegistrationError`]; the message never quotes a token.
    pub fn read(path: &Path) -> Result<Self, RegistrationError> {
        let text = small_file::read_text(path)
            .map_err(|error| RegistrationError::Unreadable(path.to_path_buf(), error))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a registration file, which is to be one for `server_name`; `key` is where that was set.
    ///
    /// # Errors
    /// [`RegistrationError`]; the message never quotes a token.
    pub fn read_for(path: &Path, server_name: &str, key: &str) -> Result<Self, RegistrationError> {
        let read = Self::read(path)?;
        read.check(path, server_name, key)?;
        Ok(read)
    }

    /// Reads a registration file's text.
    ///
    /// # Errors
    /// [`RegistrationError::Malformed`]; the message never quotes a token.
    pub fn from_yaml(text: &str) -> Result<Self, RegistrationError> {
        Self::parse(text, "its text")
    }

    fn parse(text: &str, place: &str) -> Result<Self, RegistrationError> {
        let options = serde_saphyr::options! { with_snippet: false };
        let read: Self = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let (place, why) = fault(place, &error);
            RegistrationError::Malformed(place, why)
        })?;
        match read.wanting() {
            Some(why) => Err(RegistrationError::Malformed(place.to_owned(), why)),
            None => Ok(read),
        }
    }

    /// What a field has not that it must have. Whoever sends no token has an empty one.
    fn wanting(&self) -> Option<String> {
        let (as_token, hs_token) = (self.as_token.expose(), self.hs_token.expose());
        let tokens = [("as_token", as_token), ("hs_token", hs_token)];
        let names = [("id", &*self.id), ("sender_localpart", &*self.sender_localpart)];
        let is_blank = |(_, text): &&(&str, &str)| text.trim().is_empty();
        if let Some((key, _)) = tokens.iter().find(is_blank) {
            return Some(format!("{key} is empty, and a random text belongs there"));
        }
        if as_token == hs_token {
            let why = "as_token and hs_token are the same, and each must be its own";
            return Some(why.to_owned());
        }
        if let Some((key, _)) = names.iter().find(is_blank) {
            return Some(format!("{key} is empty, and a name belongs there"));
        }
        // RFC 9110, 5.5: a header holds no other.
        let is_sent = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let (key, _) = tokens.iter().find(|(_, text)| !is_sent(text))?;
        Some(format!("{key} has a blank in it, or a letter outside ASCII; a token has neither"))
    }

    /// The text of the registration file.
    ///
    /// # Errors
    /// [`RegistrationError::Malformed`]: an extra field that YAML cannot hold.
    pub fn to_yaml(&self) -> Result<String, RegistrationError> {
        serde_saphyr::to_string(self)
            .map_err(|error| RegistrationError::Malformed("its text".to_owned(), error.to_string()))
    }

    /// Checks that the namespaces are those that Causeway makes for `server_name`: an exclusive
    /// claim on ghosts, bot and aliases. `path` is where it was read, `key` where the name was set.
    ///
    /// # Errors
    /// [`RegistrationError::NotCovered`] names what is missing.
    pub fn check(
        &self,
        path: &Path,
        server_name: &str,
        key: &str,
    ) -> Result<(), RegistrationError> {
        let wanted = Self::new(server_name, "", Tokens::placeholders()).namespaces;
        let pairs =
            [(&wanted.users, &self.namespaces.users), (&wanted.aliases, &self.namespaces.aliases)];
        for (wanted, has) in pairs {
            // Without its agent a server speaks with no other one, and does all else.
            for namespace in wanted.iter().filter(|wanted| !is_agent(wanted)) {
                let same = |other: &Namespace| {
                    other.exclusive && bare(&other.regex) == bare(&namespace.regex)
                };
                if !has.iter().any(same) {
                    if let Some(why) = fault_of(has, namespace) {
                        let place = path.display().to_string();
                        return Err(RegistrationError::Malformed(place, why));
                    }
                    return Err(RegistrationError::NotCovered(Box::new(NotCovered {
                        path: path.to_path_buf(),
                        server: self.server().unwrap_or_else(|| "no server".to_owned()),
                        key: key.to_owned(),
                        wanted: server_name.to_owned(),
                        missing: namespace.regex.clone(),
                    })));
                }
            }
        }
        Ok(())
    }

    /// Whether it claims the agent, by whom this server speaks with others.
    pub fn has_agent(&self) -> bool {
        self.namespaces.users.iter().any(is_agent)
    }

    /// The server that its users are of, as far as that can be told.
    fn server(&self) -> Option<String> {
        let regex = &self.namespaces.users.first()?.regex;
        let (_, server) = bare(regex).split_once(':')?;
        Some(server.replace('\\', ""))
    }
}

/// What is wrong with the claims themselves, where the server's name is not the fault.
fn fault_of(has: &[Namespace], wanted: &Namespace) -> Option<String> {
    if has.iter().any(|claim| bare(&claim.regex) == bare(&wanted.regex)) {
        return Some(format!(
            "its claim on {} says `exclusive: false`, and Causeway's names must be its own: \
             `exclusive: true` belongs there",
            wanted.regex
        ));
    }
    // A claim without a server is no pattern of ours, whoever it is for.
    let broken = has.iter().find(|claim| !claim.regex.contains(':'))?;
    Some(format!(
        "`regex: {}` covers no names of a server; `{}` belongs there",
        broken.regex, wanted.regex
    ))
}

fn is_agent(namespace: &Namespace) -> bool {
    namespace.exclusive && bare(&namespace.regex).starts_with(&format!("@{AGENT}:"))
}

/// `regex` without the anchors that some tools write.
fn bare(regex: &str) -> &str {
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    regex.strip_suffix('$').unwrap_or(regex)
}

/// `server_name` as a regular expression; it holds no other special character than the dot.
fn escaped(server_name: &str) -> String {
    server_name.replace('.', r"\.")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Registration;

    #[test]
    fn a_registration_is_read_as_it_was_written() {
        let mut made = Registration::example();
        made.extra.insert("org.example.later".to_owned(), serde_json::json!({"a": [1, true]}));
        let text = made.to_yaml().unwrap();
        let read = Registration::from_yaml(&text).unwrap();
        assert_eq!(read.to_yaml().unwrap(), text);
        assert_eq!(read.extra, made.extra);
        assert!(text.contains("io.element.msc4190: true"), "{text}");
    }

    #[test]
    fn a_registration_for_another_server_is_refused() {
        let path = Path::new("/c/registration.yaml");
        let check = |server| Registration::example().check(path, server, "the key");
        check("example.org").unwrap();
        let error = check("example.com").unwrap_err().to_string();
        let said = "/c/registration.yaml is the registration for example.org, and the key is example.com: ";
        assert!(error.starts_with(said), "{error}");
        let mut open = Registration::example();
        open.namespaces.users[0].exclusive = false;
        let error = open.check(path, "example.org", "the key").unwrap_err().to_string();
        assert!(error.contains("says `exclusive: false`"), "{error}");
        let mut broken = Registration::example();
        broken.namespaces.users[0].regex = "[".to_owned();
        let error = broken.check(path, "example.org", "the key").unwrap_err().to_string();
        assert!(error.contains("`regex: [` covers no names of a server; `@causeway_"), "{error}");
    }

    #[test]
    fn a_broken_registration_is_refused_without_its_tokens() {
        for text in ["", "as_token: canary\n", "as_token: [canary]\n", "as_token: canary\n\t-"] {
            let error = Registration::from_yaml(text).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn what_must_be_something_is_not_empty() {
        let text = Registration::example().to_yaml().unwrap();
        for (key, value, said) in [
            ("as_token", "''", "as_token is empty, and a random text belongs there"),
            ("hs_token", "' '", "hs_token is empty, and a random text belongs there"),
            ("hs_token", "'a canary'", "hs_token has a blank in it"),
            ("as_token", "canäry", "as_token has a blank in it, or a letter outside ASCII"),
            ("id", "''", "id is empty, and a name belongs there"),
            ("sender_localpart", "''", "sender_localpart is empty"),
        ] {
            let with = |line: &str| match line.strip_prefix(key) {
                Some(rest) if rest.starts_with(':') => format!("{key}: {value}\n"),
                _ => format!("{line}\n"),
            };
            let error = Registration::from_yaml(&text.lines().map(with).collect::<String>());
            let error = error.unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("can"), "{error}");
            assert!(error.contains("`causeway registration --new-tokens`"), "{error}");
        }
    }
}

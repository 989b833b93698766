//! Calls: how many talk directly, what carries bigger ones, and what helps devices to reach each other.

use std::path::PathBuf;

use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{check_address, error::WrongValue};

/// Below which the focus is, wherever a proxy has it.
const FOCUS_PATH: &str = "/livekit/jwt";

/// Calls in native groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Calls {
    /// How many devices talk directly to each other in a call, which is all that one can have where
    /// there is no LiveKit; 2 to 8. Each sends what it says to each of the others.
    pub mesh_max: u8,
    /// The server that carries bigger calls.
    pub livekit: LiveKit,
    /// What helps devices to reach each other directly.
    pub mesh: Mesh,
    /// Where clients of Matrix find what lets them into calls, as the homeserver tells them: a proxy
    /// leads `https://causeway.example.org/livekit/jwt` to `/livekit/jwt` at `appservice.listen`.
    pub focus_url: String,
    /// Whether homeservers and servers for calls that Matrix users of other homeservers name may be at
    /// addresses of this network, and without TLS: only where all of them are one's own.
    pub private_servers: bool,
    /// How a bridged room is told that natives call: `ring` has clients of Matrix ring, `notification` has
    /// them say it once, `none` neither.
    pub room_ring: RoomRing,
    /// Whether Matrix users get tokens for calls of rooms that are not bridged as well, where the bot is in
    /// the room and so can see that they are.
    pub other_rooms: bool,
}

/// How a bridged room is told that natives call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoomRing {
    /// Clients ring.
    #[default]
    Ring,
    /// They say it once.
    Notification,
    /// Only that there is a call is shown.
    None,
}

impl RoomRing {
    /// What the event says by which it does.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Self::Ring => Some("ring"),
            Self::Notification => Some("notification"),
            Self::None => None,
        }
    }
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            mesh_max: 4,
            livekit: LiveKit::default(),
            mesh: Mesh::default(),
            focus_url: String::new(),
            private_servers: false,
            room_ring: RoomRing::default(),
            other_rooms: false,
        }
    }
}

/// LiveKit, which carries calls that are too big for a mesh. All four keys, or none of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LiveKit {
    /// Where Causeway reaches it, without a path and best without a proxy: `http://127.0.0.1:7880`.
    pub api_url: String,
    /// Where clients reach it: `wss://livekit.example.org`.
    pub public_url: String,
    /// One of the `keys` in its configuration.
    pub api_key: String,
    /// A file that holds what belongs to that key; relative to the configuration file's folder.
    pub api_secret_file: PathBuf,
}

/// What helps devices to reach each other directly.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mesh {
    /// By which they learn under which address they are seen: `stun:stun.example.org:3478`. Whoever
    /// runs it learns who calls from where.
    pub stun: Vec<String>,
    /// What relays where there is no direct way.
    pub turn: Turn,
    /// Devices tell each other no address, and all goes through TURN.
    pub relay_only: bool,
}

/// TURN, with one of the two files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Turn {
    /// `turn:turn.example.org:3478`, `turns:turn.example.org:5349?transport=tcp`.
    pub urls: Vec<String>,
    /// A file with the secret that TURN makes credentials of (`static-auth-secret` of coturn); each
    /// device gets its own, for a day. Relative to the configuration file's folder.
    pub secret_file: PathBuf,
    /// The name under which all devices come, where there is no such secret.
    pub username: String,
    /// A file with the password of that name; relative to the configuration file's folder.
    pub password_file: PathBuf,
}

impl LiveKit {
    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        !self.api_url.is_empty()
    }

    fn check(&self) -> Result<(), WrongValue> {
        let wrong = |key: &str, why: &str| Err(WrongValue::new(key, why.to_owned()));
        let has_secret = !self.api_secret_file.as_os_str().is_empty();
        if !self.is_set() {
            let is_begun = has_secret || !self.public_url.is_empty() || !self.api_key.is_empty();
            let why = "it is not set; write where Causeway reaches LiveKit, as in \
                       http://127.0.0.1:7880, or leave out all of calls.livekit";
            return if is_begun { wrong("calls.livekit.api_url", why) } else { Ok(()) };
        }
        let api = "calls.livekit.api_url";
        check_address(&self.api_url).or_else(|why| wrong(api, &why))?;
        if Url::parse(&self.api_url).is_ok_and(|url| url.path() != "/") {
            return wrong(api, "it has a path, which LiveKit's library drops; write none");
        }
        let public = Url::parse(&self.public_url);
        let is_good = public.is_ok_and(|url| {
            let is_bare = url.username().is_empty() && url.password().is_none();
            matches!(url.scheme(), "ws" | "wss")
                && url.has_host()
                && is_bare
                && url.query().is_none()
        });
        if !is_good {
            let why = "write where clients reach LiveKit, as in wss://livekit.example.org";
            return wrong("calls.livekit.public_url", why);
        }
        if self.api_key.trim().is_empty() {
            let why = "it is not set; write one of the `keys` of LiveKit's configuration";
            return wrong("calls.livekit.api_key", why);
        }
        if !has_secret {
            let why = "it is not set; write the path of a file that holds the key's secret";
            return wrong("calls.livekit.api_secret_file", why);
        }
        Ok(())
    }
}

impl Mesh {
    fn check(&self) -> Result<(), WrongValue> {
        let wrong = |key: &str, why: String| Err(WrongValue::new(key, why));
        let begins = |text: &String, schemes: &[&str]| {
            schemes
                .iter()
                .any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
        };
        if let Some(text) = self.stun.iter().find(|text| !begins(text, &["stun:", "stuns:"])) {
            return wrong("calls.mesh.stun", format!("`{text}` does not begin with stun:"));
        }
        let turn = &self.turn;
        if let Some(text) = turn.urls.iter().find(|text| !begins(text, &["turn:", "turns:"])) {
            return wrong("calls.mesh.turn.urls", format!("`{text}` does not begin with turn:"));
        }
        let has = |path: &PathBuf| !path.as_os_str().is_empty();
        let (shared, fixed) = (has(&turn.secret_file), has(&turn.password_file));
        if turn.urls.is_empty() {
            return if self.relay_only {
                let why = "without calls.mesh.turn.urls nobody could be reached".to_owned();
                wrong("calls.mesh.relay_only", why)
            } else {
                Ok(())
            };
        }
        if shared == fixed || fixed == turn.username.is_empty() {
            let why = "write secret_file, or username with password_file".to_owned();
            return wrong("calls.mesh.turn.secret_file", why);
        }
        Ok(())
    }
}

impl Calls {
    pub(super) fn check(&self) -> Result<(), WrongValue> {
        if !(2..=8).contains(&self.mesh_max) {
            let why = "it must be 2 to 8".to_owned();
            return Err(WrongValue::new("calls.mesh_max", why));
        }
        self.livekit.check()?;
        self.mesh.check()?;
        // Clients compare it as a text: what is written in one way by all is written so here.
        let is_good = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.path() == FOCUS_PATH
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.as_str() == self.focus_url
        };
        if self.focus_url.is_empty() || Url::parse(&self.focus_url).as_ref().is_ok_and(is_good) {
            return Ok(());
        }
        let why = "write it as in https://causeway.example.org/livekit/jwt, with nothing after it";
        Err(WrongValue::new("calls.focus_url", why.to_owned()))
    }

    /// Files that are named, to be seen from the configuration's folder.
    pub(super) fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let turn = &mut self.mesh.turn;
        let all =
            [&mut self.livekit.api_secret_file, &mut turn.secret_file, &mut turn.password_file];
        all.into_iter().filter(|path| !path.as_os_str().is_empty())
    }
}

//! What the bridge does for whom, and with which other servers groups are shared.

use causeway_server::{OtherServers, ServerPattern};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, error::WrongValue};
use crate::domain::share::{Pattern, Terms};

/// Who may ask the bridge into a group, and for how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bridge {
    /// Accounts that may, each by its name, `*` for any characters: `ann`, `staff-*`,
    /// `*:b.example`. Without a server it is this one.
    pub allow: Vec<String>,
    /// Rooms that are made for one account in a day (UTC); 0: as many as it likes.
    pub rooms_per_day: u32,
    /// People who are invited for one account in a day (UTC); 0: as many as it likes.
    pub invites_per_day: u32,
}

impl Default for Bridge {
    fn default() -> Self {
        Self { allow: vec!["*".to_owned()], rooms_per_day: 10, invites_per_day: 50 }
    }
}

impl Config {
    /// What the bridge does for one account.
    ///
    /// # Errors
    /// [`WrongValue`]: a pattern that no account fits.
    pub fn terms(&self) -> Result<Terms, WrongValue> {
        let Bridge { allow, rooms_per_day, invites_per_day } = &self.bridge;
        let server = &self.homeserver.server_name;
        let parsed = allow.iter().map(|text| {
            Pattern::parse(text, server).ok_or_else(|| {
                let why = format!("`{text}` is no account, like `ann` or `staff-*:b.example`");
                WrongValue::new("bridge.allow", why)
            })
        });
        let most = |number: u32| (number > 0).then_some(number);
        Ok(Terms {
            allow: parsed.collect::<Result<_, _>>()?,
            rooms: most(*rooms_per_day),
            invites: most(*invites_per_day),
        })
    }

    /// With which other servers this one speaks.
    ///
    /// # Errors
    /// [`WrongValue`]: a pattern that no server fits.
    pub fn other_servers(&self) -> Result<OtherServers, WrongValue> {
        let parsed = |key: &'static str, texts: &[String]| {
            let parsed = texts.iter().map(|text| {
                text.parse::<ServerPattern>().map_err(|_| {
                    let why = format!("`{text}` is no server, like `b.example` or `*.b.example`");
                    WrongValue::new(key, why)
                })
            });
            parsed.collect::<Result<_, _>>()
        };
        let servers = &self.native.servers;
        Ok(OtherServers {
            allow: parsed("native.servers.allow", &servers.allow)?,
            deny: parsed("native.servers.deny", &servers.deny)?,
            relay_rooms: servers.relay_rooms,
            keep_bytes: u64::from(servers.keep_mib) << 20,
            log_bytes: u64::from(servers.logs_mib) << 20,
        })
    }
}

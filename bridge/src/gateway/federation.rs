//! Homeservers that a stranger named, where they listen to others (server-server API v1.16, "Resolving
//! server names").
//!
//! Addresses are found where they are connected to, and nowhere else: what a name leads to cannot change
//! between being looked at and being used.

mod listening;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use reqwest::Url;
use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;

use self::listening::Listening;
use super::public::{Public, PublicError};

/// Where servers listen to each other, unless they say otherwise.
const PORT: u16 = 8448;

/// Asks homeservers by their names. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Federation {
    /// Those that are named with their port or address, and `.well-known`.
    direct: Public,
    /// Those that are named without: made when the first is asked.
    by_name: Arc<OnceLock<Public>>,
}

#[derive(Deserialize)]
struct WellKnown {
    #[serde(rename = "m.server")]
    server: OwnedServerName,
}

impl Federation {
    /// Asks by the rules of `strangers`.
    pub(super) fn new(strangers: Public) -> Self {
        Self { direct: strangers, by_name: Arc::default() }
    }

    /// What `server` answers at `path`: its status, and what it says.
    ///
    /// # Errors
    /// [`PublicError`]
    pub(super) async fn get(
        &self,
        server: &ServerName,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<(u16, Vec<u8>), PublicError> {
        let named = self.named(server).await?;
        let private = || PublicError::Private(named.to_string());
        let mut url = address(&named, path).ok_or_else(private)?;
        url.query_pairs_mut().extend_pairs(query);
        if says_where(&named) {
            self.direct.get_as(url, named.as_str()).await
        } else {
            self.by_name()?.get(url).await
        }
    }

    /// What a server is named by itself.
    async fn named(&self, server: &ServerName) -> Result<OwnedServerName, PublicError> {
        if says_where(server) {
            return Ok(server.to_owned());
        }
        let said = match Url::parse(&format!("https://{server}/.well-known/matrix/server")) {
            Ok(url) => self.direct.get(url).await,
            Err(_) => Err(PublicError::Private(server.to_string())),
        };
        let said = match said {
            Ok((200, body)) => serde_json::from_slice(&body).ok(),
            Ok(_) | Err(PublicError::NoAnswer) => None,
            Err(private) => return Err(private),
        };
        Ok(said.map_or_else(|| server.to_owned(), |it: WellKnown| it.server))
    }

    fn by_name(&self) -> Result<&Public, PublicError> {
        if let Some(made) = self.by_name.get() {
            return Ok(made);
        }
        let private = self.direct.takes_private();
        let resolver = Arc::new(Listening::of_this_machine(private));
        let made = Public::by(resolver, private).map_err(|_| PublicError::NoAnswer)?;
        Ok(self.by_name.get_or_init(|| made))
    }
}

/// Whether a name needs nothing to be looked up but its addresses.
fn says_where(server: &ServerName) -> bool {
    server.port().is_some() || server.is_ip_literal()
}

/// Of a server that has said what it is named. Without a port it is [`Listening`] that knows which: so
/// certificate and `Host` are of the bare name, as the specification has it.
fn address(named: &ServerName, path: &str) -> Option<Url> {
    let host = named.host();
    let port = named.port().or_else(|| named.is_ip_literal().then_some(PORT));
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    Url::parse(&format!("https://{host}{port}/{path}")).ok()
}

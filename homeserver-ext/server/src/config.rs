//! What the server is told when it is opened; the binary reads it from wherever it keeps it.

mod calls;
mod others;

use std::{
    net::{AddrParseError, IpAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use causeway_protocol::{api::Registration, call::rules::MESH_MAX, envelope::MAX_TTL_MS};
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

pub use self::calls::{ApiSecret, LiveKit, Mesh, Turn, TurnCredentials};
pub use self::others::{NoServerPattern, OtherServers, ServerPattern};
use crate::quota::{AccountQuotas, EdgeLimits, GuestQuotas};

/// How a server is to be.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name: what stands after the colon in its accounts.
    pub server_name: String,
    /// `server.db`, where everything is kept.
    pub database: PathBuf,
    /// Who may register.
    pub registration: Registration,
    /// What opens registration under [`Registration::Token`].
    pub registration_token: Option<TokenHash>,
    /// What registers the account `bridge`, under every policy, and no other.
    pub bridge_registration_token: Option<TokenHash>,
    /// What the Matrix half of this installation shows at the door between servers; without it no other
    /// server is spoken with.
    pub relay_token: Option<TokenHash>,
    /// How long a client's request waits for another server.
    pub relay_patience: Duration,
    /// How long is gathered what other servers are told of how far messages came.
    pub relay_gathers: Duration,
    /// Which other servers are spoken with.
    pub others: OtherServers,
    /// How much an account may post, and add to groups and keys; this and the next two may be
    /// [changed](crate::App::set_limits) later.
    pub accounts: AccountQuotas,
    /// How much an address may ask for without a token.
    pub guests: GuestQuotas,
    /// What its listener bears.
    pub edge: EdgeLimits,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Proxies,
    /// One-time keys of one device that another may claim in an hour; then it gets the fallback key.
    pub claims_per_hour: u32,
    /// What is kept for the bridge that it has acknowledged.
    pub keep_read: KeepRead,
    /// Participants of a call that talk directly to each other: all that one can have where there is
    /// no server for bigger calls.
    pub mesh_max: usize,
    /// The server for bigger calls, if there is one.
    pub livekit: Option<LiveKit>,
    /// What helps devices to reach each other directly.
    pub mesh: Mesh,
    /// Messages are kept no longer, whatever their group says.
    pub max_message_ttl: Duration,
    /// How often overdue rows are looked for and dropped.
    pub cleanup_interval: Duration,
    /// The database was put back from a copy: for 30 days from now groups may name accounts of this
    /// server that it does not know, because it lost them.
    pub put_back: bool,
}

/// For how long, and how much, is kept of what the bridge's device has acknowledged, so that it can
/// be read again after its database was put back. Whichever is less; nothing where either is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepRead {
    /// From its acknowledgement on.
    pub time: Duration,
    /// Bytes of payload; what comes between two looks at it comes on top.
    pub max_bytes: u64,
}

impl Default for KeepRead {
    fn default() -> Self {
        Self { time: Duration::from_hours(48), max_bytes: 256 << 20 }
    }
}

impl KeepRead {
    pub(crate) const fn is_nothing(self) -> bool {
        self.time.is_zero() || self.max_bytes == 0
    }

    /// In milliseconds; 0 where nothing is kept.
    pub(crate) fn time_ms(self) -> u64 {
        if self.is_nothing() { 0 } else { u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX) }
    }
}

impl Config {
    /// A server of this name that keeps its rows in `database`, takes registrations by token and
    /// has no token yet.
    pub fn new(server_name: impl Into<String>, database: impl Into<PathBuf>) -> Self {
        Self {
            server_name: server_name.into(),
            database: database.into(),
            registration: Registration::Token,
            registration_token: None,
            bridge_registration_token: None,
            relay_token: None,
            relay_patience: Duration::from_secs(30),
            relay_gathers: Duration::from_secs(5),
            others: OtherServers::default(),
            accounts: AccountQuotas::default(),
            guests: GuestQuotas::default(),
            edge: EdgeLimits::default(),
            trusted_proxies: Proxies::default(),
            claims_per_hour: 20,
            keep_read: KeepRead::default(),
            mesh_max: MESH_MAX,
            livekit: None,
            mesh: Mesh::default(),
            max_message_ttl: Duration::from_millis(MAX_TTL_MS),
            cleanup_interval: Duration::from_secs(10),
            put_back: false,
        }
    }
}

/// SHA-256 of a token: enough to know it again, not enough to use it.
#[derive(Debug, Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token's text.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether `token` is the one; takes as long whatever it is.
    pub fn is(&self, token: &str) -> bool {
        self.0.ct_eq(&Self::of(token).0).into()
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The networks of proxies that say truly for whom they ask; none by default.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Vec<IpNet>);

/// An address, or a network such as 10.0.0.0/8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxy(IpNet);

impl FromStr for Proxy {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        match text.parse::<IpNet>() {
            Ok(net) => Ok(Self(net.trunc())),
            Err(_) => text.parse::<IpAddr>().map(IpNet::from).map(Self),
        }
    }
}

impl FromIterator<Proxy> for Proxies {
    fn from_iter<I: IntoIterator<Item = Proxy>>(proxies: I) -> Self {
        Self(proxies.into_iter().map(|Proxy(net)| net).collect())
    }
}

impl Proxies {
    /// Whether the proxy at `address` is believed.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address.to_canonical()))
    }

    /// For whom `peer` asks, if it names whom it asks for, the nearest first: the first who is no
    /// trusted proxy, since whoever stands behind that one may be made up.
    pub(crate) fn client(&self, peer: IpAddr, forwarded: impl Iterator<Item = IpAddr>) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut forwarded = forwarded;
        while self.trusts(client) {
            let Some(address) = forwarded.next() else { break };
            client = address.to_canonical();
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Proxies, Proxy};

    #[test]
    fn only_trusted_proxies_say_for_whom_they_ask() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let proxies: Proxies = ["127.0.0.1", "10.1.2.3/8", "::1"]
            .map(|text| text.parse::<Proxy>().unwrap())
            .into_iter()
            .collect();
        for (peer, forwarded, client) in [
            ("192.0.2.9", vec!["198.51.100.1"], "192.0.2.9"),
            ("127.0.0.1", vec![], "127.0.0.1"),
            ("127.0.0.1", vec!["198.51.100.1"], "198.51.100.1"),
            ("::ffff:127.0.0.1", vec!["::ffff:198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", vec!["203.0.113.7", "198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", vec!["203.0.113.7", "198.51.100.1", "10.9.9.9"], "198.51.100.1"),
            ("127.0.0.1", vec!["10.0.0.1", "::1"], "10.0.0.1"),
        ] {
            let forwarded = forwarded.into_iter().rev().map(ip);
            assert_eq!(proxies.client(ip(peer), forwarded), ip(client), "{peer}");
        }
        assert!("10.0.0.0/33".parse::<Proxy>().is_err() && "proxy".parse::<Proxy>().is_err());
    }
}

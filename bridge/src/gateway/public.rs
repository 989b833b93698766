//! What is asked of servers that a stranger named: those of the open internet alone, by TLS.

use std::{net::IpAddr, sync::Arc, time::Duration};

use causeway_groups::public::{PublicOnly, is_public};
use reqwest::{Client, ClientBuilder, RequestBuilder, Url, dns::Resolve, header::HOST, redirect};
use serde_json::Value;

/// Longest that a stranger's server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest for all addresses of a server together, which are tried in turn.
const CONNECTING: Duration = Duration::from_secs(4);
/// Most that is read of its answer.
const MAX_ANSWER: usize = 64 << 10;

/// Why nothing came from there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicError {
    /// It is asked for in no way that is allowed.
    #[error("{0} is no server of the open internet")]
    Private(String),
    /// No connection, no answer in time, or one that is too long.
    #[error("no answer within {} s and {MAX_ANSWER} bytes", PATIENCE.as_secs())]
    NoAnswer,
}

/// Asks strangers' servers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Public {
    client: Client,
    /// Whether those of this network are asked too, and without TLS.
    private: bool,
}

impl Public {
    /// One without cookies, proxy and redirects; with `private` servers of this network are strangers' as
    /// well (`calls.private_servers`).
    ///
    /// # Errors
    /// The TLS library has no roots, or alike.
    pub fn new(private: bool) -> reqwest::Result<Self> {
        let client = builder(private);
        let client = if private { client } else { client.dns_resolver(Arc::new(PublicOnly)) };
        Ok(Self { client: client.build()?, private })
    }

    /// The same, which finds servers of names without a port where `resolver` says; that keeps this
    /// network's out itself.
    pub(super) fn by<R: Resolve + 'static>(
        resolver: Arc<R>,
        private: bool,
    ) -> reqwest::Result<Self> {
        let client = builder(private).dns_resolver(resolver).connect_timeout(CONNECTING);
        Ok(Self { client: client.build()?, private })
    }

    /// The same, where who has a certificate by `ca` is believed.
    #[cfg(test)]
    pub(super) fn trusting<R: Resolve + 'static>(
        resolver: Arc<R>,
        private: bool,
        ca: reqwest::Certificate,
    ) -> reqwest::Result<Self> {
        let client = builder(private).dns_resolver(resolver).tls_certs_only([ca]);
        Ok(Self { client: client.build()?, private })
    }

    /// Whether those of this network are asked too.
    pub(super) const fn takes_private(&self) -> bool {
        self.private
    }

    /// What is there: its status, and what it says.
    ///
    /// # Errors
    /// [`PublicError`]
    pub async fn get(&self, url: Url) -> Result<(u16, Vec<u8>), PublicError> {
        self.ask(self.client.get(url)).await
    }

    /// What is there for who calls it `host`.
    ///
    /// # Errors
    /// [`PublicError`]
    pub(super) async fn get_as(&self, url: Url, host: &str) -> Result<(u16, Vec<u8>), PublicError> {
        self.ask(self.client.get(url).header(HOST, host)).await
    }

    /// What it answers to this: its status, and what it says.
    ///
    /// # Errors
    /// [`PublicError`]
    pub async fn post(&self, url: Url, body: &Value) -> Result<(u16, Vec<u8>), PublicError> {
        self.ask(self.client.post(url).json(body)).await
    }

    async fn ask(&self, request: RequestBuilder) -> Result<(u16, Vec<u8>), PublicError> {
        let request = request.build().map_err(|_| PublicError::NoAnswer)?;
        let url = request.url();
        if !self.private && !may_be_asked(url) {
            return Err(PublicError::Private(url.host_str().unwrap_or_default().to_owned()));
        }
        let answer = self.client.execute(request).await;
        let mut answer = answer.map_err(|_| PublicError::NoAnswer)?;
        let (status, mut body) = (answer.status().as_u16(), Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(|_| PublicError::NoAnswer)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(PublicError::NoAnswer);
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body))
    }
}

/// HTTP/1.1, in which a server may be called by another name than it is reached by.
fn builder(private: bool) -> ClientBuilder {
    let client = Client::builder().redirect(redirect::Policy::none()).timeout(PATIENCE);
    client.no_proxy().http1_only().https_only(!private)
}

/// Names are looked at when they are resolved.
fn may_be_asked(url: &Url) -> bool {
    let literal = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let is_bare = url.username().is_empty() && url.password().is_none();
    let may = url.host_str().is_some_and(|host| literal(host).is_none_or(is_public));
    url.scheme() == "https" && is_bare && may
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses that are not everybody's, in the forms in which an address may be written.
    const PRIVATE: &str = "127.0.0.1 127.1 127.0.1 127.255.255.254 2130706433 0x7f000001 0x7f.1 \
        0x7F.0.0.1 017700000001 0177.0.0.1 0177.1 127.0.0.1. 0 0.0.0.0 0x0 0.1.2.3 10.0.0.1 10.1 \
        0xa.1 012.0.0.1 167772161 10.255.255.255 172.16.0.1 172.31.255.255 2886729729 192.168.0.1 \
        192.168.1 0xc0.0xa8.0.1 3232235521 192.168.255.255 169.254.169.254 169.254.43518 \
        2852039166 0xa9fea9fe 0251.0376.0251.0376 100.64.0.1 100.127.255.255 192.0.0.8 192.0.2.1 \
        192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 \
        240.0.0.1 255.255.255.255 [::1] [::] [0:0:0:0:0:0:0:1] [::ffff:127.0.0.1] [::ffff:7f00:1] \
        [::ffff:10.0.0.1] [::ffff:169.254.169.254] [::127.0.0.1] [::7f00:1] [64:ff9b::7f00:1] \
        [64:ff9b::a9fe:a9fe] [2002:7f00:1::] [2002:a00:1::1] [2001:0:7f00:1::1] [2001:db8::1] \
        [3fff::1] [fc00::1] [fd12:3456::1] [fe80::1] [febf::1] [fec0::1] [ff02::1]";

    #[test]
    fn no_way_to_write_a_private_address_is_asked() {
        let forms: Vec<_> = PRIVATE.split_whitespace().collect();
        assert!(forms.len() >= 60, "{}", forms.len());
        for host in forms {
            for port in ["", ":8448"] {
                if let Ok(url) = Url::parse(&format!("https://{host}{port}/")) {
                    assert!(!may_be_asked(&url), "{url}");
                }
            }
        }
        for url in ["http://example.org/", "https://u:p@example.org/", "ftp://example.org/"] {
            assert!(!may_be_asked(&Url::parse(url).unwrap()), "{url}");
        }
        for url in ["https://example.org/", "https://1.1.1.1:8448/", "https://[2606:4700::1]/"] {
            assert!(may_be_asked(&Url::parse(url).unwrap()), "{url}");
        }
    }
}

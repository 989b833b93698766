//! Which addresses may be connected to because a stranger named them: those of the open internet, by
//! TLS, so that nobody reaches by us what only this machine can.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};

/// Longest that a stranger's server may take.
const PATIENCE: Duration = Duration::from_secs(5);
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
pub struct Public(Client);

impl Public {
    /// One without cookies, proxy and redirects.
    ///
    /// # Errors
    /// The TLS library has no roots, or alike.
    pub fn new() -> reqwest::Result<Self> {
        let client = Client::builder()
            .https_only(true)
            .redirect(redirect::Policy::none())
            .timeout(PATIENCE)
            .no_proxy()
            .dns_resolver(Arc::new(PublicOnly))
            .build()?;
        Ok(Self(client))
    }

    /// What is there: its status, and what it says.
    ///
    /// # Errors
    /// [`PublicError`]
    pub async fn get(&self, url: Url) -> Result<(u16, Vec<u8>), PublicError> {
        if !may_be_asked(&url) {
            return Err(PublicError::Private(url.host_str().unwrap_or_default().to_owned()));
        }
        let answer = self.0.get(url).send().await;
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

/// Names are looked at when they are resolved.
fn may_be_asked(url: &Url) -> bool {
    let literal = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let is_bare = url.username().is_empty() && url.password().is_none();
    let may = url.host_str().is_some_and(|host| literal(host).is_none_or(is_public));
    url.scheme() == "https" && is_bare && may
}

/// Resolves names to addresses of everybody alone: what a name leads to is looked at where it is
/// connected to, and not before.
#[derive(Debug)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let all = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = all.filter(|at| is_public(at.ip())).collect();
            if public.is_empty() {
                return Err("the name has no address that is everybody's".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// IANA's registry of special-purpose addresses (RFC 6890), but for anycast ones.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = match a {
        0 | 10 | 127 | 224..=255 => true,
        100 => b & 0xc0 == 64,
        169 => b == 254,
        172 => b & 0xf0 == 16,
        192 => b == 168 || (b == 0 && (c == 0 || c == 2)) || (b == 88 && c == 99),
        198 => b & 0xfe == 18 || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        _ => false,
    };
    !special
}

/// Global unicast, without what leads to IPv4 by another way, and documentation.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let embeds_v4 = a == 0x2002 || (a == 0x2001 && b == 0);
    let special = (a == 0x2001 && (b < 0x200 || b == 0x0db8)) || a == 0x3fff;
    a & 0xe000 == 0x2000 && !embeds_v4 && !special
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

    #[tokio::test]
    async fn a_name_that_leads_here_is_not_asked() {
        for name in ["localhost", "a.localhost"] {
            assert!(PublicOnly.resolve(name.parse().unwrap()).await.is_err(), "{name}");
        }
    }
}

//! Which addresses may be connected to because somebody else named them.
//!
//! A server that carries calls and belongs to no one of this home is named by who takes part: what
//! it is asked for must not reach what only this machine can.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Bytes of a URL.
const URL_MAX: usize = 2048;

/// Whose a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Of this device's home, which says in its own answers where it is: any address.
    Home,
    /// Of another server: TLS, and addresses that are everybody's.
    Foreign,
}

/// The URL of the server for HTTP, with a path that ends in a slash; `None` where it is not one to
/// be connected to.
pub(super) fn base(url: &str, whose: Whose) -> Option<Url> {
    if url.len() > URL_MAX {
        return None;
    }
    let (scheme, rest) = url.split_once("://")?;
    let scheme = match (scheme, whose) {
        ("wss" | "https", _) => "https",
        ("ws" | "http", Whose::Home) => "http",
        _ => return None,
    };
    let url = Url::parse(&format!("{scheme}://{}/", rest.trim_end_matches('/'))).ok()?;
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    // Names are looked at when they are resolved.
    let literal = url.host_str()?.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let may = whose == Whose::Home || literal.is_none_or(|ip| is_public(&ip));
    (is_plain && may).then_some(url)
}

/// Resolves names to addresses of everybody alone.
pub(super) struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let all = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = all.filter(|at| is_public(&at.ip())).collect();
            if public.is_empty() {
                return Err("the name has no address that is everybody's".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

pub(super) fn resolver(whose: Whose) -> Option<Arc<PublicOnly>> {
    (whose == Whose::Foreign).then(|| Arc::new(PublicOnly))
}

/// Whether an address is one of the open internet.
pub(super) fn is_public(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(*ip),
        IpAddr::V6(ip) => is_public_v6(*ip),
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

    #[test]
    fn a_foreign_server_is_reached_by_tls_and_at_everybodys_addresses() {
        let good = [
            "wss://sfu.example",
            "https://sfu.example/livekit/sfu/",
            "wss://1.1.1.1:7880",
            "wss://[2606:4700::1111]/",
        ];
        for url in good {
            assert!(base(url, Whose::Foreign).unwrap().path().ends_with('/'), "{url}");
        }
        let bad = [
            "ws://sfu.example",
            "http://sfu.example",
            "file:///etc",
            "sfu.example",
            "",
            "wss://",
            "wss://u:p@sfu.example",
            "wss://sfu.example/?a=b",
            "wss://sfu.example/#a",
            "wss://127.0.0.1",
            "wss://127.1",
            "wss://2130706433",
            "wss://0x7f.1",
            "wss://017700000001",
            "wss://10.0.0.1",
            "wss://172.16.0.1",
            "wss://172.31.255.255",
            "wss://192.168.0.1",
            "wss://169.254.169.254",
            "wss://100.64.0.1",
            "wss://0.0.0.0",
            "wss://224.0.0.1",
            "wss://255.255.255.255",
            "wss://198.18.0.1",
            "wss://192.0.2.1",
            "wss://[::1]",
            "wss://[::]",
            "wss://[fe80::1]",
            "wss://[fc00::1]",
            "wss://[ff02::1]",
            "wss://[::ffff:127.0.0.1]",
            "wss://[::ffff:10.0.0.1]",
            "wss://[64:ff9b::7f00:1]",
            "wss://[2002:7f00:1::]",
            "wss://[2001:0:1::]",
            "wss://[2001:db8::1]",
            "wss://[::7f00:1]",
        ];
        for url in bad {
            assert_eq!(base(url, Whose::Foreign), None, "{url}");
        }
        assert_eq!(base(&format!("wss://{}", "a".repeat(3000)), Whose::Foreign), None);
    }

    #[test]
    fn that_of_the_home_may_be_anywhere() {
        let url = base("ws://127.0.0.1:7880", Whose::Home).unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:7880/");
        let url = base("wss://localhost/livekit/sfu//", Whose::Home).unwrap();
        assert_eq!(url.as_str(), "https://localhost/livekit/sfu/");
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_not_one_of_everybodys() {
        assert!(PublicOnly.resolve("localhost".parse().unwrap()).await.is_err());
    }
}

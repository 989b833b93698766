//! Which addresses may be connected to because a stranger named them: those of the open internet, so
//! that nobody reaches by us what only this machine can.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves names to addresses of everybody alone: what a name leads to is looked at where it is
/// connected to, and not before.
#[derive(Debug)]
pub struct PublicOnly;

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

/// Whether an address is one of the open internet.
pub fn is_public(ip: IpAddr) -> bool {
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

    #[tokio::test]
    async fn a_name_that_leads_here_is_not_resolved() {
        for name in ["localhost", "a.localhost"] {
            assert!(PublicOnly.resolve(name.parse().unwrap()).await.is_err(), "{name}");
        }
    }
}

//! Which addresses may be connected to because somebody else named them.
//!
//! A server that carries calls and belongs to no one of this home is named by who takes part: what
//! it is asked for must not reach what only this machine can.

use std::{net::IpAddr, sync::Arc};

use reqwest::Url;

use crate::public::{PublicOnly, is_public};

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
    let may = whose == Whose::Home || literal.is_none_or(is_public);
    (is_plain && may).then_some(url)
}

pub(super) fn resolver(whose: Whose) -> Option<Arc<PublicOnly>> {
    (whose == Whose::Foreign).then(|| Arc::new(PublicOnly))
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
}

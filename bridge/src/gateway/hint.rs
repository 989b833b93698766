//! What is wrong with an address at which nobody answers as expected, as far as an error tells.

use reqwest::Url;

/// What `error`, met at `address`, probably means and what to do; `None` where it tells nothing.
pub fn hint(address: &str, error: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    let host = url.host_str().unwrap_or_default();
    let place = match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let has = |parts: &[&str]| {
        let error = error.to_lowercase();
        parts.iter().any(|part| error.contains(part))
    };
    let is_tls = url.scheme() == "https";
    Some(if has(&["dns error", "failed to lookup", "name or service not known"]) {
        format!("no address is known for the name {host}: is it spelled right, and known here?")
    } else if has(&["connection refused"]) {
        format!("nothing listens at {place}: is it running, and is that its port?")
    } else if is_tls && has(&["invalidcontenttype", "corrupt message", "wrong version"]) {
        format!("what listens at {place} speaks no TLS: write http:// instead of https://")
    } else if has(&["certificate", "unknownissuer", "notvalidforname"]) {
        format!("the certificate of {place} is not one that is trusted here for that name")
    } else if !is_tls && has(&["invalid http version", "message completed", "invalid http"]) {
        format!("what listens at {place} speaks no HTTP: does it want https:// ?")
    } else if has(&["timed out", "deadline has elapsed"]) {
        format!("{place} does not answer: is that the right address, and does a firewall allow it?")
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::hint;

    #[test]
    fn what_an_error_means_is_said() {
        let table = [
            ("http://hs.exmple", "dns error: failed to lookup", Some("the name hs.exmple")),
            (
                "http://h:8008",
                "tcp connect error: Connection refused (os error 111)",
                Some("h:8008"),
            ),
            ("https://h", "received corrupt message of type InvalidContentType", Some("http://")),
            ("https://h", "invalid peer certificate: UnknownIssuer", Some("h:443")),
            ("http://h:8448", "invalid HTTP version parsed", Some("https://")),
            ("http://h", "operation timed out", Some("firewall")),
            ("http://h", "something else", None),
            ("no address", "Connection refused", None),
        ];
        for (address, error, part) in table {
            let found = hint(address, error);
            assert_eq!(found.is_some(), part.is_some(), "{error}: {found:?}");
            assert!(found.unwrap_or_default().contains(part.unwrap_or_default()), "{error}");
        }
    }
}

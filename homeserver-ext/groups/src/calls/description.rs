//! Looks at what another device says of itself before any of it reaches the WebRTC library.
//!
//! Only what this client says of itself is let through: one section of sound, Opus, one SHA-256
//! fingerprint. That the rest of a description is well formed is the library's to say.

use std::net::IpAddr;

use super::signal::Refused;

/// Bytes of a description, and its lines: five times what ours have.
const SDP_MAX: usize = 16 * 1024;
const LINES_MAX: usize = 256;
/// Bytes of a candidate.
const CANDIDATE_MAX: usize = 512;

/// The SHA-256 of a device's certificate for one connection, in its text form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint(String);

/// What a description comes down to.
pub(super) struct Checked {
    pub(super) fingerprint: Fingerprint,
    /// By which this side's checks of paths name it; another in each offer.
    pub(super) ufrag: String,
    /// The description without its candidates.
    pub(super) sdp: String,
    /// Those that stood in it, checked.
    pub(super) candidates: Vec<String>,
}

/// Checks a description of another device.
pub(super) fn check(sdp: &str) -> Result<Checked, Refused> {
    if sdp.len() > SDP_MAX {
        return Err(Refused::TooLarge(sdp.len(), SDP_MAX));
    }
    if !sdp.starts_with("v=0") || sdp.lines().count() > LINES_MAX {
        return Err(Refused::Description);
    }
    let lines = || sdp.lines();
    if lines().any(|line| line.as_bytes().get(1) != Some(&b'=')) {
        return Err(Refused::Description);
    }
    let mut media = lines().filter(|line| line.starts_with("m="));
    let sound = media.next().is_some_and(|line| line.starts_with("m=audio "));
    let opus = values(sdp, "a=rtpmap:").all(|map| {
        map.split(' ').nth(1).is_some_and(|codec| codec.eq_ignore_ascii_case("opus/48000/2"))
    });
    // `a=crypto` would be keys for SRTP without DTLS.
    if !sound
        || media.next().is_some()
        || !opus
        || lines().any(|line| line.starts_with("a=crypto:"))
    {
        return Err(Refused::Media);
    }
    let fingerprint = fingerprint(sdp)?;
    for (name, least) in [("a=ice-ufrag:", 4), ("a=ice-pwd:", 22)] {
        if !values(sdp, name).all(|value| (least..=256).contains(&value.len()))
            || values(sdp, name).next().is_none()
        {
            return Err(Refused::Description);
        }
    }
    let candidates: Vec<_> = lines()
        .filter_map(|line| line.strip_prefix("a="))
        .filter(|line| line.starts_with("candidate:"))
        .collect();
    Ok(Checked {
        fingerprint,
        ufrag: ufrag(sdp).ok_or(Refused::Description)?.to_owned(),
        sdp: without_candidates(sdp),
        candidates: candidates.into_iter().map(candidate).collect::<Result<_, _>>()?,
    })
}

/// The first `ice-ufrag` of a description.
pub(super) fn ufrag(sdp: &str) -> Option<&str> {
    values(sdp, "a=ice-ufrag:").next()
}

/// `sdp` without candidates, which are told as they are found.
pub(super) fn without_candidates(sdp: &str) -> String {
    let stays =
        |line: &&str| !line.starts_with("a=candidate:") && !line.starts_with("a=end-of-candidates");
    sdp.lines().filter(stays).flat_map(|line| [line, "\r\n"]).collect()
}

/// Checks a candidate of another device: UDP, and an address of its own.
///
/// A name would be looked up, and TCP would have us open connections wherever others say.
pub(super) fn candidate(text: &str) -> Result<String, Refused> {
    let parts: Vec<_> =
        text.strip_prefix("candidate:").ok_or(Refused::Candidate)?.split(' ').collect();
    let [_, _, transport, _, address, port, typ, kind, ..] = parts.as_slice() else {
        return Err(Refused::Candidate);
    };
    let address: IpAddr = address.parse().map_err(|_| Refused::Candidate)?;
    let port: u16 = port.parse().map_err(|_| Refused::Candidate)?;
    let known = *typ == "typ" && ["host", "srflx", "prflx", "relay"].contains(kind);
    let reachable = port != 0 && !address.is_unspecified() && !address.is_multicast();
    let sound =
        text.len() <= CANDIDATE_MAX && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    (known && reachable && sound && transport.eq_ignore_ascii_case("udp"))
        .then(|| text.to_owned())
        .ok_or(Refused::Candidate)
}

/// One of our own candidates as others may see it; `None` for what they have no use for.
pub(super) fn own_candidate(text: &str, relay_only: bool) -> Option<String> {
    let parts: Vec<_> = text.split(' ').collect();
    let [_, _, transport, ..] = parts.as_slice() else { return None };
    if !transport.eq_ignore_ascii_case("udp") {
        return None;
    }
    if !relay_only {
        return Some(text.to_owned());
    }
    let is_relay = parts.windows(2).any(|pair| pair == ["typ", "relay"]);
    // The related address of a relayed one is this device's.
    let mut told = Vec::with_capacity(parts.len());
    let mut parts = parts.iter();
    while let Some(part) = parts.next() {
        told.push(*part);
        if let "raddr" | "rport" = *part {
            parts.next();
            told.push(if *part == "raddr" { "0.0.0.0" } else { "0" });
        }
    }
    is_relay.then(|| told.join(" "))
}

fn fingerprint(sdp: &str) -> Result<Fingerprint, Refused> {
    let mut all = values(sdp, "a=fingerprint:");
    let first = all.next().ok_or(Refused::Fingerprint)?;
    let digest = first.strip_prefix("sha-256 ").ok_or(Refused::Fingerprint)?;
    let is_byte =
        |pair: &str| pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
    if digest.split(':').count() != 32
        || !digest.split(':').all(is_byte)
        || all.any(|other| other != first)
    {
        return Err(Refused::Fingerprint);
    }
    Ok(Fingerprint(digest.to_ascii_uppercase()))
}

fn values<'a>(sdp: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    sdp.lines().filter_map(move |line| line.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> String {
        let print = ["AB"; 32].join(":");
        format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 {print}\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n\
             a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
             a=candidate:1 1 udp 1 192.0.2.7 9 typ host\r\n"
        )
    }

    #[test]
    fn a_description_of_one_opus_section_is_taken_and_its_candidates_apart() {
        let checked = check(&good()).unwrap();
        assert_eq!(checked.candidates, ["candidate:1 1 udp 1 192.0.2.7 9 typ host"]);
        assert!(!checked.sdp.contains("candidate") && checked.sdp.ends_with("8901\r\n"));
    }

    #[test]
    fn anything_else_in_a_description_is_refused() {
        let other = good().replace("AB:", "AC:");
        let cases = [
            (good() + &"a=x\r\n".repeat(5000), Refused::TooLarge(good().len() + 25_000, SDP_MAX)),
            (good() + &"a=x\r\n".repeat(300), Refused::Description),
            (good().replace("v=0", "v=1"), Refused::Description),
            (good() + "nonsense\r\n", Refused::Description),
            (good().replace("m=audio", "m=video"), Refused::Media),
            (good() + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", Refused::Media),
            (good().replace("opus/48000/2", "PCMU/8000"), Refused::Media),
            (good() + "a=rtpmap:96 VP8/90000\r\n", Refused::Media),
            (good() + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n", Refused::Media),
            (good().replace("sha-256", "sha-1"), Refused::Fingerprint),
            (good().replace("AB:AB", "AB"), Refused::Fingerprint),
            (good().replace("a=fingerprint", "a=nothing"), Refused::Fingerprint),
            (good() + other.lines().nth(4).unwrap(), Refused::Fingerprint),
            (good().replace("a=ice-pwd:0123456789", "a=ice-pwd:"), Refused::Description),
            (good().replace("a=ice-ufrag", "a=x"), Refused::Description),
            (good().replace("192.0.2.7", "evil.example"), Refused::Candidate),
        ];
        for (sdp, why) in cases {
            assert_eq!(check(&sdp).err(), Some(why), "{sdp}");
        }
    }

    #[test]
    fn only_addresses_for_udp_are_candidates() {
        assert!(
            candidate(
                "candidate:1 1 UDP 2130706431 2001:db8::1 40000 typ srflx raddr 0.0.0.0 rport 0"
            )
            .is_ok()
        );
        for text in [
            "candidate:1 1 tcp 1 192.0.2.7 9 typ host tcptype passive",
            "candidate:1 1 udp 1 0f3c.local 9 typ host",
            "candidate:1 1 udp 1 0.0.0.0 9 typ host",
            "candidate:1 1 udp 1 224.0.0.1 9 typ host",
            "candidate:1 1 udp 1 192.0.2.7 0 typ host",
            "candidate:1 1 udp 1 192.0.2.7 70000 typ host",
            "candidate:1 1 udp 1 192.0.2.7 9 typ nonsense",
            "candidate:1 1 udp 1 192.0.2.7 9 typ host\r\na=x",
            "1 1 udp 1 192.0.2.7 9 typ host",
            "candidate:",
        ] {
            assert_eq!(candidate(text), Err(Refused::Candidate), "{text}");
        }
        assert!(
            candidate(&format!("candidate:{} 1 udp 1 192.0.2.7 9 typ host", "1".repeat(600)))
                .is_err()
        );
    }

    #[test]
    fn relay_only_tells_no_address_of_this_device() {
        let host = "candidate:1 1 udp 1 192.0.2.7 9 typ host";
        let relay = "candidate:2 1 udp 1 198.51.100.1 9 typ relay raddr 192.0.2.7 rport 4000";
        assert_eq!(own_candidate(host, false).as_deref(), Some(host));
        assert_eq!(own_candidate(host, true), None);
        let told = "candidate:2 1 udp 1 198.51.100.1 9 typ relay raddr 0.0.0.0 rport 0";
        assert_eq!(own_candidate(relay, true).as_deref(), Some(told));
        assert_eq!(own_candidate("candidate:1 1 tcp 1 192.0.2.7 9 typ host", false), None);
    }
}
